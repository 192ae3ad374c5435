// Small helpers for the page: elements, numbers as text, the colour of a number.

const SVG = "http://www.w3.org/2000/svg";

/** An element: make("p", {class: "note"}, "text", child, …). */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Text is only written where it is another one: the browser then has nothing to lay out. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A number with four significant digits; what is not there is a dash. */
export function show(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(3) : value.toPrecision(4);
  return (value === 0 ? "0" : text).replaceAll("-", "−").replace("e+", "e");
}

/** A number in words of a sentence: two significant digits. */
export function brief(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return show(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replaceAll("-", "−").replace("e+", "e");
  return String(Number(value.toPrecision(2))).replace("-", "−");
}

/** The same with its sign, also if that is a plus. */
export function signed(value) {
  return value > 0 ? `+${brief(value)}` : brief(value);
}

export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "–";
}

/** A symbol as the page writes it: italic, with an index below it. "c_prev" is c with t−1. */
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
  c_next: ["c", "t+1"],
  f_next: ["f", "t+1"],
  z_next: ["z", "t+1"],
  z_i: ["z", "i"],
  z_f: ["z", "f"],
  z_o: ["z", "o"],
  z_g: ["z", "g"],
};

/** dL/d of a symbol. */
export function gradientOf(name) {
  return make("span", { class: "gradient" }, "d", make("i", { class: "symbol" }, "L"), "/d", symbol(name));
}

/** The symbol, or if the name begins with d_ the gradient on it. */
export function named(name) {
  return name.startsWith("d_") ? gradientOf(name.slice(2)) : symbol(name);
}

/** What lies below a picture whose columns are steps: where they begin and end, or the parts of the copy task. */
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
  const part = (steps, text) => make("span", { class: "part", style: `flex: ${steps} 0 0` }, text);
  return make("div", { class: "axis" }, part((T - 1) / 2, "bits in"), part(1, ""), part((T - 1) / 2, "bits out"));
}
