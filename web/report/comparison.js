// The section "Two models": both train in workers on the same task, and their gradients over time are on one chart.

import { byId, make, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { decode } from "./lstm.js";
import { formatBrief, formatPercent } from "./number_text.js";
import { DEFAULTS, KINDS } from "./training.js";
import { listField, numberField, Series, shownBits, trainingAxis, trainingMap, updatesAxis } from "./training_parts.js";
import { connect } from "./worker.js";

// By name, what the two models do not share.
const NEW_PAIRS = {
  "LSTM and tanh RNN": [{ kind: "lstm" }, { kind: "rnn" }],
  "LSTM and GRU": [{ kind: "lstm" }, { kind: "gru" }],
  "GRU and tanh RNN": [{ kind: "gru" }, { kind: "rnn" }],
  "LSTM, untrained and trained": [{ limit: 0, name: "untrained" }, { name: "trained" }],
  "LSTM, two seeds": [
    { seed: 1, name: "seed 1" },
    { seed: 2, name: "seed 2" },
  ],
  "LSTM, forget bias 0 and 3": [
    { forgetBias: 0, name: "forget bias 0" },
    { forgetBias: 3, name: "forget bias 3" },
  ],
};
const THIS_MODEL = "the model of this report";
const STYLES = [4, 5];
const MOST_DECADES = 12;
const MOST_BITS = 8; // of the field
const GUESSES = 0.6; // share of bits right below which a model only guesses: chance is 0.5

export function comparisonView(context, { announce }) {
  const section = byId("comparison");
  const shared = { ...DEFAULTS, bits: 3, delay: 30, delayInputs: "random", forgetBias: 3, initial: "uniform", limit: 1000 };
  const pairs = { ...NEW_PAIRS, ...pairsWith(context.payload) };
  const ownCores = (navigator.hardwareConcurrency ?? 2) > 2; // for each model; otherwise one core stays for the page
  let sides = [];
  let isRunning = false;
  let hasStarted = false;
  let isVisible = false;
  let before = null; // the task that a pair with the model of the report has replaced

  // ---- elements

  const finding = make("p", { class: "finding", id: "compare-finding" });
  const pair = make(
    "select",
    { id: "compare-pair", onchange: choosePair },
    ...Object.keys(pairs).map((name) => make("option", { value: name }, name)),
  );
  const quantity = make(
    "select",
    { id: "compare-quantity", onchange: draw },
    make("option", { value: "state" }, "on c (LSTM) or h (others)"),
    make("option", { value: "hidden" }, "on h (all)"),
  );
  const start = make("button", { type: "button", id: "compare-start", onclick: toggle }, "Train both");
  const set = (change) => {
    Object.assign(shared, change);
    restart();
  };
  const fields = Object.fromEntries(
    ["bits", "units", "delay", "forgetBias", "limit"].map((option) => [option, numberField("compare", option, shared[option], set)]),
  );
  const [normHost, shareHost] = [make("div", { class: "chart" }), make("div", { class: "chart" })];
  const mapHost = make("div", { class: "columns" });
  section.setAttribute("aria-labelledby", "compare-title");
  section.append(
    make("h2", { id: "compare-title" }, "Two models"),
    finding,
    make(
      "p",
      { class: "words" },
      "Both models learn the same task: to keep the bits during a delay, in silence or while random bits arrive that they must ignore. The gradient of the loss flows back from the steps where bits are recalled, along the delay, to the steps where bits are written. Where its norm is nearly 0, the loss tells almost nothing about what should have been written there; whether the model learns all the same is measured when both are trained. The forget bias is that of LSTMs (and of the update gate of GRUs): with 0, the gradient of an LSTM can vanish as well. Below each picture are the bits, a bar for the delimiter, and the predictions; the curves of both models have question marks instead of predictions.",
    ),
    make(
      "div",
      { class: "options" },
      make("span", { class: "option" }, make("label", { for: "compare-pair" }, "models"), pair),
      ...Object.values(fields),
      ...["delayInputs", "initial"].map((option) => listField("compare", option, shared[option], set)),
    ),
    make("div", { class: "fields" }, start),
    make(
      "div",
      { class: "columns" },
      make(
        "div",
        {},
        make("h3", {}, "Norm of the gradient at each step, mean over all inputs"),
        make("div", { class: "fields" }, make("label", { for: "compare-quantity" }, "gradient"), quantity),
        normHost,
      ),
      make("div", {}, make("h3", {}, "Share of bits right, over all inputs"), shareHost),
    ),
    make("h3", {}, "The state for one input"),
    mapHost,
  );
  section.hidden = false;
  const normChart = makeChart(normHost, { label: "norm of the gradient" });
  const shareChart = makeChart(shareHost, { label: "share of bits right of both models" });

  // ---- training

  /** With the model of the report, the task is the one that it has learned until another one is set. */
  function choosePair() {
    const { task } = pairs[pair.value];
    const { bits, delay } = shared;
    if (task) before ??= { bits, delay };
    Object.assign(shared, task ?? before);
    if (!task) before = null;
    for (const option of ["bits", "delay"]) fields[option].set(shared[option]);
    restart();
  }

  function restart() {
    for (const { service } of sides) service.close();
    isRunning = hasStarted = false;
    let host = null;
    sides = pairs[pair.value].map((own) => {
      const side = { options: { ...shared, ...own }, shares: new Series(), report: null };
      side.name = own.name ?? KINDS[side.options.kind];
      side.map = trainingMap("compare-finding");
      side.caption = make("h4", {}, side.name);
      side.service = connect("trainer", (report) => receive(side, report), { host: ownCores ? null : host });
      ({ host } = side.service);
      const symbols = [stateOf(side)];
      side.service.send({ start: { ...side.options, shown: shownBits(shared.bits), symbols, norms: true } });
      return side;
    });
    mapHost.replaceChildren(...sides.map(({ caption, map }) => make("div", {}, caption, map.figure)));
    showButton();
  }

  function toggle() {
    if (!sides.length || areDone()) restart();
    isRunning = !isRunning;
    hasStarted = true;
    for (const { service, isDone } of sides) if (!isDone) service.send({ run: isRunning });
    showButton();
  }

  function areDone() {
    return sides.length > 0 && sides.every(({ isDone }) => isDone);
  }

  function showButton() {
    setText(start, isRunning ? "Pause" : areDone() ? "Train again" : hasStarted ? "Continue" : "Train both");
  }

  function receive(side, report) {
    side.report = { ...report, norms: report.norms ?? side.report?.norms };
    side.untrained ??= report.norms;
    for (const share of report.shares) side.shares.add(share);
    side.isDone = report.done;
    if (isRunning && areDone()) {
      isRunning = false;
      announce(sentence());
    }
    showButton();
    requestDraw();
  }

  // ---- views

  let waiting = 0;
  function requestDraw() {
    if (!isVisible) return;
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      draw();
    });
  }

  /** Before training: the largest norm where bits are written, divided by the largest norm where they are recalled. */
  function decay({ untrained }) {
    const norms = untrained[quantity.value];
    return Math.max(...norms.subarray(0, shared.bits)) / Math.max(...norms.subarray(shared.bits + shared.delay));
  }

  function sentence() {
    if (!sides.length || sides.some(({ report }) => !report?.norms)) return "Press Train both.";
    const share = sides.map(shareSentence);
    const factors = sides.map((side) => {
      const factor = decay(side);
      const state = side.options.weights ? ", as it is" : "";
      return `${formatBrief(factor)} (${side.name}${state}${factor < 0.01 ? ", it vanishes" : ""})`;
    });
    const gradient = `Before training, from the recall back to the bits, the norm of the gradient is multiplied by ${factors.join(" and ")}.`;
    const hint = hasStarted ? "" : " Press Train both.";
    return `${share.join(" ")} ${gradient}${hint}`;
  }

  /** What a model has learned, and whether it only guesses. */
  function shareSentence({ name, options, report, isDone }) {
    const share = `${name}: ${formatPercent(report.share)} of the bits are right`;
    if (!report.updates && !isDone) return `${share} before training.`;
    if (options.weights) return `${share[0].toUpperCase()}${share.slice(1)}.`;
    if (!isDone || !report.updates || report.share >= GUESSES) return `${share} after ${report.checked} updates.`;
    const inputs = shared.delayInputs === "random" ? `random bit${shared.delay === 1 ? "" : "s"} to ignore` : "silent steps of delay";
    const task = shared.delay ? `With ${shared.delay} ${inputs}` : "Without a delay";
    const subject = name === KINDS[options.kind] ? `the ${name}` : `the model “${name}”`;
    return `${task} ${subject} only guesses: ${formatPercent(report.share)} of the bits are right after ${report.checked} updates.`;
  }

  function draw() {
    setText(finding, sentence());
    if (!sides.length || sides.some(({ report }) => !report?.norms)) return;
    const bits = shownBits(shared.bits);
    const axes = sides.map(({ report }) => trainingAxis(bits, shared.delay, report.view.logits));
    const norms = sides.map(({ name, report }, n) => {
      return { label: name, values: report.norms[quantity.value], style: STYLES[n] };
    });
    const blank = axes[0].steps.map(({ name }, t) => ({ name, bit: t > axes[0].delimiter ? "?" : axes[0].steps[t].bit }));
    const axis = { ...axes[0], steps: blank };
    normChart.draw({ T: axis.columns, series: norms, log: true, limits: decades(norms), axis });
    normChart.point(0);
    drawShares();
    sides.forEach((side, n) => {
      const { name, report, map } = side;
      const symbol = stateOf(side);
      const { H, values } = report.view;
      map.draw(values[symbol], { H, symbol, axis: axes[n], theme: context.theme, words: `state of ${name}` });
    });
  }

  function drawShares() {
    const last = Math.max(...sides.map(({ shares }) => shares.length));
    shareHost.parentElement.hidden = last < 2;
    if (last < 2) return;
    const shares = sides.map(({ name, shares: { filled }, report, isDone }, n) => {
      const values = new Float64Array(last).fill(isDone ? report.share : NaN); // a model that is done stays as it is
      values.set(filled);
      return { label: name, values, style: STYLES[n] };
    });
    shareChart.draw({ T: last, series: shares, limits: [0, 1], axis: updatesAxis(last) });
    const common = sides.filter(({ isDone }) => !isDone).map(({ shares: { length } }) => Math.max(1, length));
    shareChart.point(Math.min(last, ...common) - 1);
  }

  let theme = "";
  function data() {
    if (theme === context.theme) return; // the section does not depend on the model of the page
    theme = context.theme;
    draw();
  }

  new IntersectionObserver((entries) => {
    isVisible = entries[entries.length - 1].isIntersecting;
    if (!isVisible) return;
    if (sides.length) requestDraw();
    else restart();
  }).observe(section);
  return { data };
}

