// The recurrent layers of the page in float64: forward, and backward through time. Every quantity is kept by its name.
//
// The equations and their order are those of glasscell/core/cell.py. Arrays are row-major, one row per step in time
// order: direction.f[t * H + k] is the forget gate of unit k at step t. In the reverse direction the previous step of t
// is t + 1. With model.N sequences that run together, each element becomes N numbers: direction.f[(t * H + k) * N + n].

import { gru } from "./gru.js";
import { interventionsOn, PRE_ACTIVATIONS } from "./interventions.js";
import { lossOf } from "./losses.js";
import { addOuter, addSums, order, product, productTransposed, repeated, sigmoid } from "./matrices.js";
import { mergedSize, numbers } from "./payload.js";
import { rnn } from "./rnn.js";

export { decode } from "./payload.js";
export { setBits } from "./copy_task.js";
export { sigmoid } from "./matrices.js";

export const GATES = ["i", "f", "o", "g"]; // the order of the blocks of H rows in W and z

/** Arrays that are reused: those of a run are overwritten by the next run with the same buffers. */
export class Buffers {
  arrays = new Map();

  /** An array with the values of an earlier run, or of zeros. */
  take(name, size) {
    if (this.arrays.get(name)?.length !== size) this.arrays.set(name, new Float64Array(size));
    return this.arrays.get(name);
  }
}

const newArrays = { take: (_, size) => new Float64Array(size) };

/**
 * Run a model forward and, with targets or d_outputs, backward.
 *
 * model.N: the number of sequences, 1 if absent; model.interventions: a list, see interventions.js.
 *
 * trace = {T, outputs (T, O), loss, d_outputs (T, O), d_x (T, I), layers: [{y, directions: [direction]}]}
 * direction = {H, I, name, reverse}, and
 *   x (T, I), z (T, 4H), h_prev c_prev i f o g c tanh_c h (T, H), and the gradients
 *   d_x (T, I), d_z (T, 4H), d_y d_h d_o d_tanh_c d_c d_i d_f d_g (T, H), d_h0 d_c0 (H), dW (4H, H + I + 1),
 *   output, cell and recurrent (T, H): the parts of d_c from the output of this step, from the next cell state times
 *   its forget gate, and through h and W_h from the gates of the next step.
 * Under interventions, values and gradients are those of the quantities after them.
 */
export function run(model, { buffers = newArrays, backward = true } = {}) {
  if (!model.live) return recorded(model);
  const layers = forwardLayers(model, buffers);
  const { T, N = 1 } = model;
  const outputs = readOut(model.readout, layers[layers.length - 1].y, T, N, buffers);
  const trace = { T, N, outputs, loss: null, d_outputs: null, d_x: null, layers };
  if (!backward) return trace;
  if (model.targets && model.loss) {
    [trace.loss, trace.d_outputs] = lossOf(model.loss, outputs, model.targets, model.weights, T, model.share);
  } else {
    trace.d_outputs = model.d_outputs;
  }
  if (trace.d_outputs) trace.d_x = backwardLayers(model, layers, trace.d_outputs, buffers);
  return trace;
}

/** The gradient on the readout: {weight (O, H), bias (O)}. */
export function readOutGradient({ O, H }, { T, N, layers, d_outputs }) {
  const { y } = layers[layers.length - 1];
  const [weight, bias] = [new Float64Array(O * H), new Float64Array(O)];
  for (let t = 0; t < T; t++) {
    const d = d_outputs.subarray(t * O * N, (t + 1) * O * N);
    addOuter(d, y.subarray(t * H * N, (t + 1) * H * N), weight, { N, across: H });
    addSums(d, bias, { N });
  }
  return { weight, bias };
}

// ---- layers

const KINDS = { lstm: { forward: forwardLSTM, backward: backwardLSTM }, gru, rnn };

function forwardLayers(model, buffers) {
  const { T, N = 1 } = model;
  const layers = [];
  let x = model.x;
  model.layers.forEach((layer, l) => {
    const directions = layer.directions.map((weights, k) => {
      const { kind = "lstm", H } = weights;
      const take = (symbol, size) => buffers.take(`${l} ${k} ${symbol}`, size);
      const edits = interventionsOn(model.interventions, { kind, l, k, T, H, I: weights.I, N });
      return Object.assign(KINDS[kind].forward(weights, x, { T, N, take, edits }), { take, edits });
    });
    x = merged(layer, directions, T, N);
    layers.push({ y: x, directions });
  });
  return layers;
}

function backwardLayers(model, layers, d_outputs, buffers) {
  const { T, N = 1 } = model;
  let dy = readOutBackward(model.readout, d_outputs, T, N, buffers);
  for (let l = layers.length - 1; l >= 0; l--) {
    const { directions } = layers[l];
    const parts = mergedBackward(model.layers[l], directions, dy, T, N);
    model.layers[l].directions.forEach((weights, k) => {
      KINDS[weights.kind ?? "lstm"].backward(weights, directions[k], parts[k], { T, N });
    });
    dy = directions.length === 1 ? directions[0].d_x : directions[0].d_x.map((d, n) => d + directions[1].d_x[n]);
  }
  return dy;
}

