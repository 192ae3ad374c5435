// The elements of the section "Break it".

import { make, setText } from "../shared/elements.js";
import { formatNumber, formatPercent } from "./number_text.js";
import { GATE_NAMES } from "./quantity_names.js";

/** Fill the section; returns its parts by name. */
export function buildSection(section, isCopy) {
  const parts = {};
  const part = (name, tag, attributes = {}, ...children) =>
    (parts[name] = make(tag, { id: `break-${name}`, ...attributes }, ...children));
  section.setAttribute("aria-labelledby", "break-title");
  const measured = isCopy ? "the share of bits right over all inputs" : "the loss on this sequence";
  section.append(
    make("h2", { id: "break-title" }, "Break it"),
    part("finding", "p", { class: "finding", "aria-live": "polite" }, "Change the model, and the page measures the effect."),
    make(
      "p",
      { class: "words" },
      "Each intervention replaces a value where it is computed; the diagram and the maps show the replaced values. ",
      `Measured is ${measured}, next to the untouched model.`,
    ),
    slider(part),
    positions(part),
    make("div", { class: "columns" }, controls(part), results(part, isCopy)),
    ...units(part),
  );
  return parts;
}

const row = (...children) => make("div", { class: "break-field" }, ...children);
const label = (target, text) => make("label", { for: `break-${target}` }, text);

function slider(part) {
  return row(
    label("scale", "all forget gates ×"),
    part("scale", "input", { type: "range", min: 0.5, max: 1.1, step: 0.02, value: 1 }),
    part("factor", "output", { class: "number", for: "break-scale" }, "1.00"),
  );
}

function controls(part) {
  const limit = (name, value) => part(name, "input", { type: "number", step: 0.1, value });
  const button = (name, text) => part(name, "button", { type: "button" }, text);
  const gates = Object.entries(GATE_NAMES).map(([gate, name]) => make("option", { value: gate }, `${gate}, ${name}`));
  return make(
    "div",
    {},
    row(label("gate", "clamp"), part("gate", "select", {}, make("option", { value: "" }, "no gate"), ...gates)),
    row(label("low", "from"), limit("low", 0), label("high", "to"), limit("high", 1)),
    row(
      label("unit", "shut unit"),
      part("unit", "input", { type: "number", min: 0, step: 1, value: 0, inputmode: "numeric" }),
      ...[button("shut-h", "Set its h to 0"), button("shut-c", "Set its c to 0")],
    ),
    make(
      "label",
      { class: "check" },
      part("cut", "input", { type: "checkbox" }),
      "cut the recurrent weights: no gate reads h of the previous step",
    ),
    part("list", "ul", { class: "active", "aria-label": "active interventions" }),
    button("undo", "Undo the interventions"),
  );
}

function positions(part) {
  const region = { class: "scroll", tabindex: 0, role: "region", "aria-label": "bits right by position", hidden: true };
  return part("positions", "div", region);
}

/** The shares before they are measured: dashes. */
export function showNoPositions(host, length) {
  const none = { all: NaN, byPosition: new Float64Array(length).fill(NaN) };
  showPositions(host, { kind: "bits", ...none }, none);
}

function results(part, isCopy) {
  const measure = isCopy ? "Share of bits right" : "The same measure";
  return make(
    "div",
    {},
    make("h3", {}, `${measure} when all forget gates are scaled`),
    part("curve", "div", { class: "chart low" }),
    part("curve-progress", "p", { class: "words" }),
    part("reason", "p", { class: "words" }),
  );
}

function units(part) {
  const option = (symbol) => make("option", { value: symbol }, `${symbol} is 0`);
  return [
    make("h3", {}, "Which unit matters most"),
    part("worst", "p", { class: "words" }),
    make(
      "div",
      { class: "fields" },
      label("measure", "each unit alone, its"),
      part("measure", "select", {}, option("h"), option("c")),
      part("progress", "progress", { "aria-label": "units measured", max: 1, value: 0 }),
      part("more", "button", { type: "button", hidden: true }, "Measure the curve and the units"),
    ),
    part("units", "ol", { class: "scroll ranking", "aria-label": "units, the one that matters most first", tabindex: 0 }),
  ];
}

/** Write the settings into the controls; `replace` changes the settings. */
export function writeControls(parts, { factor, clamp, cut }, list, H, replace) {
  if (parts.scale.valueAsNumber !== factor) parts.scale.value = factor;
  parts.scale.setAttribute("aria-valuetext", `× ${factor}`);
  setText(parts.factor, factor.toFixed(2));
  const isEditing = [parts.low, parts.high].includes(document.activeElement);
  if (!clamp && !isEditing) parts.gate.value = "";
  parts.cut.checked = cut;
  parts.unit.max = H - 1;
  parts.undo.disabled = list.length === 0;
  const item = ({ text, without }) => {
    const attributes = { type: "button", "aria-label": `remove: ${text}`, onclick: () => replace(without) };
    return make("li", {}, text, make("button", attributes, "×"));
  };
  parts.list.replaceChildren(...list.map(item));
}

/** A table of the share of each bit position, of the model under interventions and of the untouched one. */
export function showPositions(host, now, base) {
  host.hidden = now.kind !== "bits";
  if (host.hidden) return;
  const cell = (share) => make("td", { class: share < 0.9995 ? "wrong" : "" }, formatPercent(share).replace(" %", ""));
  const row = (name, { byPosition, all }) =>
    make("tr", {}, make("th", { scope: "row" }, name), cell(all), ...Array.from(byPosition, cell));
  const heads = ["bits right, %", "all", ...Array.from(now.byPosition, (_, k) => `bit ${k}`)];
  host.replaceChildren(
    make(
      "table",
      { class: "shares" },
      make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, row("now", now), row("untouched", base)),
    ),
  );
}

/** Rows of units that are not measured yet. */
export function blankRows(count) {
  return Array.from({ length: count }, () => make("li", { class: "blank", "aria-hidden": "true" }));
}

/** A unit with its measure, and a bar of its effect as a share of the largest one. */
export function unitRow({ unit, effect, share }, { choose }) {
  const value = effect.kind === "bits" ? formatPercent(effect.all, 1) : formatNumber(effect.loss ?? effect.change);
  return make(
    "li",
    { style: `--share: ${share}` },
    make("button", { type: "button", onclick: () => choose({ unit }) }, `unit ${unit}`),
    make("span", { class: "number" }, value),
  );
}
