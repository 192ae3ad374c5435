// Which units carry a bit of a copy task at each step, by activation patching: glasscell/explain/relays.py.

import { Buffers, run } from "./lstm.js";
import { chosenOf, inputsOf, layoutOf, populationOf, productsOf, splitOf } from "./population.js";

const SEQUENCES = 64; // as in Python
const COLUMNS = 128; // of a forward pass: sequences times patched units
const ROUNDING_UNITS = 64; // of a cell that does not change, in units in the last place
const CARRIED_SHARE = 0.1; // smallest share of a unit into which the bit is written
const WRITTEN_PART = 0.5; // of the largest share at that step
const MAX_WRITTEN = 3;

/**
 * A generator that returns {carried (T, H), together (T), writtenAt, readAt, N} of bit k. carried: the share of the
 * change of the output that appears if c of one unit at one step is that of the run with the flipped bit; together: if c
 * of all units is. 0 before the cells change, and after the output. writtenAt: the first step at which cells change, or -1.
 */
export function* relayOf(model, { layer, direction, k }) {
  const population = populationOf(model);
  const { enters, isRead, width } = layoutOf(model);
  const rows = splitOf(model, population).order.slice(0, SEQUENCES).sort((a, b) => a - b);
  const bits = chosenOf(population, rows);
  const N = rows.length;
  const { T, I, O } = model;
  const { H, reverse } = model.layers[layer].directions[direction];
  const shared = { ...model, targets: null, loss: null, d_outputs: null };
  const x = inputsOf(model, bits);
  const other = x.slice();
  const place = (enters[k] * I + (k % width)) * N;
  for (let n = place; n < place + N; n++) other[n] *= -1;
  const runOf = (inputs) => run({ ...shared, N, x: inputs }, { backward: false });
  const [clean, changed] = [runOf(x), runOf(other)];
  yield;
  const readAt = isRead[k];
  const outputsAt = (outputs, t) => outputs.subarray((t * O + (k % width)) * N, (t * O + (k % width) + 1) * N);
  const [y, yOther] = [clean, changed].map(({ outputs }) => outputsAt(outputs, readAt));
  const noise = ROUNDING_UNITS * Number.EPSILON * [...y, ...yOther].reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const sign = y.map((value, n) => (Math.abs(yOther[n] - value) > noise ? Math.sign(yOther[n] - value) : 0));
  const total = sign.reduce((sum, s, n) => sum + s * (yOther[n] - y[n]), 0);
  const [c, cOther] = [clean, changed].map(({ layers }) => layers[layer].directions[direction].c);
  const changes = changesOf(c, cOther, { T, H, N });
  const causal = model.layers.every(({ directions }) => directions.every((one) => !one.reverse));
  const [carried, together] = [new Float64Array(T * H), new Float64Array(T)];
  const buffers = new Buffers();
  const states = { clean, x, causal: causal && !model.interventions?.length, stop: readAt + 1 };
  for (let t = 0; t < T; t++) {
    if (!changes[t] || !total || (causal && t > readAt)) continue;
    const window = windowOf(shared, t, N, states);
    const size = Math.max(1, Math.floor(COLUMNS / N));
    for (let first = 0; first <= H; first += size) {
      const units = Array.from({ length: Math.min(size, H + 1 - first) }, (_, n) => first + n); // H is for all units
      const outputs = patched(window, units, { t: t - window.start, layer, direction, H, N, c: c.subarray(t * H * N), cOther: cOther.subarray(t * H * N) }, buffers);
      const columns = units.length * N;
      const from = ((readAt - window.start) * O + (k % width)) * columns;
      units.forEach((unit, j) => {
        let sum = 0;
        for (let n = 0; n < N; n++) sum += (outputs[from + j * N + n] - y[n]) * sign[n];
        if (unit < H) carried[t * H + unit] = sum / total;
        else together[t] = sum / total;
      });
      yield;
    }
  }
  const steps = Array.from({ length: T }, (_, t) => (reverse ? T - 1 - t : t));
  return { carried, together, writtenAt: steps.find((t) => changes[t]) ?? -1, readAt, N, H, T, all: rows.length === population.N };
}

/** The multiplications of relayOf() for K bits, at most. */
export function effortOf(model, K) {
  const { T, layers } = model;
  const H = Math.max(...layers.flatMap(({ directions }) => directions.map((one) => one.H)));
  return ((T * productsOf(model)) / 2) * (H + 1) * Math.min(SEQUENCES, 2 ** K) * 0.5;
}