function stateOf({ options }) {
  return options.kind === "lstm" ? "c" : "h";
}

/** Pairs of the model of a report and a new one, if the model copies one bit per step with layers of one direction. */
function pairsWith(payload) {
  const { copy, live } = payload;
  const isCopy = live && copy?.mode === "recall" && copy.bits_per_step === 1;
  if (!isCopy) return {};
  const { layers, readout, loss, I, O } = decode(payload);
  if (layers.some(({ directions }) => directions.length > 1 || directions[0].reverse)) return {};
  const weights = { layers, readout, loss, I, O };
  const own = { name: THIS_MODEL, kind: "lstm", weights, units: layers[layers.length - 1].directions[0].H, limit: 0 };
  const task = { bits: Math.min(MOST_BITS, copy.bits.length), delay: 0 };
  const pairWith = ([kind, name]) => [`${THIS_MODEL} and a new ${name}`, Object.assign([own, { kind }], { task })];
  return Object.fromEntries(Object.entries(KINDS).map(pairWith));
}

/** Exponents of ten below and above the norms. */
function decades(series) {
  const norms = series.flatMap(({ values }) => Array.from(values)).filter((norm) => norm > 0 && norm < Infinity);
  const high = Math.ceil(Math.log10(Math.max(...norms, 1e-99)));
  return [Math.min(high - 1, Math.max(high - MOST_DECADES, Math.floor(Math.log10(Math.min(...norms))))), high];
}
