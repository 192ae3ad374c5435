// What a model does over a set of sequences: decodability, unit differences and dependency, as glasscell/explain defines
// them. The sequences run together: cells[(t * H + u) * N + n], outputs[(t * O + j) * N + n], symbols[k * N + n], 0 or 1.

import { tTestP } from "./statistics.js";

const RIDGES = [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000, Infinity]; // to choose from, in units of the mean variance of the cells
const SMALLEST_REMAINDER = 1e-12; // of 1 - leverage
const ROUNDING_UNITS = 64; // of a cell that is the same for all sequences, in units in the last place

/**
 * R² of a linear readout of each of K symbols from the cells of each step: r2[k * T + t].
 *
 * A ridge readout with an intercept is fitted on one half of the sequences and scored on the other:
 * 1 - Σ (y - ŷ)² / Σ (y - ȳ)², where ȳ is the mean of the fitted half. NaN if a half has one class. The penalty is the
 * largest one whose leave-one-out error is within one standard error of the smallest.
 */
export function decodability(sample, halves) {
  const { T, K } = sample;
  const r2 = new Float64Array(K * T).fill(NaN);
  for (let t = 0; t < T; t++) decodabilityOfStep(sample, halves, t).forEach((value, k) => (r2[k * T + t] = value));
  return r2;
}

/** R² of each symbol at one step. */
export function decodabilityOfStep({ cells, symbols, H, N, K }, { fitted, scored }, t) {
  const step = cells.subarray(t * H * N, (t + 1) * H * N);
  const readouts = new Readouts(step, { H, N, fitted });
  return Array.from({ length: K }, (_, k) => {
    const y = symbols.subarray(k * N, (k + 1) * N);
    if (![fitted, scored].every((half) => half.some((n) => y[n] !== y[half[0]]))) return NaN;
    const mean = meanOf(y, fitted);
    const weights = readouts.fit(Float64Array.from(fitted, (n) => y[n] - mean));
    let [residual, total] = [0, 0];
    for (const n of scored) {
      let predicted = mean;
      for (let u = 0; u < H; u++) predicted += weights[u] * (step[u * N + n] - readouts.center[u]);
      residual += (y[n] - predicted) ** 2;
      total += (y[n] - mean) ** 2;
    }
    return 1 - residual / total;
  });
}

function meanOf(values, indices) {
  let sum = 0;
  for (const n of indices) sum += values[n];
  return sum / indices.length;
}

/** Ridge readouts of the same cells (H, N) of a step. */
class Readouts {
  constructor(step, { H, N, fitted }) {
    const count = fitted.length;
    this.H = H;
    this.center = new Float64Array(H);
    this.rows = Array.from({ length: H }, (_, u) => {
      const row = Float64Array.from(fitted, (n) => step[u * N + n]);
      const mean = row.reduce((sum, c) => sum + c, 0) / count;
      const largest = row.reduce((most, c) => Math.max(most, Math.abs(c)), 0);
      const deviation = Math.sqrt(row.reduce((sum, c) => sum + (c - mean) ** 2, 0) / count);
      this.center[u] = mean;
      const varies = deviation > ROUNDING_UNITS * Number.EPSILON * largest;
      return varies ? row.map((c) => c - mean) : row.fill(0);
    });
    const products = new Float64Array(H * H);
    for (let u = 0; u < H; u++) for (let v = 0; v <= u; v++) products[u * H + v] = dot(this.rows[u], this.rows[v]);
    let square = 0;
    for (let u = 0; u < H; u++) square += products[u * H + u] / H;
    this.penalties = (square ? RIDGES : [Infinity]).map((ridge) => this.prepare(products, ridge, square, count));
  }

  /** The Cholesky factor of XᵀX + penalty, and 1 - leverage of each sequence. */
  prepare(products, ridge, square, count) {
    const { H, rows } = this;
    const remainder = new Float64Array(count).fill(1 - 1 / count);
    if (ridge === Infinity) return { factor: null, remainder };
    const factor = products.slice();
    for (let u = 0; u < H; u++) factor[u * H + u] += ridge * square;
    factorise(factor, H);
    const x = new Float64Array(H);
    for (let n = 0; n < count; n++) {
      for (let u = 0; u < H; u++) x[u] = rows[u][n];
      forwardSubstitute(factor, x, H);
      remainder[n] = Math.max(remainder[n] - dot(x, x), SMALLEST_REMAINDER);
    }
    return { factor, remainder };
  }