/** Merge the outputs of two directions: concatenate, or combine elementwise. */
function merged(layer, directions, T, N) {
  if (directions.length === 1) return directions[0].h;
  const [{ h: ahead, H }, { h: back }] = directions;
  if (layer.merge === "multiply") return ahead.map((h, n) => h * back[n]);
  if (layer.merge === "sum") return ahead.map((h, n) => h + back[n]);
  if (layer.merge === "average") return ahead.map((h, n) => (h + back[n]) / 2);
  const y = new Float64Array(T * mergedSize(layer) * N);
  const size = H * N;
  for (let t = 0; t < T; t++) {
    y.set(ahead.subarray(t * size, (t + 1) * size), 2 * t * size);
    y.set(back.subarray(t * size, (t + 1) * size), (2 * t + 1) * size);
  }
  return y;
}

function mergedBackward(layer, directions, dy, T, N) {
  if (directions.length === 1) return [dy];
  const [{ h: ahead, H }, { h: back }] = directions;
  if (layer.merge === "multiply") return [dy.map((d, n) => d * back[n]), dy.map((d, n) => d * ahead[n])];
  if (layer.merge === "sum") return [dy, dy];
  if (layer.merge === "average") return [dy.map((d) => d / 2), dy.map((d) => d / 2)];
  const size = H * N;
  return [0, 1].map((side) => {
    const part = new Float64Array(T * size);
    for (let t = 0; t < T; t++) part.set(dy.subarray((2 * t + side) * size, (2 * t + side + 1) * size), t * size);
    return part;
  });
}

function readOut(readout, h, T, N, buffers) {
  if (!readout) return h;
  const { weight, bias, O, H } = readout;
  const y = buffers.take("outputs", T * O * N);
  for (let t = 0; t < T; t++) {
    const y_t = y.subarray(t * O * N, (t + 1) * O * N);
    product(weight, h.subarray(t * H * N, (t + 1) * H * N), y_t, N);
    for (let r = 0; r < O; r++) for (let n = r * N; n < (r + 1) * N; n++) y_t[n] += bias[r];
  }
  return y;
}

function readOutBackward(readout, dy, T, N, buffers) {
  if (!readout) return dy;
  const { weight, O, H } = readout;
  const dh = buffers.take("d_h of outputs", T * H * N);
  for (let t = 0; t < T; t++) {
    const dh_t = dh.subarray(t * H * N, (t + 1) * H * N);
    productTransposed(weight, dy.subarray(t * O * N, (t + 1) * O * N), dh_t, N);
  }
  return dh;
}

// ---- one layer in one direction

function forwardLSTM({ name, reverse, H, I, W, h0, c0 }, x, { T, N, take, edits }) {
  const size = H * N;
  const symbols = ["h_prev", "c_prev", ...GATES, "c", "tanh_c", "h"];
  const [h_prev, c_prev, i, f, o, g, c, tanh_c, h] = symbols.map((symbol) => take(symbol, T * size));
  const z = take("z", T * 4 * size);
  const u = take("u", size + (I + 1) * N).fill(1); // the columns [h_prev; x; 1]
  const direction = { name, reverse, H, I, x, h_prev, c_prev, z, i, f, o, g, c, tanh_c, h };
  edits?.start(direction);
  let last = [repeated(h0, N, H), repeated(c0, N, H)];
  for (const t of order(reverse, T)) {
    const from = t * size;
    h_prev.set(last[0], from);
    c_prev.set(last[1], from);
    u.set(last[0]);
    edits?.apply("x", t);
    u.set(direction.x.subarray(t * I * N, (t + 1) * I * N), size);
    edits?.cut(u, t);
    const z_t = z.subarray(4 * from, 4 * (from + size));
    product(W, u, z_t, N);
    for (const symbol of edits ? PRE_ACTIVATIONS : []) edits.apply(symbol, t);
    // equation: lstm-step
    for (let k = 0; k < size; k++) {
      const n = from + k;
      i[n] = sigmoid(z_t[k]);
      f[n] = sigmoid(z_t[size + k]);
      o[n] = sigmoid(z_t[2 * size + k]);
      g[n] = Math.tanh(z_t[3 * size + k]);
    }
    for (const gate of edits ? GATES : []) edits.apply(gate, t);
    for (let n = from; n < from + size; n++) c[n] = f[n] * c_prev[n] + i[n] * g[n];
    edits?.apply("c", t);
    for (let n = from; n < from + size; n++) {
      tanh_c[n] = Math.tanh(c[n]);
      h[n] = o[n] * tanh_c[n];
    }
    edits?.apply("h", t);
    last = [h.subarray(from, from + size), c.subarray(from, from + size)];
  }
  return direction;
}

