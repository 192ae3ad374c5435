// Turn a weight of the chosen unit, and see what it does.

import { colorOf, ramp } from "./colors.js";
import { brief, byId, make, setText, show } from "./dom.js";
import { GATES } from "./lstm.js";

export function knobView(context, { recompute }) {
  const [gate, source, range, number] = ["knob-gate", "knob-source", "knob-range", "knob-number"].map(byId);
  const canvas = byId("knob-map");
  const original = new Original(context);
  const live = context.model.live;
  byId("knob").hidden = !live;
  if (!live) return {};

  for (const name of GATES) gate.append(make("option", { value: name }, `${name}, ${TITLES[name]}`));
  gate.value = "f";
  let listed = ""; // the way whose sources are in the list
  let unitShown = "";

  const index = () => placeOf(context, gate.value, Number(source.value));

  function set(value, settled = true) {
    if (!Number.isFinite(value)) return;
    context.weights.W[index()] = value;
    recompute(settled);
  }

  let waiting = 0; // a drag may send more events than the model can follow: the last one of a frame counts
  range.addEventListener("input", () => {
    number.value = range.value;
    if (waiting) return;
    waiting = requestAnimationFrame(() => {
      waiting = 0;
      set(range.valueAsNumber, false);
    });
  });
  range.addEventListener("change", () => set(range.valueAsNumber));
  number.addEventListener("change", () => set(number.valueAsNumber));
  gate.addEventListener("change", () => {
    source.value = String(strongest(context, gate.value));
    showWeight();
  });
  source.addEventListener("change", showWeight);
  byId("knob-back").addEventListener("click", () => set(original.at(index())));
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const K = context.H + context.weights.I + 1;
    gate.value = GATES[Math.max(0, Math.min(3, Math.floor(((event.clientY - box.top) / box.height) * 4)))];
    source.value = String(Math.max(0, Math.min(K - 1, Math.floor(((event.clientX - box.left) / box.width) * K))));
    showWeight();
  });

  function listSources() {
    const { state, H, weights } = context;
    const key = `${state.layer} ${state.way}`;
    if (key === listed) return;
    listed = key;
    const names = Array.from({ length: weights.I }, (_, k) =>
      state.layer === 0 ? context.payload.input_names[k] : `output ${k} of the layer below`,
    );
    const group = (label, entries) =>
      make("optgroup", { label }, ...entries.map(([value, words]) => make("option", { value }, words)));
    source.replaceChildren(
      group(
        "before: h at t − 1",
        Array.from({ length: H }, (_, k) => [k, `h of unit ${k}`]),
      ),
      group(
        "input: x at t",
        names.map((name, k) => [H + k, `x: ${name}`]),
      ),
      group("always", [[H + weights.I, "bias"]]),
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
    const was = original.at(index());
    const reach = Math.max(2, Math.ceil(2 * Math.abs(was)));
    range.min = -reach;
    range.max = reach;
    range.value = value;
    if (document.activeElement !== number || number.valueAsNumber !== value)
      number.value = String(Number(value.toPrecision(5)));
    setText(byId("knob-unit"), context.unitName(state.unit));
    setText(byId("knob-was"), show(was));
    setText(byId("knob-slope"), show(slope(context, gate.value, Number(source.value))));
    byId("knob-back").disabled = value === was;
    drawWeights(canvas, context, gate.value, Number(source.value));
  }

  return { unit };
}

const TITLES = { i: "what to write", f: "what to keep", o: "what to show", g: "what could be written" };

/** The weights as they came, to go back to. */
class Original {
  constructor(context) {
    this.context = context;
    this.kernels = context.model.layers.map(({ ways }) => ways.map(({ W }) => W?.slice()));
  }

  at(place) {
    const { state } = this.context;
    return this.kernels[state.layer][state.way][place];
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

/** dL/dw = Σ_t dL/dz_t times what the weight multiplies. */
function slope({ way, T, H, weights, state }, gate, source) {
  if (!way.d_z) return undefined;
  const row = GATES.indexOf(gate) * H + state.unit;
  let sum = 0;
  for (let t = 0; t < T; t++) {
    const seen =
      source < H ? way.h_prev[t * H + source] : source < H + weights.I ? way.x[t * weights.I + source - H] : 1;
    sum += way.d_z[t * 4 * H + row] * seen;
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
  const spot = byId("knob-spot").style;
  spot.left = `${(100 * source) / K}%`;
  spot.width = `${100 / K}%`;
  spot.top = `${25 * GATES.indexOf(gate)}%`;
  setText(byId("knob-low"), brief(-most));
  setText(byId("knob-high"), brief(most));
  byId("knob-ramp").style.background = ramp(theme, "state");
}