/** Whether a cell changes at a step, by more than rounding errors. */
function changesOf(c, other, { T, H, N }) {
  const changes = new Uint8Array(T);
  for (let u = 0; u < H; u++) {
    let most = 0;
    for (let t = 0; t < T; t++) for (let n = (t * H + u) * N; n < (t * H + u + 1) * N; n++) most = Math.max(most, Math.abs(c[n]));
    const noise = ROUNDING_UNITS * Number.EPSILON * most;
    for (let t = 0; t < T; t++) for (let n = (t * H + u) * N; n < (t * H + u + 1) * N; n++) changes[t] |= Number(Math.abs(other[n] - c[n]) > noise);
  }
  return changes;
}

/** The model from step t to the output, from the states before it; the whole run if a later step reaches an earlier one. */
function windowOf(model, t, N, { clean, x, causal, stop }) {
  if (!causal) return { model, x, start: 0, N };
  const layers = model.layers.map((layer, l) => ({
    ...layer,
    directions: layer.directions.map((weights, k) => {
      const { h, c } = clean.layers[l].directions[k];
      const size = weights.H * N;
      return t ? { ...weights, h0: h.subarray((t - 1) * size, t * size), c0: c.subarray((t - 1) * size, t * size) } : weights;
    }),
  }));
  return { model: { ...model, T: stop - t, layers }, x: x.subarray(t * model.I * N, stop * model.I * N), start: t, N };
}

/** The outputs of copies of a window side by side, each with another patched unit. */
function patched({ model, x, start, N }, units, { t, layer, direction, H, c, cOther }, buffers) {
  const copies = units.length;
  const columns = copies * N;
  const values = new Float64Array(model.T * H * columns);
  units.forEach((unit, j) => {
    for (let u = 0; u < H; u++) {
      const from = unit === u || unit === H ? cOther : c;
      values.set(from.subarray(u * N, (u + 1) * N), (t * H + u) * columns + j * N);
    }
  });
  const tiled = (array, isState) => (isState ? tile(array, N, copies) : array);
  const layers = model.layers.map((one) => ({
    ...one,
    directions: one.directions.map((weights) => {
      const isState = start > 0;
      return { ...weights, h0: tiled(weights.h0, isState), c0: tiled(weights.c0, isState) };
    }),
  }));
  const patch = { symbol: "c", operation: "patch", layer, direction, steps: [t], values };
  const interventions = [...(model.interventions ?? []), patch];
  return run({ ...model, layers, interventions, N: columns, x: tile(x, N, copies) }, { buffers, backward: false }).outputs;
}

/** An array (rows, N) with its columns in copies, (rows, copies N). */
function tile(array, N, copies) {
  const rows = array.length / N;
  const result = new Float64Array(rows * N * copies);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < copies; j++) result.set(array.subarray(r * N, (r + 1) * N), (r * copies + j) * N);
  }
  return result;
}

/** The units into which a bit is written: at most three with at least half of the largest share, and 10 %. */
export function writtenUnits({ carried, writtenAt, H }) {
  if (writtenAt < 0) return [];
  const shares = carried.subarray(writtenAt * H, (writtenAt + 1) * H);
  const least = Math.max(CARRIED_SHARE, WRITTEN_PART * shares.reduce((a, b) => Math.max(a, b), 0));
  const order = Array.from(shares, (_, u) => u).sort((a, b) => shares[b] - shares[a]);
  return order.filter((u) => shares[u] >= least).slice(0, MAX_WRITTEN);
}

/** The unit with the largest share at each step from the first change to the output: [{unit, first, last, share}]. */
export function pathOf({ carried, writtenAt, readAt, H }) {
  const path = [];
  if (writtenAt < 0) return path;
  const by = writtenAt <= readAt ? 1 : -1;
  for (let t = writtenAt; t !== readAt + by; t += by) {
    const shares = carried.subarray(t * H, (t + 1) * H);
    const unit = shares.reduce((best, share, u) => (share > shares[best] ? u : best), 0);
    const before = path[path.length - 1];
    if (!(shares[unit] > 0)) continue;
    if (before?.unit === unit && before.last === t - by) Object.assign(before, { last: t, share: Math.min(before.share, shares[unit]) });
    else path.push({ unit, first: t, last: t, share: shares[unit] });
  }
  return path;
}

/** The service of worker.js: {model, place} is answered by {id, relay}, which replaces the computation before. */
export function relay(send, { slice }) {
  let timer = 0;
  return ({ id, model, place, stop }) => {
    clearTimeout(timer);
    if (stop || !model) return;
    const steps = relayOf(model, place);
    const work = () => {
      const end = performance.now() + slice;
      let result;
      do result = steps.next();
      while (!result.done && performance.now() < end);
      if (result.done) send({ id, relay: result.value });
      else timer = setTimeout(work);
    };
    work();
  };
}
