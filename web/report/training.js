// Training of a small recurrent model on the copy task: random batches, the gradient of lstm.js, and Adam.

import { bitsRight, copyInputs, runAll, toColumns } from "./all_inputs.js";
import { copySequence } from "./copy_task.js";
import { Buffers, readOutGradient, run } from "./lstm.js";
import { generator } from "./random.js";

export const KINDS = { lstm: "LSTM", gru: "GRU", rnn: "tanh RNN" };
export const DEFAULTS = {
  kind: "lstm",
  bits: 4,
  units: 16,
  delay: 0,
  delayInputs: "silent",
  forgetBias: 0.5,
  clip: 1,
  learningRate: 0.01,
  batch: 32,
  seed: 1,
  initial: "orthogonal",
};
const TASK = { mode: "recall", bits_per_step: 1 };
const GATES = { lstm: 4, gru: 3, rnn: 1 };
// The gate that keeps the state, to whose bias the forget bias is added: f of the LSTM, z of the GRU.
const KEEPING = { lstm: 1, gru: 1 };

/**
 * A new model. "orthogonal": recurrent weights are orthogonal, others uniform as Glorot & Bengio (2010), biases 0;
 * "uniform": all weights and biases of the layer are uniform in ±1/√H, as in PyTorch.
 */
export function newModel({ kind, units: H, forgetBias, seed, initial = "orthogonal" }) {
  const [I, O, rows] = [2, 1, GATES[kind]];
  const next = generator(seed);
  const K = H + I + 1;
  const W = new Float64Array(rows * H * K);
  const between = (bound) => bound * (2 * next() - 1);
  for (let gate = 0; gate < rows; gate++) {
    const Q = initial === "orthogonal" ? orthogonal(H, next) : null;
    for (let r = 0; r < H; r++) {
      const row = (gate * H + r) * K;
      for (let k = 0; k < H; k++) W[row + k] = Q ? Q[r][k] : between(H ** -0.5);
      for (let k = H; k < H + I; k++) W[row + k] = between(Q ? Math.sqrt(6 / (H + I)) : H ** -0.5);
      W[row + K - 1] = (Q ? 0 : between(H ** -0.5)) + (gate === KEEPING[kind] ? forgetBias : 0);
    }
  }
  const zeros = () => new Float64Array(H);
  const direction = { kind, name: "l0", reverse: false, H, I, W, h0: zeros(), c0: zeros(), recurrent_bias: zeros() };
  const weight = Float64Array.from({ length: O * H }, () => between(Math.sqrt(6 / (H + O))));
  return {
    live: true,
    I,
    O,
    layers: [{ name: "l0", merge: "concat", directions: [direction] }],
    readout: { weight, bias: new Float64Array(O), O, H },
    loss: "binary_cross_entropy",
    payload: { copy: TASK },
  };
}

/** The model of these options: a new one, or with `weights` {layers, readout, loss, I, O} one that stays as it is. */
function modelOf(options) {
  return options.weights ? { live: true, payload: { copy: TASK }, ...options.weights } : newModel(options);
}

/** Rows of a random orthogonal matrix: normal numbers, made orthonormal by Gram and Schmidt's method. */
function orthogonal(size, next) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const rows = [];
  while (rows.length < size) {
    const row = Float64Array.from({ length: size }, normal);
    for (let round = 0; round < 2; round++) {
      for (const other of rows) {
        const share = row.reduce((sum, value, k) => sum + value * other[k], 0);
        for (let k = 0; k < size; k++) row[k] -= share * other[k];
      }
    }
    const norm = Math.hypot(...row);
    if (norm > 1e-6) rows.push(row.map((value) => value / norm));
  }
  return rows;
}

export class Training {
  constructor(options) {
    this.options = { ...DEFAULTS, ...options };
    const { seed, bits, delay, delayInputs } = this.options;
    this.model = modelOf(this.options);
    this.next = generator(seed + 1_000_003);
    this.buffers = new Buffers();
    this.all = copyInputs(TASK, bits, { delay, distracted: delayInputs === "random" });
    this.updates = 0;
    const [direction] = this.model.layers[0].directions;
    const { readout } = this.model;
    this.parameters = [direction.W, readout.weight, readout.bias];
    if (direction.kind === "gru") this.parameters.push(direction.recurrent_bias);
    this.moments = this.parameters.map(({ length }) => [new Float64Array(length), new Float64Array(length)]);
  }

