// The sequences over which the page shows what a copy model does: all inputs of up to 8 bits, or a fixed sample.

import { halvesOf, hashOrder } from "./hash_order.js";
import { generator } from "./random.js";

const MOST_BITS_ENUMERATED = 8;
const SAMPLE = 256; // sequences of a sample
const FLIPPED = 512; // of these, sequences with one flipped bit
const LINEARISED = 32; // sequences of which the Jacobian is computed, fewer of large models
const LEAST_LINEARISED = 4;
const MOST_LINEARISED_PRODUCTS = 1e9;
const MOST_PRODUCTS = 2e9; // multiplications of all forward passes, about three seconds

/** Multiplications of one sequence through a model; a step takes as long as a few hundred. */
export function productsOf(model) {
  const ofLayers = model.layers.flatMap(({ directions }) => directions.map(({ H, I }) => 300 + 4 * H * (H + I + 1)));
  return model.T * ofLayers.reduce((sum, products) => sum + products, 0);
}

/**
 * The sequences of a copy task: {K, N, symbols (K, N), all}.
 *
 * All inputs are in the order of the Gray code, most significant bit first: sequence m has the bits of m ^ (m >> 1).
 * Otherwise they are drawn with a fixed seed.
 */
export function populationOf(model) {
  const K = model.bits.length;
  const products = productsOf(model);
  const most = Math.floor(MOST_PRODUCTS / products);
  const all = K <= MOST_BITS_ENUMERATED && 2 ** K <= most;
  const N = all ? 2 ** K : Math.min(SAMPLE, most);
  const draw = generator(1);
  const symbols = new Float64Array(K * N);
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k++) symbols[k * N + n] = all ? ((n ^ (n >> 1)) >> (K - 1 - k)) & 1 : Number(draw() < 0.5);
  }
  return { K, N, symbols, all };
}

/** The halves {fitted, scored} of these sequences, and their order, both by a hash as in glasscell/explain/samples.py. */
export function splitOf(model, population) {
  const hashes = hashOrder(inputsOf(model, population), population.N, model.payload.dtype);
  return { order: hashes.order, halves: halvesOf(hashes) };
}

/** The sequences with one flipped bit: {symbols (K, N), N, pairs}; of all inputs, no others are needed. */
export function flippedOf({ K, N, symbols, all }) {
  if (all) {
    const pairs = Array.from({ length: K }, (_, k) => Array.from({ length: N }, (_, n) => [n, grayIndex((n ^ (n >> 1)) ^ (1 << (K - 1 - k)))]));
    return { N: 0, symbols: null, pairs };
  }
  const each = Math.min(N, Math.floor(FLIPPED / K));
  const flipped = new Float64Array(K * each * K);
  const pairs = Array.from({ length: K }, () => []);
  for (let k = 0; k < K; k++) {
    for (let n = 0; n < each; n++) {
      const m = k * each + n;
      for (let j = 0; j < K; j++) flipped[j * each * K + m] = Math.abs(symbols[j * N + n] - Number(j === k));
      pairs[k].push([n, m]);
    }
  }
  return { K, N: each * K, symbols: flipped, pairs };
}

/** The number whose Gray code this is. */
function grayIndex(code) {
  let index = code;
  for (let shift = code >> 1; shift; shift >>= 1) index ^= shift;
  return index;
}

/** A fixed part of the sequences, of which the Jacobian is computed. */
export function linearisedOf(model, { K, N, symbols }) {
  const affordable = Math.floor(MOST_LINEARISED_PRODUCTS / (3 * K * productsOf(model)));
  const count = Math.min(N, LINEARISED, Math.max(LEAST_LINEARISED, affordable));
  const draw = generator(2);
  const chosen = Array.from({ length: count }, (_, n) => (N > count ? Math.floor(draw() * N) : n));
  return { K, N: count, symbols: columnsOf(symbols, K, N, chosen) };
}

function columnsOf(values, rows, N, chosen) {
  const count = chosen.length;
  const result = new Float64Array(rows * count);
  for (let r = 0; r < rows; r++) for (let n = 0; n < count; n++) result[r * count + n] = values[r * N + chosen[n]];
  return result;
}

/** The sequences with these numbers. */
export function chosenOf({ K, N, symbols }, numbers) {
  return { K, N: numbers.length, symbols: columnsOf(symbols, K, N, numbers) };
}

/** A part of the sequences, from one to another. */
export function partOf({ K, N, symbols }, from, to) {
  const chosen = Array.from({ length: Math.min(to, N) - from }, (_, n) => from + n);
  return { K, N: chosen.length, symbols: columnsOf(symbols, K, N, chosen) };
}

/** The inputs of sequences of bits: x[(t * I + feature) * N + n]. */
export function inputsOf({ T, I, payload }, { K, N, symbols }) {
  const { mode, bits_per_step: width } = payload.copy;
  const x = new Float64Array(T * I * N);
  for (let k = 0; k < K; k++) {
    const row = (Math.floor(k / width) * I + (k % width)) * N;
    for (let n = 0; n < N; n++) x[row + n] = 2 * symbols[k * N + n] - 1;
  }
  const delimiter = K / width;
  if (mode === "recall") x.fill(1, (delimiter * I + width) * N, (delimiter * I + width + 1) * N);
  return x;
}

/** The steps of the copy task: where each bit is the input and the target, and the delimiter, or -1. */
export function layoutOf({ payload, bits }) {
  const { mode, bits_per_step: width } = payload.copy;
  const K = bits.length;
  const recall = mode === "recall";
  const first = recall ? K / width + 1 : 0;
  const at = (start) => Array.from({ length: K }, (_, k) => start + Math.floor(k / width));
  return { K, width, enters: at(0), isRead: at(first), delimiter: recall ? K / width : -1 };
}