/** Add the gradients to a direction, given d_y: the gradients on h from outside the layer. */
export function backwardLSTM({ W, H, I }, direction, d_y, { T, N }) {
  const { c_prev, i, f, o, g, tanh_c, reverse, take, edits } = direction;
  const size = H * N;
  const symbols = ["d_h", "d_o", "d_tanh_c", "d_c", "d_i", "d_f", "d_g", "output", "cell", "recurrent"];
  for (const symbol of symbols) direction[symbol] = take(symbol, T * size);
  const { d_h, d_o, d_tanh_c, d_c, d_i, d_f, d_g, output, cell, recurrent } = direction;
  const d_z = take("d_z", T * 4 * size);
  const d_x = take("d_x", T * I * N);
  const d_u = take("d_u", size + (I + 1) * N);
  // From the next step: on h through W_h, on c through f.
  const [d_h_next, d_c_next] = ["d_h0", "d_c0"].map((symbol) => take(symbol, size).fill(0));
  Object.assign(direction, { d_y, d_z, d_x, d_h0: d_h_next, d_c0: d_c_next });
  // Before an intervention a quantity has another value, and another gradient.
  const before = edits ? edits.startBackward(direction) : { i, f, o, g, d_h, d_c, d_i, d_f, d_o, d_g };
  for (const t of order(!reverse, T)) {
    const from = t * size;
    const d_z_t = d_z.subarray(4 * from, 4 * (from + size));
    // equation: lstm-step-backward
    for (let n = from, k = 0; k < size; n++, k++) d_h[n] = d_y[n] + d_h_next[k];
    edits?.applyBackward("h", t);
    for (let n = from, k = 0; k < size; n++, k++) {
      const slope_of_shown = o[n] * (1 - tanh_c[n] * tanh_c[n]);
      d_o[n] = before.d_h[n] * tanh_c[n];
      d_tanh_c[n] = before.d_h[n] * o[n];
      d_c[n] = before.d_h[n] * slope_of_shown + d_c_next[k];
      output[n] = d_y[n] * slope_of_shown;
      cell[n] = d_c_next[k];
      recurrent[n] = d_h_next[k] * slope_of_shown;
    }
    edits?.applyBackward("c", t);
    for (let n = from, k = 0; k < size; n++, k++) {
      const d = before.d_c[n];
      d_i[n] = d * g[n];
      d_f[n] = d * c_prev[n];
      d_g[n] = d * i[n];
      d_c_next[k] = d * f[n];
    }
    for (const gate of edits ? GATES : []) edits.applyBackward(gate, t);
    for (let n = from, k = 0; k < size; n++, k++) {
      d_z_t[k] = before.d_i[n] * before.i[n] * (1 - before.i[n]);
      d_z_t[size + k] = before.d_f[n] * before.f[n] * (1 - before.f[n]);
      d_z_t[2 * size + k] = before.d_o[n] * before.o[n] * (1 - before.o[n]);
      d_z_t[3 * size + k] = before.d_g[n] * (1 - before.g[n] * before.g[n]);
    }
    for (const symbol of edits ? PRE_ACTIVATIONS : []) edits.applyBackward(symbol, t);
    productTransposed(W, d_z_t, d_u, N);
    edits?.cut(d_u, t);
    d_h_next.set(d_u.subarray(0, size));
    d_x.set(d_u.subarray(size, size + I * N), t * I * N);
    edits?.passOn(t, d_h_next, d_c_next);
  }
  defineLazily(direction, "dW", () => weightGradient(direction, T, N));
}

/** Σ_t dz_t [h_{t-1}; x_t; 1]ᵀ. Lazy, because it takes a third of the time of a pass and is rarely used. */
function weightGradient({ H, I, h_prev, x, d_z, edits }, T, N) {
  const K = H + I + 1;
  const dW = new Float64Array(4 * H * K);
  for (let t = 0; t < T; t++) {
    const d = d_z.subarray(4 * t * H * N, 4 * (t + 1) * H * N);
    const h = h_prev.subarray(t * H * N, (t + 1) * H * N);
    addOuter(d, edits ? edits.withoutCut(h, t) : h, dW, { N, across: K });
    addOuter(d, x.subarray(t * I * N, (t + 1) * I * N), dW, { N, across: K, first: H });
    addSums(d, dW, { N, across: K, first: H + I });
  }
  return dW;
}

/** Define a property that is computed on first access. */
function defineLazily(object, name, compute) {
  Object.defineProperty(object, name, {
    configurable: true,
    enumerable: true,
    get() {
      const value = compute();
      Object.defineProperty(object, name, { value, enumerable: true });
      return value;
    },
  });
}

// ---- recorded values

/** The trace of a model that the page cannot compute: recorded values of the selected units and steps. */
function recorded(model) {
  const layers = model.layers.map((layer) => ({
    y: null,
    directions: layer.directions.map(({ name, reverse, I }) => {
      const arrays = model.static.directions[name];
      const halfLives = numbers(model.payload.unit_measures[name].half_life);
      const half_life = arrays.units.map((k) => halfLives[k]);
      return { name, reverse, I, H: arrays.units.length, half_life, ...arrays };
    }),
  }));
  const outputs = model.outputs ?? new Float64Array(0);
  const loss = model.payload.loss_value;
  return { T: model.T, outputs, loss, d_outputs: model.d_outputs, d_x: null, layers };
}
