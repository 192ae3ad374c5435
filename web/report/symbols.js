// Symbols of the equations as elements, and the axis of steps below a picture.

import { make } from "../shared/elements.js";

/** A symbol as an element: italic, with a subscript. "c_prev" is c with t−1. */
export function symbol(name) {
  const [letter, index] = PARTS[name] ?? [name, ""];
  const element = make("i", { class: "symbol" }, letter);
  if (index) element.append(make("sub", {}, index));
  return element;
}

const PARTS = {
  c_prev: ["c", "t−1"],
  c: ["c", "t"],
  h_prev: ["h", "t−1"],
  h: ["h", "t"],
  x: ["x", "t"],
  y: ["y", "t"],
  c_next: ["c", "t+1"],
  f_next: ["f", "t+1"],
  z_next: ["z", "t+1"],
  z_i: ["z", "i"],
  z_f: ["z", "f"],
  z_o: ["z", "o"],
  z_g: ["z", "g"],
};

/** The gradient on a symbol: dL/d… */
export function gradientOf(name) {
  return make("span", { class: "gradient" }, "d", make("i", { class: "symbol" }, "L"), "/d", symbol(name));
}

/** A symbol, or for a name with the prefix d_ the gradient on the symbol. */
export function labelled(name) {
  return name.startsWith("d_") ? gradientOf(name.slice(2)) : symbol(name);
}

/** The axis of steps: the first and the last step, or the phases of the copy task. */
export function stepAxis(context) {
  const { T, model } = context;
  const recall = context.payload.copy?.mode === "recall" && model.live;
  if (!recall) {
    return make(
      "div",
      { class: "axis" },
      make("span", {}, `step ${context.stepName(0)}`),
      make("span", {}, T > 1 ? context.stepName(T - 1) : ""),
    );
  }
  const phase = (steps, text) => make("span", { class: "part", style: `flex: ${steps} 0 0` }, text);
  return make("div", { class: "axis" }, phase((T - 1) / 2, "bits in"), phase(1, ""), phase((T - 1) / 2, "bits out"));
}