  /** The weights of the readout of a centred target, with the penalty that is chosen by leave-one-out errors. */
  fit(y) {
    const { H, rows } = this;
    const projected = Float64Array.from(rows, (row) => dot(row, y));
    const candidates = this.penalties.map(({ factor, remainder }) => {
      const weights = factor ? solve(factor, projected.slice(), H) : new Float64Array(H);
      const errors = y.slice();
      for (let u = 0; u < H; u++) for (let n = 0; n < y.length; n++) errors[n] -= weights[u] * rows[u][n];
      for (let n = 0; n < y.length; n++) errors[n] = (errors[n] / remainder[n]) ** 2;
      return { weights, errors, mean: average(errors) };
    });
    const best = candidates.reduce((a, b) => (b.mean < a.mean ? b : a));
    return candidates.findLast(({ errors }) => {
      const excess = errors.map((error, n) => error - best.errors[n]);
      const mean = average(excess);
      const deviation = Math.sqrt(average(excess.map((value) => (value - mean) ** 2)));
      return mean <= deviation / Math.sqrt(y.length);
    }).weights;
  }
}

function average(values) {
  let sum = 0;
  for (let n = 0; n < values.length; n++) sum += values[n];
  return sum / values.length;
}

function dot(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return sum;
}

/** Replace the lower triangle of a positive definite matrix with its Cholesky factor. */
function factorise(A, H) {
  for (let j = 0; j < H; j++) {
    for (let i = j; i < H; i++) {
      let sum = A[i * H + j];
      for (let k = 0; k < j; k++) sum -= A[i * H + k] * A[j * H + k];
      A[i * H + j] = i === j ? Math.sqrt(sum) : sum / A[j * H + j];
    }
  }
}

/** Solve L z = b in place. */
function forwardSubstitute(L, b, H) {
  for (let i = 0; i < H; i++) {
    let sum = b[i];
    for (let k = 0; k < i; k++) sum -= L[i * H + k] * b[k];
    b[i] = sum / L[i * H + i];
  }
}

/** Solve L Lᵀ x = b in place. */
function solve(L, b, H) {
  forwardSubstitute(L, b, H);
  for (let i = H - 1; i >= 0; i--) {
    for (let k = i + 1; k < H; k++) b[i] -= L[k * H + i] * b[k];
    b[i] /= L[i * H + i];
  }
  return b;
}

/**
 * Differences of each unit between sequences with and without symbol k: {difference (T, H), p (T, H)}.
 *
 * difference: E[c | 1] - E[c | 0]; p: of Welch's t test. Differences of the size of rounding errors count as none.
 */
export function unitDifferences({ cells, symbols, T, H, N }, k) {
  const [difference, p] = [new Float64Array(T * H).fill(NaN), new Float64Array(T * H).fill(NaN)];
  const classes = [0, 1].map((value) => every(N).filter((n) => symbols[k * N + n] === value));
  if (classes.some((of) => of.length < 2)) return { difference, p };
  const largest = new Float64Array(H);
  for (let n = 0; n < cells.length; n++) {
    const u = Math.floor(n / N) % H;
    largest[u] = Math.max(largest[u], Math.abs(cells[n]));
  }
  for (let row = 0; row < T * H; row++) {
    const values = cells.subarray(row * N, (row + 1) * N);
    const [zero, one] = classes.map((of) => momentsOf(values, of));
    difference[row] = one.mean - zero.mean;
    const isReal = Math.abs(difference[row]) > ROUNDING_UNITS * Number.EPSILON * largest[row % H];
    p[row] = isReal ? welchP(difference[row], zero, one) : 1;
  }
  return { difference, p };
}

function every(N) {
  return Array.from({ length: N }, (_, n) => n);
}

function momentsOf(values, indices) {
  const mean = meanOf(values, indices);
  let squares = 0;
  for (const n of indices) squares += (values[n] - mean) ** 2;
  return { mean, error: squares / (indices.length * (indices.length - 1)), freedom: indices.length - 1 };
}

function welchP(difference, ...groups) {
  const error = groups[0].error + groups[1].error;
  const freedom = groups.reduce((sum, group) => sum + group.error ** 2 / group.freedom, 0);
  return freedom > 0 ? tTestP(difference / Math.sqrt(error), error ** 2 / freedom) : 0;
}

/**
 * How much each output depends on each symbol: the mean of |y(x with symbol k flipped) - y(x)| over sequences,
 * result[j * K + k].
 *
 * @param places the element of each output in the rows of outputs: t * O + j
 * @param pairs for each symbol a list of [n, index of the flipped sequence in `flipped`]
 */
export function dependency({ outputs, N }, flipped, places, pairs) {
  const result = new Float64Array(places.length * pairs.length);
  places.forEach((place, j) => {
    pairs.forEach((ofSymbol, k) => {
      let sum = 0;
      for (const [n, m] of ofSymbol) sum += Math.abs(flipped.outputs[place * flipped.N + m] - outputs[place * N + n]);
      result[j * pairs.length + k] = sum / ofSymbol.length;
    });
  });
  return result;
}
