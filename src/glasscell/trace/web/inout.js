// What goes in and what comes out: bits that can be turned, or numbers that can be typed; the answers next to what is asked.

import { makeChart } from "./chart.js";
import { byId, make, setText, show, stepAxis } from "./dom.js";
import { presentBits } from "./lstm.js";
import { answersOf, counts } from "./losses.js";

const MOST_FIELDS = 32; // numbers of a step that are shown to be edited
const MOST_LINES = 4;
const MOST_BITS = 64;

export function inoutView(context, actions) {
  const { copy } = context.payload;
  const view = copy && context.model.live ? bitsView(context, actions) : numbersView(context, actions);
  byId("copy-part").hidden = view.kind !== "bits";
  byId("numbers-part").hidden = view.kind !== "numbers";

  function data() {
    view.data();
    const { trace, model } = context;
    const right = rightAnswers(context);
    const every = (name, apply) => document.querySelectorAll(`.${name}`).forEach(apply);
    every("loss-part", (part) => (part.hidden = typeof trace.loss !== "number"));
    every("loss", (part) => setText(part, show(trace.loss)));
    every("loss-name", (part) => setText(part, (model.loss ?? "").replaceAll("_", " ")));
    every("right-part", (part) => (part.hidden = right.asked === 0));
    every("right", (part) =>
      setText(part, `${right.right} of ${right.asked} ${right.right === right.asked ? "✓" : "✗"}`),
    );
  }

  return { ...view, data };
}

/** Whether an answer is right, asked for or not: undefined where there is nothing to compare, as with real numbers. */
function verdict(context, t, k) {
  const { model, trace } = context;
  const { O } = model;
  if (!model.targets || !counts(model, t, k)) return undefined;
  if (model.loss === "binary_cross_entropy") return trace.outputs[t * O + k] > 0 === model.targets[t * O + k] > 0.5;
  if (model.loss === "categorical_cross_entropy") return likeliest(trace.outputs, t, O) === model.targets[t];
  return undefined;
}

function likeliest(outputs, t, O) {
  let best = 0;
  for (let k = 1; k < O; k++) if (outputs[t * O + k] > outputs[t * O + best]) best = k;
  return best;
}

function rightAnswers(context) {
  const columns = context.model.loss === "categorical_cross_entropy" ? 1 : context.model.O;
  const count = { asked: 0, right: 0 };
  for (let t = 0; t < context.T; t++) {
    for (let k = 0; k < columns; k++) {
      const is = verdict(context, t, k);
      if (is === undefined) continue;
      count.asked++;
      if (is) count.right++;
    }
  }
  return count;
}

// ---- the copy task

