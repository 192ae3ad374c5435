// Elements that the sections of training share: fields of options, and small maps of one input.

import { make, setText } from "../shared/elements.js";
import { colorOf, scaleOf } from "./colors.js";
import { KINDS } from "./training.js";

// By option: label, smallest and largest value, step.
const NUMBERS = {
  bits: ["bits", 1, 8, 1],
  units: ["units", 1, 64, 1],
  delay: ["delay in steps", 0, 100, 1],
  forgetBias: ["forget bias", -5, 10, 0.5],
  clip: ["clip gradients at", 0.01, 100, 0.01],
  learningRate: ["learning rate", 0.0001, 1, 0.0001],
  seed: ["seed", 1, 9999, 1],
  limit: ["updates", 0, 20000, 100],
};
// Units are sums and products of the gates; the colours of other symbols are those of these.
const LIKE = { r: "i", z: "i", n: "g" };

// By option: label, and texts of the values.
const LISTS = {
  kind: ["layer", KINDS],
  initial: ["initial weights", { orthogonal: "orthogonal", uniform: "uniform in ±1/√H" }],
};

/** A list of the values of an option. */
export function listField(prefix, option, value, changed) {
  const [text, values] = LISTS[option];
  const id = `${prefix}-${option}`;
  const items = Object.entries(values).map(([name, words]) => make("option", { value: name }, words));
  const select = make("select", { id, onchange: () => changed({ [option]: select.value }) }, ...items);
  select.value = value;
  return make("span", { class: "option" }, make("label", { for: id }, text), select);
}

/** A field of a number; a value that is not valid is replaced by the last valid one. */
export function numberField(prefix, option, value, changed) {
  const [text, min, max, step] = NUMBERS[option];
  const id = `${prefix}-${option}`;
  const input = make("input", { id, type: "number", min, max, step, value });
  let last = value;
  input.addEventListener("change", () => {
    const entered = input.valueAsNumber;
    const isWhole = step !== 1 || Number.isInteger(entered);
    if (Number.isFinite(entered) && entered >= min && entered <= max && isWhole) {
      last = entered;
      changed({ [option]: entered });
    } else input.value = last;
  });
  return make("span", { class: "option" }, make("label", { for: id }, text), input);
}

/** The bits of the input that is shown: 1 0 1 1, and so on. */
export function shownBits(count) {
  return "10110010".slice(0, count);
}

/** Whether each bit of an input is right, of logits (T). */
export function predictedBits(logits, count) {
  return Array.from(logits.subarray(logits.length - count), (logit) => (logit > 0 ? "1" : "0")).join("");
}

/** A map of units and steps: {figure, draw(values, {T, H, symbol, theme})}. */
export function smallMap(title) {
  const canvas = make("canvas", { role: "img" });
  const name = make("i", { class: "symbol" }, title);
  const caption = make("figcaption", {}, name);
  const figure = make("figure", { class: "map small" }, caption, make("div", { class: "plate" }, canvas));
  return {
    figure,
    draw(values, { T, H, symbol, theme, words }) {
      setText(name, symbol);
      canvas.setAttribute("aria-label", `${symbol} ${words}: ${H} units from top to bottom, ${T} steps from left to right.`);
      figure.style.setProperty("--rows", H);
      const scale = scaleOf(LIKE[symbol] ?? symbol, values);
      canvas.width = T;
      canvas.height = H;
      const pixels = new ImageData(T, H);
      for (let t = 0; t < T; t++) {
        for (let k = 0; k < H; k++) {
          const [red, green, blue] = colorOf(theme, scale, values[t * H + k]);
          pixels.data.set([red, green, blue, 255], 4 * (k * T + t));
        }
      }
      canvas.getContext("2d").putImageData(pixels, 0, 0);
    },
  };
}

/** A row of values over time that becomes longer: it is copied when it is full. */
export class Series {
  values = new Float64Array(256);
  length = 0;

  add(value) {
    if (this.length === this.values.length) {
      const longer = new Float64Array(2 * this.length);
      longer.set(this.values);
      this.values = longer;
    }
    this.values[this.length++] = value;
  }

  get filled() {
    return this.values.subarray(0, this.length);
  }
}

export function steps(first, last) {
  return make("div", { class: "axis" }, make("span", {}, first), make("span", {}, last));
}
