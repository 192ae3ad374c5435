// The section "Break it": interventions on the model, and their effect on all inputs.

import { byId, make, setText } from "../shared/elements.js";
import { Ablations, qualityOf, subjectOf } from "./ablation.js";
import { makeChart } from "./chart.js";
import { formatNumber, formatPercent } from "./number_text.js";
import { connect } from "./worker.js";

const FACTORS = Array.from({ length: 31 }, (_, n) => (50 + 2 * n) / 100);
const GATES = { i: "input gate", f: "forget gate", o: "output gate", g: "candidate" };
const [NOW, BASE, CURVE, UNITS] = [0, 0, 1, 2]; // urgencies

export function breakItView(context, actions) {
  const section = byId("break-it");
  if (!context.model.live) return {};
  const settings = { factor: 1, clamp: null, shut: [], cut: false };
  const ablations = new Ablations(connect);
  const results = { now: null, base: null, curve: [], units: [], unitsOf: "" };
  let measured = ""; // the model that the worker has
  let curveOf = ""; // the interventions of the curve
  let isNear = false;

  const parts = build(section, context);
  const chart = makeChart(parts.curve, {
    label: "over the factor",
    onStep: (n) => {
      parts.scale.value = FACTORS[n];
      parts.scale.dispatchEvent(new Event("input"));
    },
  });
  chart.place = () => chart.point(nearest(settings.factor));

  // ---- controls

  let waiting = 0; // at most one computation per frame
  const changed = (settled = true) => {
    if (waiting && !settled) return;
    cancelAnimationFrame(waiting);
    const apply = () => {
      waiting = 0;
      context.model.interventions = interventionsOf(settings, context);
      actions.recompute(settled);
    };
    if (settled) apply();
    else waiting = requestAnimationFrame(apply);
  };
  parts.scale.addEventListener("input", () => {
    settings.factor = parts.scale.valueAsNumber;
    changed(false);
  });
  parts.scale.addEventListener("change", () => changed());
  const readClamp = () => {
    const [low, high] = [parts.low.valueAsNumber, parts.high.valueAsNumber];
    const gate = parts.gate.value;
    settings.clamp = gate && low <= high ? { gate, low, high } : null;
    changed();
  };
  for (const input of [parts.gate, parts.low, parts.high]) input.addEventListener("change", readClamp);
  parts.gate.addEventListener("input", () => {
    if (parts.gate.value === "g" && parts.low.value === "0") parts.low.value = "-1";
  });
  for (const symbol of ["h", "c"]) parts[`shut-${symbol}`].addEventListener("click", () => shut(symbol));
  parts.cut.addEventListener("change", () => {
    settings.cut = parts.cut.checked;
    changed();
  });
  parts.undo.addEventListener("click", () => {
    clear(settings);
    changed();
    actions.announce("The interventions are undone.");
  });
  parts.measure.addEventListener("change", () => measureUnits());

  function shut(symbol) {
    const unit = parts.unit.valueAsNumber;
    if (!Number.isInteger(unit) || unit < 0 || unit >= context.weights.H) return;
    const { layer, direction } = context.state;
    const isSame = (one) => one.unit === unit && one.layer === layer && one.direction === direction;
    settings.shut = [...settings.shut.filter((one) => !isSame(one)), { symbol, unit, layer, direction }];
    changed();
  }

  // ---- measurements

  const subjectKey = () => {
    const { model, bits } = context;
    return `${fingerprint(model)} ${context.payload.copy ? (bits ?? model.bits ?? "").length : sumOf([model.x, model.targets])}`;
  };

  function measure() {
    if (!isNear) return;
    const key = subjectKey();
    const list = interventionsOf(settings, context);
    if (key !== measured) {
      measured = key;
      Object.assign(results, { now: null, base: null, curve: [], units: [], unitsOf: "" });
      curveOf = "";
      ablations.setSubject(subjectOf(context));
      ablations.ask("base", BASE, [], (effect) => {
        results.base = effect;
        show();
      });
    }
    ablations.drop("now");
    ablations.ask("now", NOW, list, (effect) => {
      results.now = effect;
      show();
    });
    measureCurve();
    measureUnits();
  }

  function measureCurve() {
    const others = interventionsOf({ ...settings, factor: 1 }, context);
    const key = JSON.stringify(others);
    if (key === curveOf) return chart.place();
    curveOf = key;
    ablations.drop("curve");
    results.curve = new Float64Array(FACTORS.length).fill(NaN);
    const order = FACTORS.map((_, n) => FACTORS.length - 1 - n); // from the untouched model on
    for (const n of order) {
      ablations.ask("curve", CURVE, interventionsOf({ ...settings, factor: FACTORS[n] }, context), (effect) => {
        results.curve[n] = Math.abs(qualityOf(effect));
        if (n % 6 === 0) showCurve();
      });
    }
  }

  function measureUnits() {
    const { layer, direction } = context.state;
    const symbol = parts.measure.value;
    const key = `${layer} ${direction} ${symbol}`;
    if (key === results.unitsOf) return;
    results.unitsOf = key;
    results.units = [];
    ablations.drop("units");
    for (let unit = 0; unit < context.weights.H; unit++) {
      const list = [{ symbol, operation: "set", value: 0, units: [unit], layer, direction }];
      ablations.ask("units", UNITS, list, (effect) => {
        results.units.push({ unit, effect });
        showUnits();
      });
    }
    showUnits();
  }

  // ---- views

  function show() {
    const { now, base } = results;
    if (!now || !base) return;
    const isChanged = interventionsOf(settings, context).length > 0;
    setText(parts.finding, sentence(settings, isChanged, now, base));
    showPositions(parts.positions, now, base);
    showCurve();
  }

  function showCurve() {
    const isShare = Boolean(context.payload.copy);
    const of = results.base?.kind;
    chart.draw({
      T: FACTORS.length,
      limits: isShare ? [0, 1] : null,
      series: [{ label: LABELS[of] ?? "", values: results.curve, style: 4 }],
      axis: make("div", { class: "axis" }, make("span", {}, "× 0.5"), make("span", {}, "× 0.8"), make("span", {}, "× 1.1")),
    });
    chart.place();
  }

  function showUnits() {
    const count = context.weights.H;
    const { units } = results;
    parts.progress.max = count;
    parts.progress.value = units.length;
    parts.progress.hidden = units.length === count;
    if (units.length && units.length < count && units.length % 8) return;
    const sorted = [...units].sort((a, b) => qualityOf(a.effect) - qualityOf(b.effect) || a.unit - b.unit);
    const [worst] = sorted;
    const drop = results.base ? qualityOf(results.base) - (worst ? qualityOf(worst.effect) : 0) : 0;
    const shareOf = ({ effect }) => (drop > 0 ? Math.max(0, (qualityOf(results.base) - qualityOf(effect)) / drop) : 0);
    parts.units.replaceChildren(...sorted.map((one) => unitRow(one, shareOf(one), actions)));
    const isDone = units.length === count && results.base;
    setText(
      parts.unitsFinding,
      isDone
        ? `Unit ${worst.unit} matters most: without its ${parts.measure.value}, ${inWords(worst.effect)}` +
            ` The untouched model: ${inWords(results.base)}`
        : `${units.length} of ${count} units are measured.`,
    );
  }

  function data() {
    if (!context.model.interventions?.length) clear(settings); // the page restored its model
    writeControls(parts, settings, context, (remaining) => {
      Object.assign(settings, remaining);
      changed();
    });
    measure();
  }

  function unit() {
    if (document.activeElement !== parts.unit) parts.unit.value = context.state.unit;
  }

  section.hidden = false;
  new IntersectionObserver(
    (entries) => {
      if (isNear || !entries.some((entry) => entry.isIntersecting)) return;
      isNear = true;
      measure();
    },
    { rootMargin: "400px" },
  ).observe(section);
  return { data, unit };
}

