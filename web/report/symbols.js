// Symbols of the equations as elements, and the axis of steps below a picture: bits, and numbers of steps.

import { make, setText } from "../shared/elements.js";

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

const MOST_NAMES = 18; // of columns
const MOST_BITS = 60;

/** What is below a picture of steps: {columns, steps: [{name, bit}], delimiter}. */
export function axisSpec(context) {
  return context.cached("axis", () => computeAxis(context));
}

function computeAxis(context) {
  const { T, model, trace, payload, delimiter } = context;
  const bits = bitsOf(context);
  const steps = Array.from({ length: T }, (_, t) => {
    const bit = bits ? bits[t] : (payload.step_names?.[t] ?? "");
    return { name: String(model.steps ? model.steps[t] : t), bit };
  });
  return { columns: trace.T, steps, delimiter };
}

/** By step: the input bits, a bar for the delimiter, and the predicted bits of a copy task. */
function bitsOf({ payload, bits, T, trace, delimiter }) {
  if (!bits) return null;
  const width = payload.copy.bits_per_step;
  const texts = Array.from({ length: T }, (_, t) => bits.slice(t * width, (t + 1) * width));
  if (delimiter < 0) return texts;
  texts[delimiter] = "|";
  for (let t = delimiter + 1; t < T; t++) {
    texts[t] = Array.from(trace.outputs.subarray(t * width, (t + 1) * width), (y) => (y > 0 ? "1" : "0")).join("");
  }
  return texts;
}

/** The texts below the columns: [{column, text, line}]. Bits are in line 0, numbers in the last line. */
export function axisOf({ columns, steps }) {
  const longest = columns > MOST_BITS ? 0 : Math.max(0, ...steps.map(({ bit }) => [...(bit ?? "")].length));
  const hasBits = longest > 0 && longest * columns <= MOST_BITS;
  const every = [1, 2, 5].map((n) => n * 10 ** Math.floor(Math.log10(Math.max(1, columns / MOST_NAMES)))).find((n) => columns / n <= MOST_NAMES) ?? 10 ** Math.ceil(Math.log10(columns / MOST_NAMES));
  const bits = hasBits ? steps.map(({ bit }, column) => ({ column, text: bit, line: 0 })) : [];
  const line = hasBits ? 1 : 0;
  const count = Math.ceil(columns / every);
  const names = Array.from({ length: count }, (_, n) => ({ column: n * every, text: steps[n * every].name, line }));
  return [...bits, ...names];
}

/** Write an axis into an element. Texts at the same places are only changed, which needs no layout of the page. */
export function writeAxis(host, spec) {
  const texts = axisOf(spec);
  const places = `${spec.columns} ${texts.length}`;
  if (host.dataset.places === places) {
    const spans = host.firstChild.children;
    texts.forEach(({ text }, n) => setText(spans[n], text));
    return;
  }
  host.dataset.places = places;
  const lines = texts.some(({ line }) => line === 1) ? 2 : 1;
  host.replaceChildren(
    make(
      "div",
      { class: `axis lines-${lines}`, "aria-hidden": "true" },
      ...texts.map(({ column, text, line }) =>
        make("span", { class: `line-${line}`, style: `left: ${(100 * (column + 0.5)) / spec.columns}%` }, text),
      ),
    ),
  );
}
