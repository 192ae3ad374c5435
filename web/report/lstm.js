// The LSTM of the page in float64: forward, and backward through time. Every quantity is kept by its name.
//
// The equations and their order are those of glasscell/core/cell.py. Arrays are row-major, one row per step in time
// order: direction.f[t * H + k] is the forget gate of unit k at step t. In the reverse direction the previous step of t
// is t + 1.

import { mergedSize, numbers } from "./payload.js";
import { lossOf } from "./losses.js";

export { decode } from "./payload.js";
export { setBits } from "./copy_task.js";

export const GATES = ["i", "f", "o", "g"]; // the order of the blocks of H rows in W and z

/**
 * Run a model forward and, with targets or d_outputs, backward.
 *
 * trace = {T, outputs (T, O), loss, d_outputs (T, O), d_x (T, I), layers: [{y, directions: [direction]}]}
 * direction = {H, I, name, reverse}, and
 *   x (T, I), z (T, 4H), h_prev c_prev i f o g c tanh_c h (T, H), and the gradients
 *   d_x (T, I), d_z (T, 4H), d_y d_h d_o d_tanh_c d_c d_i d_f d_g (T, H), d_h0 d_c0 (H), dW (4H, H + I + 1),
 *   output, cell and recurrent (T, H): the parts of d_c from the output of this step, from the next cell state times
 *   its forget gate, and through h and W_h from the gates of the next step.
 */
export function run(model) {
  if (!model.live) return recorded(model);
  const layers = forwardLayers(model);
  const outputs = readOut(model.readout, layers[layers.length - 1].y, model.T);
  const trace = { T: model.T, outputs, loss: null, d_outputs: null, d_x: null, layers };
  if (model.targets && model.loss) {
    [trace.loss, trace.d_outputs] = lossOf(model.loss, outputs, model.targets, model.weights, model.T, model.share);
  } else {
    trace.d_outputs = model.d_outputs;
  }
  if (trace.d_outputs) trace.d_x = backwardLayers(model, layers, trace.d_outputs);
  return trace;
}

export function sigmoid(z) {
  return 1 / (1 + Math.exp(-z));
}

// ---- layers

function forwardLayers(model) {
  const layers = [];
  let x = model.x;
  for (const layer of model.layers) {
    const directions = layer.directions.map((direction) => forwardDirection(direction, x, model.T));
    x = merged(layer, directions, model.T);
    layers.push({ y: x, directions });
  }
  return layers;
}

function backwardLayers(model, layers, d_outputs) {
  let dy = readOutBackward(model.readout, d_outputs, model.T);
  for (let l = layers.length - 1; l >= 0; l--) {
    const { directions } = layers[l];
    const parts = mergedBackward(model.layers[l], directions, dy, model.T);
    model.layers[l].directions.forEach((weights, k) => backwardDirection(weights, directions[k], parts[k], model.T));
    dy = directions.length === 1 ? directions[0].d_x : directions[0].d_x.map((d, n) => d + directions[1].d_x[n]);
  }
  return dy;
}

/** Merge the outputs of two directions: concatenate, or combine elementwise. */
function merged(layer, directions, T) {
  if (directions.length === 1) return directions[0].h;
  const [{ h: ahead, H }, { h: back }] = directions;
  if (layer.merge === "multiply") return ahead.map((h, n) => h * back[n]);
  if (layer.merge === "sum") return ahead.map((h, n) => h + back[n]);
  if (layer.merge === "average") return ahead.map((h, n) => (h + back[n]) / 2);
  const y = new Float64Array(T * mergedSize(layer));
  for (let t = 0; t < T; t++) {
    y.set(ahead.subarray(t * H, (t + 1) * H), 2 * t * H);
    y.set(back.subarray(t * H, (t + 1) * H), (2 * t + 1) * H);
  }
  return y;
}

function mergedBackward(layer, directions, dy, T) {
  if (directions.length === 1) return [dy];
  const [{ h: ahead, H }, { h: back }] = directions;
  if (layer.merge === "multiply") return [dy.map((d, n) => d * back[n]), dy.map((d, n) => d * ahead[n])];
  if (layer.merge === "sum") return [dy, dy];
  if (layer.merge === "average") return [dy.map((d) => d / 2), dy.map((d) => d / 2)];
  return [0, 1].map((side) => {
    const part = new Float64Array(T * H);
    for (let t = 0; t < T; t++) part.set(dy.subarray((2 * t + side) * H, (2 * t + side + 1) * H), t * H);
    return part;
  });
}

function readOut(readout, h, T) {
  if (!readout) return h;
  const { weight, bias, O, H } = readout;
  const y = new Float64Array(T * O);
  for (let t = 0; t < T; t++) {
    for (let r = 0; r < O; r++) {
      let sum = bias[r];
      for (let k = 0; k < H; k++) sum += weight[r * H + k] * h[t * H + k];
      y[t * O + r] = sum;
    }
  }
  return y;
}

function readOutBackward(readout, dy, T) {
  if (!readout) return dy;
  const { weight, O, H } = readout;
  const dh = new Float64Array(T * H);
  for (let t = 0; t < T; t++) {
    for (let r = 0; r < O; r++) {
      const d = dy[t * O + r];
      for (let k = 0; k < H; k++) dh[t * H + k] += weight[r * H + k] * d;
    }
  }
  return dh;
}

// ---- one layer in one direction