const LABELS = { bits: "share of bits right", loss: "loss", change: "mean change of the outputs" };

function clear(settings) {
  Object.assign(settings, { factor: 1, clamp: null, shut: [], cut: false });
}

function nearest(factor) {
  return Math.max(0, Math.min(FACTORS.length - 1, Math.round((factor - FACTORS[0]) / 0.02)));
}

/** The list for the model: gates and W_h in all layers, shut units in theirs. */
function interventionsOf({ factor, clamp, shut, cut }) {
  const list = [];
  if (factor !== 1) list.push({ symbol: "f", operation: "scale", value: factor });
  if (clamp) list.push({ symbol: clamp.gate, operation: "clamp", low: clamp.low, high: clamp.high });
  for (const { symbol, unit, layer, direction } of shut) {
    list.push({ symbol, operation: "set", value: 0, units: [unit], layer, direction });
  }
  if (cut) list.push({ symbol: "W_h", operation: "cut" });
  return list;
}

function sumOf(arrays) {
  let sum = 0;
  for (const array of arrays) array?.forEach((value, n) => (sum += value * Math.sin(n + 1)));
  return sum;
}

function fingerprint({ layers, readout }) {
  const arrays = layers.flatMap(({ directions }) => directions.flatMap(({ W, h0, c0 }) => [W, h0, c0]));
  return sumOf([...arrays, readout?.weight, readout?.bias]);
}