function bitsView(context, { recompute, choose, announce }) {
  const { mode, bits_per_step: width } = context.payload.copy;
  const field = byId("bits-field");
  let items = [];
  const bits = () => context.model.bits ?? context.payload.copy.bits;

  const present = (text) => {
    presentBits(context.model, text);
    recompute();
    const { right, asked } = rightAnswers(context);
    announce(`The model is shown ${text}. ${right} of ${asked} bits come back right.`);
  };

  field.addEventListener("change", () => {
    const wanted = field.value.replace(/[^01]/g, "").slice(0, MOST_BITS);
    const whole = wanted.slice(0, wanted.length - (wanted.length % width));
    if (whole) present(whole);
    else field.value = bits();
  });
  byId("bits-random").addEventListener("click", () => {
    present(Array.from({ length: bits().length }, () => Math.round(Math.random())).join(""));
  });

  function data() {
    const text = bits();
    field.value = text;
    setText(byId("title"), context.payload.title.replace(context.payload.copy.bits, text));
    if (items.length !== text.length) items = build(text);
    const { model, trace } = context;
    const answers = answersOf(model.loss, trace.outputs, context.T);
    const first = mode === "recall" ? text.length / width + 1 : 0;
    items.forEach(({ bit, output, probability, mark, item }, n) => {
      const [t, k] = [first + Math.floor(n / width), n % width];
      setText(bit, text[n]);
      bit.setAttribute("aria-label", `bit ${n}, shown at step ${Math.floor(n / width)}: ${text[n]}. Press to turn it.`);
      bit.classList.toggle("one", text[n] === "1");
      const logit = trace.outputs[t * width + k];
      const is = logit > 0 === (text[n] === "1");
      setText(output, logit > 0 ? "1" : "0");
      setText(probability, show(answers[t * width + k]));
      setText(mark, is ? "✓" : "✗");
      mark.setAttribute("aria-label", is ? "right" : "wrong");
      item.classList.toggle("wrong", !is);
      item.style.setProperty("--p", answers[t * width + k]);
    });
    markStep();
  }

  function build(text) {
    const first = mode === "recall" ? text.length / width + 1 : 0;
    const built = Array.from(text, (_, n) => {
      const [shownAt, answeredAt] = [Math.floor(n / width), first + Math.floor(n / width)];
      const bit = make("button", {
        type: "button",
        class: "bit",
        "data-bit": n,
        onclick: () => present(turned(bits(), n)),
      });
      const output = make("b", { "data-output": n });
      const probability = make("span", { class: "number", "data-probability": n });
      const mark = make("span", { class: "mark", role: "img" });
      const steps = [shownAt, answeredAt].map((step, place) =>
        make(
          "button",
          {
            type: "button",
            class: "step",
            "aria-label": `go to step ${step}, where bit ${n} is ${place ? "answered" : "shown"}`,
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
      return { item, bit, output, probability, mark, steps, at: [shownAt, answeredAt] };
    });
    byId("pairs").replaceChildren(...built.map(({ item }) => item));
    return built;
  }

  function markStep() {
    for (const { steps, at } of items) {
      steps.forEach((button, place) => button.classList.toggle("now", at[place] === context.state.step));
    }
    const S = bits().length / width;
    const t = context.state.step;
    let phase = "The bit of this step goes in, and is to come out.";
    if (mode === "recall") {
      phase =
        t < S
          ? "a bit is shown"
          : t === S
            ? "the delimiter says: now give it back"
            : "silence goes in; the model answers from memory";
    }
    setText(byId("phase"), `Step ${t}: ${phase}.`.replace("..", "."));
  }

  return { kind: "bits", data, step: markStep };
}

function turned(bits, n) {
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
    input.addEventListener("change", () => {
      if (Number.isFinite(input.valueAsNumber)) context.model.x[context.state.step * I + k] = input.valueAsNumber;
      recompute();
    });
    return input;
  });
  const list = make("div", { class: "fields" });
  fields.forEach((input, k) => list.append(make("label", {}, make("span", {}, inputNames[k] ?? `x${k}`), input)));
  byId("inputs").replaceChildren(list, ...more(I, "inputs"));
  byId("inputs-hint").hidden = !live;
  const rows = Array.from({ length: Math.min(O, MOST_FIELDS) }, (_, k) => {
    const [output, wanted, mark] = [make("td", { "data-output": k }), make("td"), make("td", { class: "mark" })];
    return {
      row: make("tr", {}, make("th", { scope: "row" }, outputNames[k] ?? `y${k}`), output, wanted, mark),
      output,
      wanted,
      mark,
    };
  });
  byId("outputs").replaceChildren(...rows.map(({ row }) => row));
  byId("outputs-more").replaceChildren(...more(O, "outputs"));

  function answers() {
    return answersOf(context.model.loss, context.trace.outputs, context.T);
  }

  let shown = [];

  function data() {
    shown = answers();
    const series = Array.from({ length: Math.min(O, MOST_LINES) }, (_, k) => ({
      label: make("span", { class: "words" }, outputNames[k] ?? `y${k}`),
      values: Float64Array.from({ length: context.T }, (_, t) => shown[t * O + k]),
      style: [4, 6, 3, 5][k],
    }));
    const { model, T } = context;
    if (model.targets && O <= 2 && model.loss !== "categorical_cross_entropy") {
      for (let k = 0; k < O; k++) {
        const values = Float64Array.from({ length: T }, (_, t) => wantedOf(model, t, k) ?? NaN);
        series.push({
          label: make("span", { class: "words" }, `${outputNames[k] ?? `y${k}`}, as it should be`),
          values,
          style: [2, 5][k],
        });
      }
    }
    chart.draw({ T, series, axis: stepAxis(context) });
  }

  function step() {
    const t = context.state.step;
    const { model } = context;
    const of = (k) => wantedOf(model, t, k);
    fields.forEach((input, k) => {
      if (document.activeElement !== input || input.valueAsNumber !== model.x[t * I + k])
        input.value = String(Number(model.x[t * I + k].toPrecision(7)));
    });
    rows.forEach(({ output, wanted, mark }, k) => {
      setText(output, show(shown[t * O + k]));
      setText(wanted, of(k) === undefined ? "" : show(of(k)));
      const is = model.loss === "categorical_cross_entropy" && of(k) !== 1 ? undefined : verdict(context, t, k);
      setText(mark, is === undefined ? "" : is ? "✓ right" : "✗ wrong");
      mark.classList.toggle("wrong", is === false);
    });
    chart.point(t);
  }

  return { kind: "numbers", data, step };
}

/** What is asked of an output at a step, undefined if nothing is. */
function wantedOf(model, t, k) {
  if (!model.targets || !counts(model, t, k)) return undefined;
  if (model.loss === "categorical_cross_entropy") return model.targets[t] === k ? 1 : 0;
  return model.targets[t * model.O + k];
}

function more(size, what) {
  return size > MOST_FIELDS ? [make("p", { class: "note" }, `The first ${MOST_FIELDS} of ${size} ${what}.`)] : [];
}