  /** A random batch, in the columns of lstm.js. */
  draw() {
    const { bits, delay, delayInputs, batch: N } = this.options;
    const next = delayInputs === "random" ? this.next : null;
    const sequences = Array.from({ length: N }, () =>
      copySequence(Uint8Array.from({ length: bits }, () => this.next() < 0.5), TASK, delay, next),
    );
    const columnsOf = (name) => {
      const joined = new Float64Array(N * sequences[0][name].length);
      sequences.forEach((sequence, n) => joined.set(sequence[name], n * sequence[name].length));
      return toColumns(joined, N);
    };
    const { T, weights } = sequences[0];
    return { T, N, x: columnsOf("x"), targets: columnsOf("targets"), weights };
  }

  /** The loss of a batch, and its gradients in the order of the parameters. */
  gradients(batch) {
    const trace = run({ ...this.model, ...batch }, { buffers: this.buffers });
    const [direction] = trace.layers[0].directions;
    const { weight, bias } = readOutGradient(this.model.readout, trace);
    const gradients = [direction.dW, weight, bias];
    if (direction.kind === "gru") gradients.push(direction.d_recurrent_bias);
    return { loss: trace.loss, gradients };
  }

  /** One update; returns the loss before it, and the norm of the gradient before it is clipped. */
  update() {
    const { loss, gradients } = this.gradients(this.draw());
    const { clip, learningRate } = this.options;
    const norm = Math.sqrt(gradients.reduce((sum, array) => sum + squares(array), 0));
    const factor = norm > clip ? clip / norm : 1;
    this.updates++;
    this.parameters.forEach((values, p) => {
      adam(values, gradients[p], this.moments[p], { factor, learningRate, count: this.updates });
    });
    return { loss, norm };
  }

  /** The share of bits that are right, over all inputs or a sample of 256. */
  share() {
    return bitsRight(runAll(this.model, { ...this.all, targets: null }).logits, this.all).all;
  }

  /**
   * The norm of the gradient on the state at each step, its mean over the inputs: on c of an LSTM and on h of the others,
   * or with `hidden` on h of all. {state (T), hidden (T)}
   */
  gradientNorms() {
    const { kind } = this.options;
    const symbols = kind === "lstm" ? ["d_c", "d_h"] : ["d_h"];
    const layer = this.model.layers.length - 1;
    const { recorded, N, T } = runAll(this.model, this.all, { record: symbols.map((symbol) => ({ symbol, layer })) });
    const norms = recorded.map((values) => meanNorms(values, N, T));
    return { state: norms[0], hidden: norms[norms.length - 1] };
  }

  /** The values of one input at every step: {symbol: (T, H)}, of the symbols or all that are shown, and the logits. */
  view(bits, symbols = SHOWN[this.options.kind]) {
    const { delay, delayInputs } = this.options;
    const sequence = copySequence(bits, TASK, delay, delayInputs === "random" ? generator(1) : null);
    const trace = run({ ...this.model, ...sequence }, { backward: false });
    const [direction] = trace.layers[trace.layers.length - 1].directions;
    const values = Object.fromEntries(symbols.map((symbol) => [symbol, direction[symbol].slice()]));
    return { T: sequence.T, H: direction.H, values, logits: trace.outputs.slice() };
  }
}

/** The quantities of a kind that are shown, in the order of its equations. */
export const SHOWN = {
  lstm: ["i", "f", "o", "g", "c", "h"],
  gru: ["r", "z", "n", "h"],
  rnn: ["h"],
};

function squares(array) {
  let sum = 0;
  for (const value of array) sum += value * value;
  return sum;
}

/** One update of Adam: Kingma & Ba (2015), algorithm 1. The gradient is multiplied by `factor`. */
export function adam(values, gradient, [mean, square], { factor, learningRate, count }) {
  const [beta1, beta2, epsilon] = [0.9, 0.999, 1e-8];
  const [scale1, scale2] = [1 - beta1 ** count, 1 - beta2 ** count];
  for (let n = 0; n < values.length; n++) {
    const d = gradient[n] * factor;
    mean[n] = beta1 * mean[n] + (1 - beta1) * d;
    square[n] = beta2 * square[n] + (1 - beta2) * d * d;
    values[n] -= (learningRate * mean[n]) / scale1 / (Math.sqrt(square[n] / scale2) + epsilon);
  }
}

/** The mean over N sequences of the norm of each row, of values (N, T, H). */
function meanNorms(values, N, T) {
  const H = values.length / (N * T);
  const norms = new Float64Array(T);
  for (let row = 0; row < N * T; row++) {
    norms[row % T] += Math.sqrt(squares(values.subarray(row * H, (row + 1) * H))) / N;
  }
  return norms;
}
