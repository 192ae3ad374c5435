// What the network does: three maps over many inputs, and the sentences at the head of the page.

import { byId, make, on, setText } from "../shared/elements.js";
import { differenceScale } from "./colors.js";
import { moveByKey } from "./heat_maps.js";
import { listen, makeMap } from "./map_panel.js";
import { formatBrief, formatNumber } from "./number_text.js";
import { bitSentence, dependencySentence, memorySentence, relaySentence } from "./story.js";
import { surveyCopies, surveySteps } from "./survey.js";
import { axisSpec } from "./symbols.js";
import { effortOf, writtenUnits } from "./relay.js";
import { connect } from "./worker.js";

const SLICE_MS = 8; // of computation between frames
const WAIT_MS = 120; // after a change, so that a slider that is dragged stays smooth
const DEPENDENCY = "dependency";
const MOST_EFFORT = 2e10; // multiplications of the patched runs of one bit, about 20 seconds

export function whatView(context, { choose, chooseBit, order, surveyed }) {
  const panels = Object.fromEntries(
    ["decodability", "held", "dependency", "jacobian"].map((name) => {
      const panel = makeMap({ describedBy: "what-finding", name: () => name });
      byId(`map-${name}`).replaceChildren(panel.figure);
      return [name, panel];
    }),
  );
  const list = byId("bit");
  on(list, "change", () => chooseBit(Number(list.value)));
  const isCopy = Boolean(context.bits);
  let found = null; // of the survey
  let relays = new Map(); // by bit
  let service = null;
  let key = "";
  let timer = 0;
  let isNewKey = false; // whether the step that follows belongs to the change of the key
  let busyUntil = 0; // while another step is chosen, nothing is computed here

  // ---- computation, in slices

  function data() {
    const isNew = keyOf() !== key;
    if (isNew) {
      const isFirst = key === "";
      key = keyOf();
      clearTimeout(timer);
      relays = new Map();
      context.survey = null;
      service?.send({ stop: true });
      document.documentElement.dataset.relayed = "";
      isNewKey = true;
      busyUntil = 0;
      if (context.model.live) timer = setTimeout(start, isFirst ? 0 : WAIT_MS);
      else summarise("These values are recorded: the page cannot run the model on other inputs.");
    } else if (found) draw();
  }

  /** What the maps depend on: of a copy task not on the input, except its length. */
  function keyOf() {
    const { layer, direction } = context.state;
    const input = isCopy ? context.bits.length : Array.from(context.model.x.subarray(0, 4096)).join();
    return `${context.fingerprint} ${layer} ${direction} ${input}`;
  }

  function start() {
    const { model, trace, bits, state } = context;
    setText(byId("what-note"), "The page computes these maps.");
    byId("what-note").hidden = !byId("what-maps").hidden;
    const steps = isCopy ? surveyCopies(model, bits, state) : surveySteps(model, trace);
    const of = key;
    const proceed = () => {
      if (of !== key) return;
      if (performance.now() < busyUntil) return (timer = setTimeout(proceed, WAIT_MS));
      const end = performance.now() + SLICE_MS;
      let result;
      do {
        result = steps.next();
        if (!result.done && result.value) announce(result.value);
      } while (!result.done && performance.now() < end);
      if (!result.done) timer = setTimeout(proceed, 0);
      else finish(result.value);
    };
    proceed();
  }

  /** Write the sentences: those of dependency are known before the maps, and the path of a bit after them. */
  function announce(first) {
    const { bit } = context.state;
    const relay = relays.get(bit) ?? null;
    const why = isTooLarge() ? "the model is too large for the page to measure which units carry it" : undefined;
    setText(byId("story"), bitSentence(bit, relay, first, (u) => context.unitName(u), why));
    setText(byId("relay-finding"), relaySentence(bit, relay));
    setText(byId("what-finding"), dependencySentence(first));
    document.documentElement.dataset.relayed = relay || why ? String(bit) : "";
  }

  function isTooLarge() {
    return effortOf(context.model, context.bits.length) > MOST_EFFORT;
  }

  /** Ask for the path of the chosen bit through the units, unless it is known. */
  function askForRelay() {
    const { model, state, bits, payload } = context;
    const { bit: k, layer, direction } = state;
    if (!isCopy || relays.has(k) || isTooLarge()) return;
    const { T, I, O, layers, readout, interventions } = model;
    const { copy, dtype } = payload;
    service ??= connect("relay", receive);
    const part = { live: true, T, I, O, layers, readout, interventions, bits, payload: { copy, dtype } };
    service.send({ id: `${k} ${key}`, model: part, place: { layer, direction, k } });
  }

  function receive({ id, relay }) {
    const [k] = id.split(" ", 1);
    if (id !== `${k} ${key}` || !found) return;
    relays.set(Number(k), relay);
    if (Number(k) === context.state.bit) announce(found);
    surveyed(true);
  }

  function finish(result) {
    found = result;
    drawn = "";
    byId("what-maps").hidden = !found;
    document.documentElement.dataset.surveyed = "true";
    if (!found) return summarise("This model is too large for the page to run it on other inputs.");
    context.survey = found;
    draw();
    surveyed(!isCopy || isTooLarge());
  }

  function summarise(reason) {
    found = null;
    byId("what-maps").hidden = true;
    setText(byId("what-note"), reason);
    byId("what-note").hidden = false;
    document.documentElement.dataset.surveyed = "true";
    const sentence = context.payload.live ? "" : memorySentence(context);
    setText(byId("story"), sentence);
    setText(byId("what-finding"), "");
  }

  // ---- the maps

  let drawn = ""; // what the maps display

  function draw() {
    const { state, theme, bits } = context;
    const of = `${key} ${theme} ${state.bit} ${order()}`;
    if (isCopy && of === drawn) {
      for (const panel of [panels.decodability, panels.held]) panel.setSteps(axisSpec(context).steps);
      for (const panel of [panels.dependency, panels.jacobian]) panel.setSteps(stepsOfBits(bits));
      return;
    }
    drawn = of;
    byId("what-note").hidden = true;
    if (isCopy) drawCopies();
    else drawSteps();
    step();
  }

  function drawCopies() {
    const { K, N, all } = found;
    const { state } = context;
    if (list.options.length !== K) list.replaceChildren(...Array.from({ length: K }, (_, k) => make("option", { value: k }, String(k))));
    list.value = String(state.bit);
    list.disabled = K === 1;
    const differences = differencesOf(found, state.bit);
    announce(found);
    askForRelay();
    const inputs = all ? `all ${N} inputs of ${K} bits` : `a fixed sample of ${N} inputs of ${K} bits`;
    setText(
      byId("what-source"),
      `Computed in this page from ${inputs}. A linear readout is a weighted sum of the cells, fitted on one half of them and ` +
        `scored on the other: R² is 1 where it gives the bit exactly, 0 where it does no better than the mean. ` +
        `E[c | 1] is the mean of c over the inputs whose bit is 1. Differences that could be chance are drawn as 0: of those ` +
        `drawn, about 5 % are expected to be chance (false discovery rate, Welch's t test over all bits, steps and units). ` +
        `A logit is an output before the logistic function: 0 is a probability of ½, 2.2 one of 0.9. ` +
        `The linear prediction is the mean over ${found.linearised} inputs.`,
    );
    panels.decodability.draw(decodabilitySpec());
    panels.held.draw(heldSpec(differences));
    panels.dependency.draw(dependencySpec(found.flips, "dependency", "mean change of the logit of a step (row) if a bit (column) is flipped"));
    panels.jacobian.draw(dependencySpec(found.jacobian, "jacobian", "the same change, as the derivative predicts it"));
    byId("map-jacobian").hidden = byId("map-held").hidden = byId("map-decodability").hidden = false;
  }

  function decodabilitySpec() {
    const { K, r2, layout } = found;
    const { T } = context;
    const values = r2.map((value) => (Number.isNaN(value) ? 0 : Math.max(0, value)));
    const marks = Array.from({ length: K }, (_, k) => k).flatMap((k) => [
      { row: k, column: layout.enters[k], kind: "enters", words: "the bit is the input" },
      { row: k, column: layout.isRead[k], kind: "reads", words: "the bit is the target" },
    ]);
    return {
      ...axisSpec(context),
      symbol: "decodability",
      theme: context.theme,
      title: ["Where each bit is in time"],
      words: "R² of a linear readout of the bit from the cells of a step",
      rows: K,
      columns: T,
      at: (row, column) => values[row * T + column],
      scale: { name: "share", low: 0, high: 1 },
      rowNames: Array.from({ length: K }, (_, k) => String(k)),
      rowTitle: "bit",
      marks,
      label: `R² of a linear readout of each of ${K} bits, from top to bottom, at ${T} steps from left to right.`,
      read: (row, column) => `bit ${row}, step ${column}: R² = ${formatNumber(r2[row * T + column])}`,
    };
  }

  function heldSpec({ difference, isSignificant, p }) {
    const { H, layout } = found;
    const { state, T } = context;
    const units = order();
    const { bit } = state;
    const shown = difference.map((value, n) => (isSignificant[n] ? value : 0));
    return {
      ...axisSpec(context),
      symbol: "held",
      theme: context.theme,
      title: [`Where bit ${state.bit} is held`],
      words: "E[c | 1] − E[c | 0]: mean cell state if the bit is 1, minus that if it is 0; 0 where not significant",
      rows: H,
      columns: T,
      at: (row, column) => shown[column * H + units[row]],
      scale: differenceScale(difference),
      rowNames: units.map((u) => context.unitName(u)),
      rowTitle: "unit",
      marks: [
        { row: -0.5, column: layout.enters[bit], kind: "enters", words: "the bit is the input" },
        { row: -0.5, column: layout.isRead[bit], kind: "reads", words: "the bit is the target" },
      ],
      label: `Mean difference of ${H} cell states, from top to bottom, between inputs with bit ${state.bit} 1 and 0, at ${T} steps from left to right. The arrow keys choose a step and a unit.`,
      read: (row, column) => {
        const n = column * H + units[row];
        return `unit ${context.unitName(units[row])}, step ${column}: ${formatNumber(difference[n])}, p = ${formatBrief(p[n])}${isSignificant[n] ? "" : ", not significant"}`;
      },
    };
  }

  function dependencySpec(values, symbol, words) {
    const { K, flips, jacobian, layout } = found;
    const most = Math.max(...flips, ...jacobian) || 1;
    const steps = stepsOfBits(context.bits);
    return {
      symbol,
      theme: context.theme,
      title: [symbol === DEPENDENCY ? "What each output depends on" : "Linear"],
      words,
      rows: K,
      columns: K,
      columnTitle: "bit",
      steps,
      at: (row, column) => values[row * K + column],
      scale: { name: "share", low: 0, high: most },
      rowNames: layout.isRead.map(String),
      rowTitle: "output",
      label: `${words}: the mean change of the logit of ${K} outputs, from top to bottom, for ${K} bits from left to right.`,
      read: (row, column) => `output at step ${layout.isRead[row]}, bit ${column}: ${formatNumber(values[row * K + column])}`,
    };
  }

  /** Of other models: outputs by inputs, linearised at the current input. */
  function drawSteps() {
    const { steps, every, norms, T } = found;
    const spec = axisSpec(context);
    const most = norms.reduce((a, b) => Math.max(a, b), 0) || 1;
    const last = norms.subarray(norms.length - T);
    const top = last.reduce((best, size, t) => (size > last[best] ? t : best), 0);
    const isCausal = context.directions.every(({ layer, direction }) => !context.model.layers[layer].directions[direction].reverse);
    const [memory] = memorySentence(context).split(/(?<=\.) (?=[A-Z0-9])/);
    setText(byId("story"), `The last output depends most on the input of step ${context.stepName(top)}. ${memory}`);
    setText(byId("what-finding"), isCausal ? reachSentence(reachOf(norms, steps, T)) : "");
    setText(
      byId("what-source"),
      `Linearised at this input: how much the outputs of a step change with the input of a step.${every > 1 ? ` One of ${every} output steps is shown.` : ""}`,
    );
    byId("map-jacobian").hidden = byId("map-held").hidden = byId("map-decodability").hidden = true;
    list.closest(".fields").hidden = true;
    panels.dependency.draw({
      ...spec,
      symbol: DEPENDENCY,
      theme: context.theme,
      title: ["What each output depends on"],
      words: "‖dy/dx‖, output step (row) by input step (column)",
      rows: steps.length,
      columns: T,
      at: (row, column) => norms[row * T + column],
      scale: { name: "share", low: 0, high: most },
      rowNames: steps.map((t) => String(t)),
      rowTitle: "output",
      label: `Norms of the derivatives of the outputs of ${steps.length} steps, from top to bottom, by the inputs of ${T} steps from left to right.`,
      read: (row, column) => `output at step ${context.stepName(steps[row])}, input at step ${context.stepName(column)}: ${formatNumber(norms[row * T + column])}`,
    });
  }

  // ---- the selection

  listen(
    panels.decodability,
    ({ row, column }) => {
      choose({ step: column });
      chooseBit(row);
    },
    (key_) => {
      const move = { ArrowUp: -1, ArrowDown: 1 }[key_];
      if (move) chooseBit(Math.max(0, Math.min(found.K - 1, context.state.bit + move)));
      return move || moveByKey(key_, context, choose, order);
    },
  );
  listen(
    panels.held,
    ({ row, column }) => choose({ step: column, unit: order()[row] }),
    (key_) => moveByKey(key_, context, choose, order),
  );
  for (const panel of [panels.dependency, panels.jacobian]) {
    listen(
      panel,
      ({ row, column }) => {
        choose({ step: isCopy ? found.layout.isRead[row] : found.steps[row] });
        if (isCopy) chooseBit(column);
      },
      (key_) => moveByKey(key_, context, choose, order),
    );
  }

  function step() {
    if (!found) {
      if (!isNewKey) busyUntil = performance.now() + WAIT_MS;
      isNewKey = false;
      return;
    }
    const { state } = context;
    if (!isCopy) return panels.dependency.frame({ row: found.steps.indexOf(state.step), column: -1 });
    if (found.layout.K !== context.bits.length || !panels.held.spec) return;
    const { K, H, r2, layout } = found;
    panels.decodability.frame({ row: state.bit, column: state.step });
    setText(panels.decodability.value, formatNumber(r2[state.bit * context.T + state.step]));
    panels.held.frame({ row: order().indexOf(state.unit), column: state.step });
    const row = layout.isRead.indexOf(state.step);
    for (const [panel, values] of [
      [panels.dependency, found.flips],
      [panels.jacobian, found.jacobian],
    ]) {
      panel.frame({ row, column: state.bit });
      setText(panel.value, row < 0 ? "" : formatNumber(values[row * K + state.bit]));
    }
    const held = panels.held.spec.at(order().indexOf(state.unit), state.step);
    setText(panels.held.value, H ? formatNumber(held) : "");
  }

  /** The units into which the chosen bit is written. */
  function story() {
    const relay = relays.get(context.state.bit);
    return relay ? { written: writtenUnits(relay) } : null;
  }

  return { data, step, story };
}

function stepsOfBits(bits) {
  return Array.from(bits, (bit, k) => ({ bit, name: String(k) }));
}

/** The differences (T, H) of one bit. */
function differencesOf({ difference, p, isSignificant, T, H }, k) {
  const of = (values) => values.subarray(k * T * H, (k + 1) * T * H);
  return { difference: of(difference), p: of(p), isSignificant: of(isSignificant) };
}

function reachSentence(reach) {
  if (reach === 0) return "Half of the outputs depend mostly on the input of the same step.";
  const last = reach === 1 ? "step before" : `${reach} steps before`;
  return `On average, half of the dependency of an output is on its step and the ${last}.`;
}

/** The number of steps before an output that have half of its dependency, the median over outputs. */
function reachOf(norms, steps, T) {
  const reaches = steps.map((t, row) => {
    const squares = norms.subarray(row * T, (row + 1) * T).map((n) => n * n);
    const total = squares.reduce((a, b) => a + b, 0);
    let sum = 0;
    for (let back = 0; back <= t; back++) {
      sum += squares[t - back];
      if (sum >= total / 2) return back;
    }
    return 0;
  });
  return reaches.sort((a, b) => a - b)[reaches.length >> 1];
}