// ---- text

function inWords(effect) {
  if (effect.kind === "bits") return `${formatShare(effect.all)} of the bits are right.`;
  if (effect.kind === "loss") return `the loss is ${formatNumber(effect.loss)}.`;
  return `the outputs change by ${formatNumber(effect.change)} on average.`;
}

/** A share with one decimal: 99.6 % is not 100 %. */
function formatShare(share) {
  const percent = Math.floor(share * 1000 + 1e-6) / 10;
  return `${percent} %`;
}

function sentence(settings, isChanged, now, base) {
  const over = base.kind === "bits" ? ` Measured over ${base.complete ? "all" : "a sample of"} ${base.count} inputs.` : "";
  if (!isChanged) return `The untouched model: ${inWords(base)}${over}`;
  const names = describe(settings).map(({ text }) => text);
  return `${capital(names.join(", "))}: ${inWords(now)} The untouched model: ${inWords(base)}${over}`;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** The interventions as {text, without: the settings that remain after it is removed}. */
function describe(settings) {
  const list = [];
  const { factor, clamp, shut, cut } = settings;
  if (factor !== 1) list.push({ text: `all forget gates × ${factor}`, without: { factor: 1 } });
  if (clamp) {
    const text = `${GATES[clamp.gate]} ${clamp.gate} between ${clamp.low} and ${clamp.high}`;
    list.push({ text: text.replaceAll("-", "−"), without: { clamp: null } });
  }
  for (const one of shut) {
    const text = `${one.symbol} of unit ${one.unit} is 0`;
    list.push({ text, without: { shut: shut.filter((other) => other !== one) } });
  }
  if (cut) list.push({ text: "no unit reads h", without: { cut: false } });
  return list;
}

// ---- elements

function build(section, context) {
  const parts = {};
  const part = (name, tag, attributes = {}, ...children) =>
    (parts[name] = make(tag, { id: `break-${name}`, ...attributes }, ...children));
  const label = (target, text) => make("label", { for: `break-${target}` }, text);
  const number = (name, value) => part(name, "input", { type: "number", step: 0.1, value });
  const option = (value, text) => make("option", { value }, text);
  const share = context.payload.copy ? "bits right over all inputs" : "the loss on this sequence";
  section.setAttribute("aria-labelledby", "break-title");
  section.append(
    make("h2", { id: "break-title" }, "Break it"),
    part("finding", "p", { class: "finding", "aria-live": "polite" }, "Change the model below; the page measures the effect."),
    make(
      "p",
      { class: "words" },
      `Each intervention replaces a value where it is computed. The diagram and the maps show the replaced values. Measured are ${share}, next to the untouched model.`,
    ),
    make(
      "div",
      { class: "columns" },
      make(
        "div",
        {},
        make(
          "div",
          { class: "break-field" },
          label("scale", "all forget gates ×"),
          part("scale", "input", { type: "range", min: 0.5, max: 1.1, step: 0.02, value: 1 }),
          part("factor", "output", { class: "number", for: "break-scale" }, "1"),
        ),
        make(
          "div",
          { class: "break-field" },
          label("gate", "clamp"),
          part("gate", "select", {}, option("", "no gate"), ...Object.entries(GATES).map(([k, v]) => option(k, `${k}, ${v}`))),
          label("low", "from"),
          number("low", 0),
          label("high", "to"),
          number("high", 1),
        ),
        make(
          "div",
          { class: "break-field" },
          label("unit", "shut unit"),
          part("unit", "input", { type: "number", min: 0, step: 1, value: 0, inputmode: "numeric" }),
          part("shut-h", "button", { type: "button" }, "Set its h to 0"),
          part("shut-c", "button", { type: "button" }, "Set its c to 0"),
        ),
        make(
          "label",
          { class: "check" },
          part("cut", "input", { type: "checkbox" }),
          "cut the recurrent weights: no gate reads h of the previous step",
        ),
        part("list", "ul", { class: "active", "aria-label": "active interventions" }),
        part("undo", "button", { type: "button", disabled: true }, "Undo the interventions"),
      ),
      make(
        "div",
        {},
        part("positions", "div", {
          class: "scroll",
          tabindex: 0,
          role: "region",
          "aria-label": "bits right by position",
        }),
        make("h3", {}, `${context.payload.copy ? "Share of bits right" : "The same measure"} when all forget gates are scaled`),
        part("curve", "div", { class: "chart low" }),
      ),
    ),
    make("h3", {}, "Which unit matters most"),
    part("unitsFinding", "p", { class: "words" }),
    make(
      "div",
      { class: "fields" },
      label("measure", "each unit alone, its"),
      part("measure", "select", {}, option("h", "h is 0"), option("c", "c is 0")),
      part("progress", "progress", { "aria-label": "units measured", max: 1, value: 0 }),
    ),
    part("units", "ol", { class: "ranking", "aria-label": "units, the one that matters most first", tabindex: 0 }),
  );
  return parts;
}

function writeControls(parts, settings, context, keep) {
  const { factor, clamp, cut } = settings;
  if (parts.scale.valueAsNumber !== factor) parts.scale.value = factor;
  parts.scale.setAttribute("aria-valuetext", `× ${factor}`);
  setText(parts.factor, factor.toFixed(2));
  if (!clamp && document.activeElement !== parts.low && document.activeElement !== parts.high) {
    const isInvalid = parts.low.valueAsNumber > parts.high.valueAsNumber;
    if (!isInvalid) parts.gate.value = "";
  }
  parts.cut.checked = cut;
  parts.unit.max = context.weights.H - 1;
  const list = describe(settings);
  parts.undo.disabled = list.length === 0;
  parts.list.replaceChildren(
    ...list.map(({ text, without }) =>
      make(
        "li",
        {},
        text,
        make("button", { type: "button", "aria-label": `remove: ${text}`, onclick: () => keep(without) }, "×"),
      ),
    ),
  );
}

/** A table of the share of each bit position, of the model under interventions and of the untouched one. */
function showPositions(host, now, base) {
  host.hidden = now.kind !== "bits";
  if (host.hidden) return;
  const cell = (share) =>
    make("td", { style: `--share: ${share}`, class: share < 0.9995 ? "wrong" : "" }, formatPercent(share));
  const row = (name, { byPosition, all }) =>
    make("tr", {}, make("th", { scope: "row" }, name), cell(all), ...Array.from(byPosition, cell));
  const heads = ["bits right", "all", ...Array.from(now.byPosition, (_, k) => `bit ${k}`)];
  host.replaceChildren(
    make(
      "table",
      { class: "shares" },
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, row("now", now), row("untouched", base)),
    ),
  );
}

/** A unit with its measure, and a bar of its effect as a share of the largest one. */
function unitRow({ unit, effect }, share, { choose }) {
  const value = effect.kind === "bits" ? formatShare(effect.all) : formatNumber(effect.loss ?? effect.change);
  return make(
    "li",
    { style: `--share: ${share}` },
    make("button", { type: "button", onclick: () => choose({ unit }) }, `unit ${unit}`),
    make("span", { class: "number" }, value),
  );
}
