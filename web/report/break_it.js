// The section "Break it": interventions on the model, and their effect on all inputs.

import { byId, make, on, setText } from "../shared/elements.js";
import { blankRows, buildSection, showNoPositions, showPositions, unitRow, writeControls } from "./break_it_elements.js";
import { describe, inWords, interventionsOf, reason, sentence, untouched } from "./break_it_settings.js";
import { makeChart } from "./chart.js";
import { Effects, FACTORS } from "./effects.js";
import { checkField } from "./field_error.js";
import { connect } from "./worker.js";

const CHANCE = { label: "guessing", values: new Float64Array(FACTORS.length).fill(0.5), style: 2 };
const LABELS = { bits: "share of bits right", loss: "loss", change: "mean change of the outputs" };

export function breakItView(context, actions) {
  if (!context.model.live) return {};
  const section = byId("break-it");
  const parts = buildSection(section, Boolean(context.payload.copy));
  const settings = untouched();
  const effects = new Effects(connect, { now: showNow, curve: showCurve, units: showUnits });
  const chart = makeChart(parts.curve, {
    label: "effect by the factor of all forget gates",
    onStep: (n) => {
      parts.scale.value = FACTORS[n];
      parts.scale.dispatchEvent(new Event("input"));
    },
  });
  let isNear = false; // nothing is measured before the section is near

  // ---- controls

  let waiting = 0; // at most one computation per frame
  function changed(settled = true) {
    if (waiting && !settled) return;
    cancelAnimationFrame(waiting);
    const apply = () => {
      waiting = 0;
      context.model.interventions = interventionsOf(settings);
      measure(); // in the worker, while this thread draws
      actions.recompute(settled);
    };
    if (settled) apply();
    else waiting = requestAnimationFrame(apply);
  }

  function replace(change) {
    const before = JSON.stringify(settings);
    Object.assign(settings, change);
    if (JSON.stringify(settings) !== before) changed();
  }

  function clamp() {
    const [low, high] = [parts.low.valueAsNumber, parts.high.valueAsNumber];
    const gate = parts.gate.value;
    const rule = "the limits of a gate must be numbers, “from” at most “to”";
    if (checkField(parts.low, !gate || low <= high, rule, `${parts.low.value} and ${parts.high.value}`)) replace({ clamp: gate ? { gate, low, high } : null });
  }

  function shut(symbol) {
    const unit = parts.unit.valueAsNumber;
    const { H } = context.weights;
    if (!checkField(parts.unit, Number.isInteger(unit) && unit >= 0 && unit < H, `unit must be 0 to ${H - 1}`)) return;
    const { layer, direction } = context.state;
    const isSame = (one) => one.unit === unit && one.layer === layer && one.direction === direction;
    const several = context.directions.length > 1;
    const place = several ? ` of ${context.model.layers[layer].directions[direction].name}` : "";
    replace({ shut: [...settings.shut.filter((one) => !isSame(one)), { symbol, unit, layer, direction, place }] });
  }

  function resetLimits() {
    [parts.low.value, parts.high.value, parts.gate.value] = [0, 1, ""];
    parts.low.ariaInvalid = "false";
  }

  function undo() {
    resetLimits();
    replace(untouched());
    actions.announce("The interventions are undone.");
  }

  on(byId("restore"), "click", resetLimits);
  on(parts.scale, "input", () => {
    settings.factor = parts.scale.valueAsNumber;
    changed(false);
  });
  on(parts.scale, "change", () => changed());
  for (const input of [parts.gate, parts.low, parts.high]) on(input, "change", clamp);
  for (const symbol of ["h", "c"]) on(parts[`shut-${symbol}`], "click", () => shut(symbol));
  on(parts.cut, "change", () => replace({ cut: parts.cut.checked }));
  on(parts.undo, "click", undo);
  on(parts.measure, "change", measureUnits);
  on(parts.more, "click", measureMore);
  const note = noteOnCell(undo);

  // ---- measurements

  function measure() {
    isNear ||= interventionsOf(settings).length > 0;
    if (!isNear) return;
    effects.measure(context, keyOf(context), interventionsOf(settings));
    parts.more.hidden = !effects.isSlow;
    if (!effects.isSlow) measureMore();
  }

  function measureMore() {
    effects.measureCurve((factor) => interventionsOf({ ...settings, factor }));
    measureUnits();
  }

  function measureUnits() {
    effects.measureUnits(parts.measure.value, context.state, context.weights.H);
  }

  // ---- views

  function showNow() {
    if (!effects.now || !effects.untouched) return;
    section.classList.remove("unmeasured");
    setText(parts.finding, sentence(settings, effects.now, effects.untouched));
    setText(parts.reason, reason(effects.now));
    showPositions(parts.positions, effects.now, effects.untouched);
    showCurve();
  }

  function showCurve() {
    const kind = effects.untouched?.kind ?? (context.bits ? "bits" : undefined);
    const mark = (text) => make("span", {}, text);
    chart.draw({
      T: FACTORS.length,
      limits: kind === "bits" ? [0, 1] : null,
      series: [{ label: LABELS[kind] ?? "", values: effects.curve, style: 4 }, ...(kind === "bits" ? [CHANCE] : [])],
      axis: make("div", { class: "ends" }, mark("× 0.5"), mark("× 0.8"), mark("× 1.1")),
    });
    const measured = effects.curve.filter((value) => !Number.isNaN(value)).length;
    setText(parts["curve-progress"], measured < FACTORS.length ? `${measured} of ${FACTORS.length} factors are measured.` : "");
    chart.point(Math.round((settings.factor - FACTORS[0]) / (FACTORS[1] - FACTORS[0])));
  }

  function showUnits() {
    const count = context.weights.H;
    const measured = effects.units.length;
    Object.assign(parts.progress, { max: count, value: measured });
    parts.progress.classList.toggle("idle", measured === count);
    if (measured % 8 && measured < count) return;
    const ranking = effects.ranking();
    parts.units.replaceChildren(...ranking.map((one) => unitRow(one, actions)), ...blankRows(count - measured));
    const isDone = measured === count && effects.untouched;
    setText(
      parts.worst,
      isDone
        ? `In the untouched model, unit ${ranking[0].unit} matters most: without its ${parts.measure.value}, ${inWords(ranking[0].effect)}.`
        : `${measured} of ${count} units are measured.`,
    );
  }

  function data() {
    const missing = context.weights.H - parts.units.childElementCount;
    if (missing > 0) parts.units.append(...blankRows(missing)); // the space of the list is there before its units are
    if (!context.model.interventions?.length) Object.assign(settings, untouched()); // the page restored its model
    const list = describe(settings);
    writeControls(parts, settings, list, context.weights.H, replace);
    note.show(list);
    measure();
  }

  function unit() {
    if (document.activeElement !== parts.unit) parts.unit.value = context.state.unit;
  }

  if (context.bits) {
    showNoPositions(parts.positions, context.bits.length);
    showCurve();
  }
  section.hidden = false;
  section.classList.add("unmeasured"); // not printed
  const observer = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      isNear = true;
      measure();
    },
    { rootMargin: "400px" },
  );
  observer.observe(section);
  return { data, unit };
}

/** A note at the diagram of the cell while there are interventions. */
function noteOnCell(undo) {
  const text = make("span");
  const button = make("button", { type: "button", onclick: undo }, "Undo the interventions");
  const note = make("p", { class: "note break-note", hidden: true }, text, " ", button);
  byId("cell").querySelector("figure").prepend(note);
  return {
    show(list) {
      note.hidden = list.length === 0;
      const names = list.map((one) => one.text).join(", ");
      setText(text, `Interventions: ${names}. A value that they replace differs from its equation.`);
    },
  };
}

/** A text that differs after each change of what is measured, except the interventions. */
function keyOf({ model, payload }) {
  let sum = 0;
  const add = (values) => values?.forEach((value, n) => (sum += value * ((n % 8191) + 1)));
  for (const { directions } of model.layers) for (const { W, h0, c0 } of directions) [W, h0, c0].forEach(add);
  for (const values of [model.readout?.weight, model.readout?.bias]) add(values);
  if (!payload.copy) for (const values of [model.x, model.targets]) add(values);
  return `${model.T} ${sum}`;
}
