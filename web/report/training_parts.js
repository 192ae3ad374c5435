// Elements that the sections of training share: fields of options, and maps of one input.

import { make, on } from "../shared/elements.js";
import { scaleOf } from "./colors.js";
import { checkField } from "./field_error.js";
import { makeMap } from "./map_panel.js";
import { formatNumber } from "./number_text.js";
import { labelled } from "./symbols.js";
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
// The colours of symbols of the GRU are those of these.
const LIKE = { r: "i", z: "i", n: "g" };

// By option: label, and texts of the values.
const LISTS = {
  kind: ["layer", KINDS],
  delayInputs: ["inputs in the delay", { silent: "silence", random: "random bits to ignore" }],
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

/** A field of a number, with set(value); a value that is not valid has a message, and is replaced by the last valid one. */
export function numberField(prefix, option, value, changed) {
  const [text, min, max, step] = NUMBERS[option];
  const id = `${prefix}-${option}`;
  const input = make("input", { id, type: "number", min, max, step, value });
  let last = value;
  on(input, "change", () => {
    const entered = input.valueAsNumber;
    const isWhole = step !== 1 || Number.isInteger(entered);
    const rule = `${text} must be ${step === 1 ? "a whole number " : ""}from ${min} to ${max}`;
    if (checkField(input, Number.isFinite(entered) && entered >= min && entered <= max && isWhole, rule)) {
      last = entered;
      changed({ [option]: entered });
    } else input.value = last;
  });
  const field = make("span", { class: "option" }, make("label", { for: id }, text), input);
  field.set = (number) => (input.value = last = number);
  return field;
}

/** The bits of the input that is shown: 1 0 1 1, and so on. */
export function shownBits(count) {
  return "10110010".slice(0, count);
}

/** What is below a picture of the steps of an input: bits, a bar for the delimiter, and the predictions of logits (T). */
export function trainingAxis(bits, delay, logits) {
  const delimiter = bits.length + delay;
  const steps = Array.from(logits, (logit, t) => {
    const answer = t === delimiter ? "|" : t > delimiter ? String(Number(logit > 0)) : "";
    return { name: String(t), bit: bits[t] ?? answer };
  });
  return { columns: logits.length, steps, delimiter };
}

/** A map of units and steps: {figure, draw(values (T, H), {H, symbol, axis, theme, words})}. */
export function trainingMap(describedBy) {
  const panel = makeMap({ describedBy, name: (spec) => spec.symbol });
  for (const name of ["tabindex", "aria-roledescription"]) panel.canvas.removeAttribute(name);
  panel.canvas.setAttribute("role", "img");
  let drawn = "";
  return {
    figure: panel.figure,
    draw(values, { H, symbol, axis, theme, words }) {
      const spec = {
        ...axis,
        symbol: `${describedBy}-${symbol}`,
        theme,
        title: [labelled(symbol)],
        words,
        rows: H,
        at: (row, column) => values[column * H + row],
        scale: scaleOf(LIKE[symbol] ?? symbol, values),
        rowNames: Array.from({ length: H }, (_, k) => String(k)),
        rowTitle: "unit",
        label: `${symbol} ${words}: ${H} units from top to bottom, ${axis.columns} steps from left to right.`,
        read: (row, column) => `unit ${row}, step ${column}: ${formatNumber(values[column * H + row])}`,
      };
      const key = [theme, words, H, symbol, ...axis.steps.map(({ bit }) => bit)].join();
      if (key === drawn) return panel.repaint(spec);
      drawn = key;
      panel.draw(spec);
      panel.frame({ column: -1, row: -1 });
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

/** The axis of a chart of updates. */
export function updatesAxis(count) {
  return make("div", { class: "ends" }, make("span", {}, "update 1"), make("span", {}, `update ${count}`));
}