/** The steps of a direction in processing order. */
function order(reverse, T) {
  return Array.from({ length: T }, (_, n) => (reverse ? T - 1 - n : n));
}

function forwardDirection({ name, reverse, H, I, W, h0, c0 }, x, T) {
  const [h_prev, c_prev, i, f, o, g, c, tanh_c, h] = Array.from({ length: 9 }, () => new Float64Array(T * H));
  const z = new Float64Array(T * 4 * H);
  const u = new Float64Array(H + I + 1).fill(1); // the column [h_prev; x; 1]
  let last = [h0, c0];
  for (const t of order(reverse, T)) {
    const from = t * H;
    h_prev.set(last[0], from);
    c_prev.set(last[1], from);
    u.set(last[0], 0);
    u.set(x.subarray(t * I, (t + 1) * I), H);
    const z_t = z.subarray(4 * from, 4 * (from + H));
    product(W, u, z_t);
    for (let k = 0; k < H; k++) {
      const n = from + k;
      // equation: lstm-step
      i[n] = sigmoid(z_t[k]);
      f[n] = sigmoid(z_t[H + k]);
      o[n] = sigmoid(z_t[2 * H + k]);
      g[n] = Math.tanh(z_t[3 * H + k]);
      c[n] = f[n] * c_prev[n] + i[n] * g[n];
      tanh_c[n] = Math.tanh(c[n]);
      h[n] = o[n] * tanh_c[n];
    }
    last = [h.subarray(from, from + H), c.subarray(from, from + H)];
  }
  return { name, reverse, H, I, x, h_prev, c_prev, z, i, f, o, g, c, tanh_c, h };
}

/** Add the gradients to a direction, given d_y: the gradients on h from outside the layer. */
function backwardDirection({ W, H, I }, direction, d_y, T) {
  const { c_prev, i, f, o, g, tanh_c, reverse } = direction;
  const symbols = ["d_h", "d_o", "d_tanh_c", "d_c", "d_i", "d_f", "d_g", "output", "cell", "recurrent"];
  for (const symbol of symbols) direction[symbol] = new Float64Array(T * H);
  const { d_h, d_o, d_tanh_c, d_c, d_i, d_f, d_g, output, cell, recurrent } = direction;
  const d_z = new Float64Array(T * 4 * H);
  const d_x = new Float64Array(T * I);
  const d_u = new Float64Array(H + I + 1);
  // From the next step: on h through W_h, on c through f.
  const [d_h_next, d_c_next] = [0, 1].map(() => new Float64Array(H));
  for (const t of order(!reverse, T)) {
    const d_z_t = d_z.subarray(4 * t * H, 4 * (t + 1) * H);
    for (let k = 0; k < H; k++) {
      const n = t * H + k;
      // equation: lstm-step-backward
      const slope_of_shown = o[n] * (1 - tanh_c[n] * tanh_c[n]);
      d_h[n] = d_y[n] + d_h_next[k];
      d_o[n] = d_h[n] * tanh_c[n];
      d_tanh_c[n] = d_h[n] * o[n];
      d_c[n] = d_h[n] * slope_of_shown + d_c_next[k];
      d_i[n] = d_c[n] * g[n];
      d_f[n] = d_c[n] * c_prev[n];
      d_g[n] = d_c[n] * i[n];
      output[n] = d_y[n] * slope_of_shown;
      cell[n] = d_c_next[k];
      recurrent[n] = d_h_next[k] * slope_of_shown;
      d_c_next[k] = d_c[n] * f[n];
      d_z_t[k] = d_i[n] * i[n] * (1 - i[n]);
      d_z_t[H + k] = d_f[n] * f[n] * (1 - f[n]);
      d_z_t[2 * H + k] = d_o[n] * o[n] * (1 - o[n]);
      d_z_t[3 * H + k] = d_g[n] * (1 - g[n] * g[n]);
    }
    productTransposed(W, d_z_t, d_u);
    d_h_next.set(d_u.subarray(0, H));
    d_x.set(d_u.subarray(H, H + I), t * I);
  }
  Object.assign(direction, { d_y, d_z, d_x, d_h0: d_h_next, d_c0: d_c_next });
  defineLazily(direction, "dW", () => weightGradient(direction, T));
}

/** Σ_t dz_t [h_{t-1}; x_t; 1]ᵀ. Lazy, because it takes a third of the time of a pass and is rarely used. */
function weightGradient({ H, I, h_prev, x, d_z }, T) {
  const K = H + I + 1;
  const dW = new Float64Array(4 * H * K);
  for (let t = 0; t < T; t++) {
    for (let r = 0; r < 4 * H; r++) {
      const d = d_z[t * 4 * H + r];
      const row = r * K;
      for (let k = 0; k < H; k++) dW[row + k] += d * h_prev[t * H + k];
      for (let k = 0; k < I; k++) dW[row + H + k] += d * x[t * I + k];
      dW[row + H + I] += d;
    }
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

/** y = W u */
function product(W, u, y) {
  const K = u.length;
  for (let r = 0; r < y.length; r++) {
    let sum = 0;
    for (let k = 0, n = r * K; k < K; k++, n++) sum += W[n] * u[k];
    y[r] = sum;
  }
}

/** u = Wᵀ y */
function productTransposed(W, y, u) {
  const K = u.length;
  u.fill(0);
  for (let r = 0; r < y.length; r++) {
    const factor = y[r];
    for (let k = 0, n = r * K; k < K; k++, n++) u[k] += W[n] * factor;
  }
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
