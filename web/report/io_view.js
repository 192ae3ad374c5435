// Input and output: bits that can be flipped, or numbers that can be edited, with predictions and targets.

import { byId, make, on, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { predictions, hasTarget } from "./losses.js";
import { setBits } from "./lstm.js";
import { formatNumber } from "./number_text.js";
import { axisSpec } from "./symbols.js";

const MOST_FIELDS = 32; // features of a step with an input field
const MOST_LINES = 4;
const MOST_RANKED = 12; // of many classes, the most probable ones of a step
const MOST_BITS = 64;

export function ioView(context, actions) {
  const { copy } = context.payload;
  const view = copy && context.model.live ? bitsView(context, actions) : numbersView(context, actions);
  byId("copy-view").hidden = view.kind !== "bits";
  byId("numbers-view").hidden = view.kind !== "numbers";

  function data() {
    view.data();
    const { trace, model } = context;
    const { correct, count } = countCorrect(context);
    if (view.kind === "bits") setText(byId("title"), titleOf(context, correct, count));
    const every = (name, apply) => document.querySelectorAll(`.${name}`).forEach(apply);
    every("loss-field", (part) => (part.hidden = typeof trace.loss !== "number"));
    every("loss", (part) => setText(part, formatNumber(trace.loss)));
    every("loss-name", (part) => setText(part, (model.loss ?? "").replaceAll("_", " ")));
    every("right-field", (part) => (part.hidden = count === 0));
    every("right", (part) =>
      setText(part, `${correct} of ${count} ${correct === count ? "✓" : "✗"}`),
    );
  }

  return { ...view, data };
}

/** The title, which says how many bits are copied if some are wrong. */
function titleOf({ payload, bits }, correct, count) {
  return payload.title.replace(payload.copy.bits, correct < count ? `${correct} of ${count} bits of ${bits}` : bits);
}

/** Whether a prediction is correct; undefined without a target, and for real numbers. */
function isCorrect(context, t, k) {
  const { model, trace } = context;
  const { O } = model;
  if (!model.targets || !hasTarget(model, t, k)) return undefined;
  if (model.loss === "binary_cross_entropy") return trace.outputs[t * O + k] > 0 === model.targets[t * O + k] > 0.5;
  if (model.loss === "categorical_cross_entropy") return mostProbable(trace.outputs, t, O) === model.targets[t];
  return undefined;
}

function mostProbable(outputs, t, O) {
  let best = 0;
  for (let k = 1; k < O; k++) if (outputs[t * O + k] > outputs[t * O + best]) best = k;
  return best;
}

function countCorrect(context) {
  const columns = context.model.loss === "categorical_cross_entropy" ? 1 : context.model.O;
  const result = { count: 0, correct: 0 };
  for (let t = 0; t < context.T; t++) {
    for (let k = 0; k < columns; k++) {
      const correct = isCorrect(context, t, k);
      if (correct === undefined) continue;
      result.count++;
      if (correct) result.correct++;
    }
  }
  return result;
}

// ---- the copy task

function bitsView(context, { recompute, choose, announce }) {
  const { mode, bits_per_step: width } = context.payload.copy;
  const field = byId("bits-field");
  let items = [];
  const bits = () => context.bits;

  const applyBits = (text) => {
    setBits(context.model, text);
    recompute();
    const { correct, count } = countCorrect(context);
    announce(`Input ${text}: ${correct} of ${count} bits are predicted correctly.`);
  };

  on(field, "change", () => {
    const typed = field.value.replace(/[^01]/g, "").slice(0, MOST_BITS);
    const whole = typed.slice(0, typed.length - (typed.length % width));
    if (whole) applyBits(whole);
    else field.value = bits();
  });
  on(byId("bits-random"), "click", () => {
    applyBits(Array.from({ length: bits().length }, () => Math.round(Math.random())).join(""));
  });

  function data() {
    const text = bits();
    field.value = text;
    if (items.length !== text.length) items = build(text);
    const { model, trace } = context;
    const answers = predictions(model.loss, trace.outputs, context.T);
    const first = mode === "recall" ? text.length / width + 1 : 0;
    items.forEach(({ bit, output, probability, mark, item }, n) => {
      const [t, k] = [first + Math.floor(n / width), n % width];
      setText(bit, text[n]);
      bit.setAttribute("aria-label", `bit ${n}, input at step ${Math.floor(n / width)}: ${text[n]}. Press to flip it.`);
      bit.classList.toggle("one", text[n] === "1");
      const logit = trace.outputs[t * width + k];
      const correct = logit > 0 === (text[n] === "1");
      setText(output, logit > 0 ? "1" : "0");
      setText(probability, formatNumber(answers[t * width + k]));
      setText(mark, correct ? "✓" : "✗");
      mark.setAttribute("aria-label", correct ? "correct" : "wrong");
      item.classList.toggle("wrong", !correct);
      item.style.setProperty("--p", answers[t * width + k]);
    });
    markStep();
  }

  function build(text) {
    const first = mode === "recall" ? text.length / width + 1 : 0;
    const built = Array.from(text, (_, n) => {
      const [inputStep, outputStep] = [Math.floor(n / width), first + Math.floor(n / width)];
      const bit = make("button", {
        type: "button",
        class: "bit",
        "data-bit": n,
        onclick: () => applyBits(flipped(bits(), n)),
      });
      const output = make("b", { "data-output": n });
      const probability = make("span", { class: "number", "data-probability": n });
      const mark = make("span", { class: "mark", role: "img" });
      const steps = [inputStep, outputStep].map((step, index) =>
        make(
          "button",
          {
            type: "button",
            class: "step",
            "aria-label": `t ${step}: go to the step of the ${index ? "output" : "input"} of bit ${n}`,
            onclick: () => choose({ step }),
          },
          `t ${step}`,
        ),
      );
      const answer = make("div", { class: "answer" }, output, mark);
      const same = mode === "echo";
      const item = make(
        "li",
        { class: "pair" },
        steps[0],
        bit,
        make("span", { class: "down", "aria-hidden": "true" }, "↓"),
        answer,
        probability,
        ...(same ? [] : [steps[1]]),
      );
      return { item, bit, output, probability, mark, steps, at: [inputStep, outputStep] };
    });
    byId("pairs").replaceChildren(...built.map(({ item }) => item));
    return built;
  }

  function markStep() {
    for (const { steps, at } of items) {
      steps.forEach((button, index) => button.classList.toggle("now", at[index] === context.state.step));
    }
    const S = bits().length / width;
    const t = context.state.step;
    let phase = "the bit of this step is the input and the target";
    if (mode === "recall") {
      phase =
        t < S
          ? "a bit is the input"
          : t === S
            ? "the delimiter ends the input"
            : "the input is 0; the model recalls the bits";
    }
    setText(byId("phase"), `Step ${t}: ${phase}.`);
  }

  return { kind: "bits", data, step: markStep };
}

function flipped(bits, n) {
  return bits.slice(0, n) + (bits[n] === "1" ? "0" : "1") + bits.slice(n + 1);
}

// ---- any other task

function numbersView(context, { recompute, choose }) {
  const { input_names: inputNames, output_names: outputNames } = context.payload;
  const { I, O, live } = context.model;
  const chart = makeChart(byId("outputs-chart"), { label: "outputs", onStep: (step) => choose({ step }) });
  const fields = Array.from({ length: Math.min(I, MOST_FIELDS) }, (_, k) => {
    const input = make("input", {
      type: "number",
      step: "any",
      "data-input": k,
      readonly: !live,
      "aria-label": `input ${inputNames[k]} at the chosen step`,
    });
    on(input, "change", () => {
      if (Number.isFinite(input.valueAsNumber)) context.model.x[context.state.step * I + k] = input.valueAsNumber;
      recompute();
    });
    return input;
  });
  const list = make("div", { class: "fields" });
  fields.forEach((input, k) => list.append(make("label", {}, make("span", {}, inputNames[k] ?? `x${k}`), input)));
  byId("inputs").replaceChildren(list, ...omittedNote(I, "inputs"));
  byId("inputs-hint").hidden = !live;
  byId("inputs-part").hidden = Boolean(context.payload.embedded);
  const ranked = O > MOST_FIELDS && context.model.loss !== "squared_error" && context.payload.step_names.length > 0;
  const rows = Array.from({ length: Math.min(O, ranked ? MOST_RANKED : MOST_FIELDS) }, (_, k) => {
    const [output, target, mark] = [make("td", { "data-output": k }), make("td"), make("td", { class: "mark" })];
    const head = make("th", { scope: "row" }, outputNames[k] ?? `y${k}`);
    return { row: make("tr", {}, head, output, target, mark), head, output, target, mark };
  });
  byId("outputs").replaceChildren(...rows.map(({ row }) => row));
  const note = make("p", { class: "note" }, `The ${MOST_RANKED} most probable of ${O} outputs at this step.`);
  byId("outputs-more").replaceChildren(...(ranked ? [note] : omittedNote(O, "outputs")));

  function answers() {
    return predictions(context.model.loss, context.trace.outputs, context.T);
  }

  let shown = [];

  function data() {
    shown = answers();
    const { model, T } = context;
    if (ranked) return rankedChart();
    const series = Array.from({ length: Math.min(O, MOST_LINES) }, (_, k) => ({
      label: make("span", { class: "words" }, outputNames[k] ?? `y${k}`),
      values: Float64Array.from({ length: context.T }, (_, t) => shown[t * O + k]),
      style: [4, 6, 3, 5][k],
    }));
    if (model.targets && O <= 2 && model.loss !== "categorical_cross_entropy") {
      for (let k = 0; k < O; k++) {
        const values = Float64Array.from({ length: T }, (_, t) => targetOf(model, t, k) ?? NaN);
        series.push({
          label: make("span", { class: "words" }, `${outputNames[k] ?? `y${k}`}, target`),
          values,
          style: [2, 5][k],
        });
      }
    }
    chart.draw({ T, series, axis: axisSpec(context) });
  }

  /** Of many classes: the probability of the target, or of the most probable class. */
  function rankedChart() {
    const { model, T } = context;
    const label = model.targets ? "probability of the target" : "probability of the most probable output";
    const best = (t) => (model.targets ? model.targets[t] : mostProbable(shown, t, O));
    const values = Float64Array.from({ length: T }, (_, t) => shown[t * O + best(t)]);
    chart.draw({ T, series: [{ label: make("span", { class: "words" }, label), values, style: 4 }], axis: axisSpec(context) });
  }

  /** The outputs that the rows show at a step. */
  function outputsAt(t) {
    const all = Array.from({ length: O }, (_, k) => k);
    return ranked ? all.sort((a, b) => shown[t * O + b] - shown[t * O + a]).slice(0, rows.length) : all;
  }

  function step() {
    const t = context.state.step;
    const { model } = context;
    const outputs = outputsAt(t);
        fields.forEach((input, k) => {
      if (document.activeElement !== input || input.valueAsNumber !== model.x[t * I + k])
        input.value = String(Number(model.x[t * I + k].toPrecision(7)));
    });
    rows.forEach(({ head, output, target, mark }, n) => {
      const k = outputs[n];
      setText(head, outputNames[k] ?? `y${k}`);
      setText(output, formatNumber(shown[t * O + k]));
      const value = targetOf(model, t, k);
      setText(target, value === undefined ? "" : formatNumber(value));
      const otherClass = model.loss === "categorical_cross_entropy" && value !== 1;
      const correct = otherClass ? undefined : isCorrect(context, t, k);
      setText(mark, correct === undefined ? "" : correct ? "✓ correct" : "✗ wrong");
      mark.classList.toggle("wrong", correct === false);
    });
    chart.point(t);
  }

  return { kind: "numbers", data, step };
}

/** The target of an output at a step, or undefined. */
function targetOf(model, t, k) {
  if (!model.targets || !hasTarget(model, t, k)) return undefined;
  if (model.loss === "categorical_cross_entropy") return model.targets[t] === k ? 1 : 0;
  return model.targets[t * model.O + k];
}

function omittedNote(size, kind) {
  return size > MOST_FIELDS ? [make("p", { class: "note" }, `The first ${MOST_FIELDS} of ${size} ${kind}.`)] : [];
}
