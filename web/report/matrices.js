// Products of row-major matrices. The N columns of an operand are the sequences that run together.

export function sigmoid(z) {
  return 1 / (1 + Math.exp(-z));
}

/** The steps of a direction in processing order. */
export function order(reverse, T) {
  return Array.from({ length: T }, (_, n) => (reverse ? T - 1 - n : n));
}

/** A vector (H) as N equal columns, (H, N); columns (H, N) as they are. */
export function repeated(vector, N, H = vector.length) {
  if (vector.length === H * N) return vector;
  const result = new Float64Array(vector.length * N);
  vector.forEach((value, k) => result.fill(value, k * N, (k + 1) * N));
  return result;
}

/** y (R, N) = W (R, K) u (K, N) */
export function product(W, u, y, N = 1) {
  const [K, R] = [u.length / N, y.length / N];
  if (N > 1) return addProduct(W, u, y.fill(0), { N, rows: R, columns: K, down: K, across: 1 });
  for (let r = 0; r < R; r++) {
    let sum = 0;
    for (let k = 0, n = r * K; k < K; k++, n++) sum += W[n] * u[k];
    y[r] = sum;
  }
}

/** u (K, N) = Wᵀ y, where W is (R, K) and y (R, N) */
export function productTransposed(W, y, u, N = 1) {
  const [K, R] = [u.length / N, y.length / N];
  u.fill(0);
  if (N > 1) return addProduct(W, y, u, { N, rows: K, columns: R, down: 1, across: K });
  for (let r = 0; r < R; r++) {
    const factor = y[r];
    for (let k = 0, n = r * K; k < K; k++, n++) u[k] += W[n] * factor;
  }
}

/** y (rows, N) += A u, where element (r, k) of A is A[r · down + k · across]. Four columns of A at a time. */
function addProduct(A, u, y, { N, rows, columns, down, across }) {
  for (let r = 0; r < rows; r++) {
    const to = r * N;
    let k = 0;
    for (; k + 4 <= columns; k += 4) {
      const at = r * down + k * across;
      const a = A[at];
      const b = A[at + across];
      const c = A[at + 2 * across];
      const d = A[at + 3 * across];
      for (let n = 0, p = k * N; n < N; n++, p++)
        y[to + n] += a * u[p] + b * u[p + N] + c * u[p + 2 * N] + d * u[p + 3 * N];
    }
    for (; k < columns; k++) {
      const a = A[r * down + k * across];
      for (let n = 0, p = k * N; n < N; n++, p++) y[to + n] += a * u[p];
    }
  }
}

/** M (R, across) += d uᵀ in the columns from `first` on, where d is (R, N) and u (K, N). */
export function addOuter(d, u, M, { N, across, first = 0 }) {
  const [R, K] = [d.length / N, u.length / N];
  for (let r = 0; r < R; r++) {
    if (N === 1) {
      const factor = d[r];
      for (let k = 0, m = r * across + first; k < K; k++, m++) M[m] += factor * u[k];
      continue;
    }
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let n = 0, p = r * N, q = k * N; n < N; n++, p++, q++) sum += d[p] * u[q];
      M[r * across + first + k] += sum;
    }
  }
}

/** Add the sum of each row of d (R, N) to column `first` of M (R, across). */
export function addSums(d, M, { N, across = 1, first = 0 }) {
  for (let r = 0; r < d.length / N; r++) {
    let sum = 0;
    for (let n = r * N; n < (r + 1) * N; n++) sum += d[n];
    M[r * across + first] += sum;
  }
}
