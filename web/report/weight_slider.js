// Change a weight of the selected unit.

import { byId, make, on, setText } from "../shared/elements.js";
import { colorOf, colorRamp } from "./colors.js";
import { GATES } from "./lstm.js";
import { hideReadOut, showReadOut } from "./map_panel.js";
import { formatBrief, formatNumber } from "./number_text.js";

export function weightSliderView(context, { recompute }) {
  const [gate, source, range, number] = ["weight-gate", "weight-source", "weight-range", "weight-number"].map(byId);
  const canvas = byId("weight-map");
  const original = new Original(context);
  const live = context.model.live;
  byId("weight-slider").hidden = !live;
  if (!live) return {};

  for (const name of GATES) gate.append(make("option", { value: name }, `${name}, ${TITLES[name]}`));
  gate.value = "f";
  let listed = ""; // the layer and direction whose sources are in the list
  let unitShown = "";

  const index = () => placeOf(context, gate.value, Number(source.value));

  function set(value, settled = true) {
    if (!Number.isFinite(value)) return;
    context.weights.W[index()] = value;
    recompute(settled);
  }

  let waiting = 0; // at most one computation per frame: a drag sends more events than that
  on(range, "input", () => {
    number.value = range.value;
    if (waiting) return;
    waiting = requestAnimationFrame(() => {
      waiting = 0;
      set(range.valueAsNumber, false);
    });
  });
  on(range, "change", () => set(range.valueAsNumber));
  on(number, "change", () => set(number.valueAsNumber));
  on(gate, "change", () => {
    source.value = String(strongest(context, gate.value));
    showWeight();
  });
  on(source, "change", showWeight);
  on(byId("weight-back"), "click", () => set(original.at(index())));
  const placeAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const K = context.H + context.weights.I + 1;
    const indexAt = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    return [GATES[indexAt((event.clientY - box.top) / box.height, 4)], indexAt((event.clientX - box.left) / box.width, K)];
  };
  on(canvas, "click", (event) => {
    const [row, column] = placeAt(event);
    gate.value = row;
    source.value = String(column);
    showWeight();
  });
  on(canvas, "pointermove", (event) => {
    const [row, column] = placeAt(event);
    const name = source.querySelector(`option[value="${column}"]`)?.textContent;
    showReadOut(event, `${row}, ${name}: ${formatNumber(context.weights.W[placeOf(context, row, column)])}`);
  });
  on(canvas, "pointerleave", hideReadOut);

  function listSources() {
    const { state, H, weights } = context;
    const key = `${state.layer} ${state.direction}`;
    if (key === listed) return;
    listed = key;
    const names = Array.from({ length: weights.I }, (_, k) =>
      state.layer === 0 ? context.payload.input_names[k] : `output ${k} of the layer below`,
    );
    const group = (label, entries) =>
      make("optgroup", { label }, ...entries.map(([value, words]) => make("option", { value }, words)));
    source.replaceChildren(
      group(
        "h at t − 1",
        Array.from({ length: H }, (_, k) => [k, `h of unit ${k}`]),
      ),
      group(
        "x at t",
        names.map((name, k) => [H + k, `x: ${name}`]),
      ),
      group("bias", [[H + weights.I, "bias"]]),
    );
  }

  function unit() {
    listSources();
    const key = `${listed} ${context.state.unit}`;
    if (key !== unitShown) {
      unitShown = key;
      source.value = String(strongest(context, gate.value));
    }
    showWeight();
  }

  function showWeight() {
    const { weights, state } = context;
    const value = weights.W[index()];
    const initial = original.at(index());
    const reach = Math.max(2, Math.ceil(2 * Math.abs(initial)));
    range.min = -reach;
    range.max = reach;
    range.value = value;
    if (document.activeElement !== number || number.valueAsNumber !== value)
      number.value = String(Number(value.toPrecision(5)));
    setText(byId("weight-unit"), context.unitName(state.unit));
    setText(byId("weight-initial"), formatNumber(initial));
    setText(byId("weight-gradient"), formatNumber(weightGradient(context, gate.value, Number(source.value))));
    byId("weight-back").disabled = value === initial;
    drawWeights(canvas, context, gate.value, Number(source.value));
  }

  return { unit };
}

const TITLES = { i: "input gate", f: "forget gate", o: "output gate", g: "candidate" };

/** The original weights. */
class Original {
  constructor(context) {
    this.context = context;
    this.kernels = context.model.layers.map(({ directions }) => directions.map(({ W }) => W?.slice()));
  }

  at(place) {
    const { state } = this.context;
    return this.kernels[state.layer][state.direction][place];
  }
}

function placeOf({ H, weights, state }, gate, source) {
  return (GATES.indexOf(gate) * H + state.unit) * (H + weights.I + 1) + source;
}

function strongest(context, gate) {
  const { weights, H } = context;
  const from = placeOf(context, gate, 0);
  const row = weights.W.subarray(from, from + H + weights.I);
  return row.reduce((best, w, k) => (Math.abs(w) > Math.abs(row[best]) ? k : best), 0);
}

/** dL/dw = Σ_t dL/dz_t u_t, where u_t is the element of [h_{t-1}; x_t; 1] that the weight multiplies. */
function weightGradient({ direction, T, H, weights, state }, gate, source) {
  if (!direction.d_z) return undefined;
  const { I } = weights;
  const row = GATES.indexOf(gate) * H + state.unit;
  let sum = 0;
  for (let t = 0; t < T; t++) {
    const input = source < H + I ? direction.x[t * I + source - H] : 1;
    const u = source < H ? direction.h_prev[t * H + source] : input;
    sum += direction.d_z[t * 4 * H + row] * u;
  }
  return sum;
}

function drawWeights(canvas, context, gate, source) {
  const { weights, H, theme } = context;
  const K = H + weights.I + 1;
  const rows = GATES.map((name) => weights.W.subarray(placeOf(context, name, 0), placeOf(context, name, 0) + K));
  const most = Math.max(...rows.map((row) => row.reduce((a, w) => Math.max(a, Math.abs(w)), 0)), 1e-9);
  canvas.width = K;
  canvas.height = 4;
  const pixels = new ImageData(K, 4);
  rows.forEach((row, r) => {
    row.forEach((w, k) => {
      const [red, green, blue] = colorOf(theme, { name: "state", low: -most, high: most }, w);
      pixels.data.set([red, green, blue, 255], 4 * (r * K + k));
    });
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const spot = byId("weight-spot").style;
  spot.left = `${(100 * source) / K}%`;
  spot.width = `${100 / K}%`;
  spot.top = `${25 * GATES.indexOf(gate)}%`;
  setText(byId("weight-low"), formatBrief(-most));
  setText(byId("weight-high"), formatBrief(most));
  byId("weight-ramp").style.background = colorRamp(theme, "state");
}
