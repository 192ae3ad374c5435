// What a model does over a set of sequences: decodability, unit differences and dependency, as glasscell/explain defines
// them. The sequences run together: cells[(t * H + u) * N + n], outputs[(t * O + j) * N + n], symbols[k * N + n], 0 or 1.

const RIDGE = 1e-3; // share of the mean variance of the cells
const ROUNDING_UNITS = 64; // of a cell that is the same for all sequences, in units in the last place

/**
 * R² of a linear readout of each of K symbols from the cells of each step: r2[k * T + t].
 *
 * A ridge readout with an intercept is fitted on one half of the sequences and scored on the other:
 * 1 - Σ (y - ŷ)² / Σ (y - ȳ)², where ȳ is the mean of the fitted half. NaN if a half has one class.
 */
export function decodability({ cells, symbols, T, H, N, K }, { fitted, scored }, ridge = RIDGE) {
  const r2 = new Float64Array(K * T).fill(NaN);
  const targets = Array.from({ length: K }, (_, k) => symbols.subarray(k * N, (k + 1) * N));
  const means = targets.map((y) => meanOf(y, fitted));
  const isUsable = targets.map((y) => [fitted, scored].every((half) => half.some((n) => y[n] !== y[half[0]])));
  for (let t = 0; t < T; t++) {
    const step = cells.subarray(t * H * N, (t + 1) * H * N);
    const { weights, center } = readouts(step, targets, means, { H, N, fitted, ridge });
    for (let k = 0; k < K; k++) {
      if (!isUsable[k]) continue;
      let [residual, total] = [0, 0];
      for (const n of scored) {
        let predicted = means[k];
        for (let u = 0; u < H; u++) predicted += weights[k][u] * (step[u * N + n] - center[u]);
        residual += (targets[k][n] - predicted) ** 2;
        total += (targets[k][n] - means[k]) ** 2;
      }
      r2[k * T + t] = 1 - residual / total;
    }
  }
  return r2;
}

function meanOf(values, indices) {
  return indices.reduce((sum, n) => sum + values[n], 0) / indices.length;
}

/** Weights of the ridge readout of each target from the cells (H, N) of a step, and the means of the cells. */
function readouts(step, targets, means, { H, N, fitted, ridge }) {
  const count = fitted.length;
  const center = new Float64Array(H);
  const rows = Array.from({ length: H }, (_, u) => {
    const row = Float64Array.from(fitted, (n) => step[u * N + n]);
    const mean = row.reduce((sum, c) => sum + c, 0) / count;
    const largest = row.reduce((most, c) => Math.max(most, Math.abs(c)), 0);
    const deviation = Math.sqrt(row.reduce((sum, c) => sum + (c - mean) ** 2, 0) / count);
    center[u] = mean;
    const varies = deviation > ROUNDING_UNITS * Number.EPSILON * largest;
    return varies ? row.map((c) => c - mean) : row.fill(0);
  });
  const covariance = new Float64Array(H * H);
  for (let u = 0; u < H; u++) for (let v = 0; v <= u; v++) covariance[u * H + v] = dot(rows[u], rows[v]) / count;
  let variance = 0;
  for (let u = 0; u < H; u++) variance += covariance[u * H + u] / H;
  const nothing = () => new Float64Array(H);
  if (variance === 0) return { weights: targets.map(nothing), center };
  for (let u = 0; u < H; u++) covariance[u * H + u] += ridge * variance;
  factorise(covariance, H);
  const weights = targets.map((y, k) => {
    const centered = Float64Array.from(fitted, (n) => y[n] - means[k]);
    return solve(covariance, Float64Array.from(rows, (row) => dot(row, centered) / count), H);
  });
  return { weights, center };
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

/** Solve L Lᵀ x = b. */
function solve(L, b, H) {
  for (let i = 0; i < H; i++) {
    for (let k = 0; k < i; k++) b[i] -= L[i * H + k] * b[k];
    b[i] /= L[i * H + i];
  }
  for (let i = H - 1; i >= 0; i--) {
    for (let k = i + 1; k < H; k++) b[i] -= L[k * H + i] * b[k];
    b[i] /= L[i * H + i];
  }
  return b;
}

/**
 * E[c | symbol = 1] - E[c | symbol = 0] by step and unit, (T, H), with Welch's t: the difference divided by
 * √(v₁/n₁ + v₀/n₀), where v are variances with n - 1. t is 0 where all cells are equal.
 */
export function unitDifferences({ cells, symbols, T, H, N }, k) {
  const [difference, t] = [new Float64Array(T * H), new Float64Array(T * H)];
  const classes = [0, 1].map((value) =>
    Array.from({ length: N }, (_, n) => n).filter((n) => symbols[k * N + n] === value),
  );
  if (classes.some((of) => of.length < 2)) return { difference: difference.fill(NaN), t: t.fill(NaN) };
  for (let row = 0; row < T * H; row++) {
    const values = cells.subarray(row * N, (row + 1) * N);
    const [zero, one] = classes.map((of) => {
      const mean = meanOf(values, of);
      const squares = of.reduce((sum, n) => sum + (values[n] - mean) ** 2, 0);
      return { mean, error: squares / (of.length - 1) / of.length };
    });
    difference[row] = one.mean - zero.mean;
    const largest = Math.max(Math.abs(one.mean), Math.abs(zero.mean));
    if (Math.abs(difference[row]) <= ROUNDING_UNITS * Number.EPSILON * largest) difference[row] = 0;
    t[row] = difference[row] === 0 ? 0 : difference[row] / Math.sqrt(one.error + zero.error);
  }
  return { difference, t };
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
