// The section "Train a model": a small model learns the copy task in a worker, and its gates are shown while it does.

import { byId, make, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { formatBrief, formatPercent } from "./number_text.js";
import { nameOf } from "./quantity_names.js";
import { DEFAULTS, KINDS, SHOWN } from "./training.js";
import { listField, numberField, Series, shownBits, trainingAxis, trainingMap, updatesAxis } from "./training_parts.js";
import { connect } from "./worker.js";

const IMMEDIATE = ["learningRate", "clip"]; // options that a model in training takes over

export function liveTrainingView(context, { announce }) {
  const section = byId("live-training");
  const options = { ...DEFAULTS };
  let service = null;
  let report = null;
  let [losses, shares] = [new Series(), new Series()];
  let isRunning = false;
  let hasStarted = false;
  let maps = [];
  let isVisible = false;

  // ---- elements

  const finding = make("p", { class: "finding", id: "live-finding" });
  const start = make("button", { type: "button", id: "live-start", onclick: toggle }, "Start");
  const reset = make("button", { type: "button", id: "live-reset", onclick: restart }, "Reset");
  const field = (option) => numberField("live", option, options[option], set);
  const lossHost = make("div", { class: "chart low" });
  const shareHost = make("div", { class: "chart low" });
  const mapHost = make("div", { class: "maps" });
  const charts = make(
    "div",
    { class: "columns" },
    make("div", {}, make("h3", {}, "Loss of each update"), lossHost),
    make("div", {}, make("h3", {}, "Share of bits right, over all inputs"), shareHost),
  );
  section.setAttribute("aria-labelledby", "live-title");
  section.append(
    make("h2", { id: "live-title" }, "Train a model"),
    finding,
    make(
      "p",
      { class: "words" },
      "A new model learns to copy bits, here in this page: random inputs, the gradient of this page, and Adam. A delay between the input and the delimiter makes the task harder, even more so with random bits in it. Learning rate and clipping act at once; each other option begins a new model. Clipping scales a gradient down if its norm is larger than the limit. Orthogonal recurrent weights keep the norm of h; uniform ones are random numbers between −1/√H and 1/√H, for H units.",
    ),
    make(
      "div",
      { class: "options" },
      listField("live", "kind", options.kind, set),
      ...["bits", "units", "delay", "forgetBias"].map(field),
      ...["delayInputs", "initial"].map((option) => listField("live", option, options[option], set)),
      ...["learningRate", "clip"].map(field),
    ),
    make("div", { class: "fields" }, start, reset),
    charts,
    make("h3", {}, "The gates of one input"),
    make("p", { class: "words" }, "A row is a unit, a column a step. Below are the bits of the input, and the predictions."),
    mapHost,
  );
  section.hidden = false;
  const lossChart = makeChart(lossHost, { label: "loss" });
  const shareChart = makeChart(shareHost, { label: "share of bits right" });

  // ---- training

  function set(change) {
    Object.assign(options, change);
    if (service && IMMEDIATE.some((name) => name in change)) service.send({ set: change });
    else restart();
  }

  function begin() {
    service ??= connect("trainer", receive);
    service.send({ start: { ...options, shown: shownBits(options.bits) } });
  }

  function restart() {
    service?.close(); // it may be in a long update
    service = null;
    [losses, shares] = [new Series(), new Series()];
    report = null;
    hasStarted = false;
    setRunning(false);
    begin();
  }

  function toggle() {
    if (!service) begin();
    hasStarted = true;
    setRunning(!isRunning);
    service.send({ run: isRunning });
  }

  function setRunning(runs) {
    isRunning = runs;
    setText(start, runs ? "Pause" : hasStarted ? "Continue" : "Start");
  }

  function receive(message) {
    const wasRunning = isRunning;
    report = message;
    for (const loss of message.losses) losses.add(loss);
    for (const share of message.shares) shares.add(share);
    if (wasRunning && message.updates > 0 && !message.running) {
      setRunning(false);
      announce(sentence());
    }
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

  function sentence() {
    const name = KINDS[options.kind];
    if (!report) return `An untrained ${name} with ${options.units} units. Press Start.`;
    const inputs = 2 ** options.bits;
    const result = `${formatPercent(report.share)} of the bits of all ${inputs} inputs are right`;
    if (!report.updates) return `The untrained ${name} with ${options.units} units: ${result}. Press Start.`;
    const end = report.share === 1 ? "." : `; the loss is ${formatBrief(losses.values[losses.length - 1])}.`;
    return `${name}, after ${report.checked} updates in ${report.seconds.toFixed(1)} seconds: ${result}${end}`;
  }

  function draw() {
    setText(finding, sentence());
    const last = losses.length;
    charts.hidden = last < 2;
    if (last > 1) {
      const [axis, T] = [updatesAxis(last), last];
      lossChart.draw({ T, series: [{ label: "loss", values: losses.filled, style: 1 }], axis, log: true });
      shareChart.draw({
        T,
        series: [{ label: "bits right", values: shares.filled, style: 4 }],
        axis: axis.cloneNode(true),
        limits: [0, 1],
      });
      for (const chart of [lossChart, shareChart]) chart.point(last - 1);
    }
    if (report) drawMaps();
  }

  function drawMaps() {
    const { H, values, logits } = report.view;
    const symbols = SHOWN[options.kind].filter((symbol) => symbol in values);
    if (maps.length !== symbols.length) {
      maps = symbols.map(() => trainingMap("live-finding"));
      mapHost.replaceChildren(...maps.map(({ figure }) => figure));
    }
    const axis = trainingAxis(shownBits(options.bits), options.delay, logits);
    symbols.forEach((symbol, n) => {
      maps[n].draw(values[symbol], { H, symbol, axis, theme: context.theme, words: nameOf(symbol) });
    });
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
    if (service) requestDraw();
    else begin();
  }).observe(section);
  return { data };
}
