// The gated recurrent unit, its reset gate after the product, in the layout of lstm.js. Equations: glasscell/core/gru.py.
// z is the update gate; pre-activations are called a, rows r z n.

import { addOuter, addSums, order, product, productTransposed, repeated, sigmoid } from "./matrices.js";

function forward({ name, reverse, H, I, W, recurrent_bias, h0 }, x, { T, N, take }) {
  const size = H * N;
  const [h_prev, r, z, n, q, h] = ["h_prev", "r", "z", "n", "q", "h"].map((symbol) => take(symbol, T * size));
  // The products with h_prev and with [x; 1] are apart, because r multiplies a part of one of them.
  const [U, V] = split(W, H, I);
  const u = take("u", (I + 1) * N).fill(1);
  const [from_h, from_x] = ["from_h", "from_x"].map((symbol) => take(symbol, 3 * size));
  const b = repeated(recurrent_bias, N);
  let last = repeated(h0, N);
  for (const t of order(reverse, T)) {
    const from = t * size;
    h_prev.set(last, from);
    u.set(x.subarray(t * I * N, (t + 1) * I * N));
    product(U, last, from_h, N);
    product(V, u, from_x, N);
    // equation: gru-step
    for (let k = 0, m = from; k < size; k++, m++) {
      r[m] = sigmoid(from_h[k] + from_x[k]);
      z[m] = sigmoid(from_h[size + k] + from_x[size + k]);
      q[m] = from_h[2 * size + k] + b[k];
      n[m] = Math.tanh(from_x[2 * size + k] + r[m] * q[m]);
      h[m] = n[m] + z[m] * (h_prev[m] - n[m]);
    }
    last = h.subarray(from, from + size);
  }
  return { kind: "gru", name, reverse, H, I, x, h_prev, r, z, n, q, h, U, V };
}

function backward({ H, I }, direction, d_y, { T, N }) {
  const { x, h_prev, r, z, n, q, reverse, take, U, V } = direction;
  const [size, K] = [H * N, H + I + 1];
  const d_h = take("d_h", T * size);
  const d_a = take("d_a", T * 3 * size); // r z n
  const by_h = take("d_a by h", 3 * size); // the same, with d_q in place of n
  const d_x = take("d_x", T * I * N);
  const d_u = take("d_u", (I + 1) * N);
  const through = take("d_h through", size);
  const d_h_next = take("d_h0", size).fill(0);
  const dW = take("dW", 3 * H * K).fill(0);
  const dU = take("dU", 3 * H * H).fill(0);
  const sums = take("sums", 3 * H).fill(0);
  for (const t of order(!reverse, T)) {
    const from = t * size;
    const d_a_t = d_a.subarray(3 * from, 3 * (from + size));
    // equation: gru-step-backward
    for (let k = 0, m = from; k < size; k++, m++) {
      d_h[m] = d_y[m] + d_h_next[k];
      const d_n = d_h[m] * (1 - z[m]) * (1 - n[m] * n[m]);
      d_a_t[k] = by_h[k] = d_n * q[m] * r[m] * (1 - r[m]);
      d_a_t[size + k] = by_h[size + k] = d_h[m] * (h_prev[m] - n[m]) * z[m] * (1 - z[m]);
      d_a_t[2 * size + k] = d_n;
      by_h[2 * size + k] = d_n * r[m];
    }
    productTransposed(U, by_h, through, N);
    for (let k = 0, m = from; k < size; k++, m++) d_h_next[k] = d_h[m] * z[m] + through[k];
    productTransposed(V, d_a_t, d_u, N);
    d_x.set(d_u.subarray(0, I * N), t * I * N);
    addOuter(by_h, h_prev.subarray(from, from + size), dU, { N, across: H });
    addOuter(d_a_t, x.subarray(t * I * N, (t + 1) * I * N), dW, { N, across: K, first: H });
    addSums(d_a_t, dW, { N, across: K, first: H + I });
    addSums(by_h, sums, { N });
  }
  for (let row = 0; row < 3 * H; row++) dW.set(dU.subarray(row * H, (row + 1) * H), row * K);
  Object.assign(direction, { d_y, d_h, d_a, d_x, d_h0: d_h_next, dW, d_recurrent_bias: sums.subarray(2 * H) });
}

/** The columns of W for h_prev, and those for [x; 1]. */
function split(W, H, I) {
  const [rows, K] = [W.length / (H + I + 1), H + I + 1];
  const [U, V] = [new Float64Array(rows * H), new Float64Array(rows * (I + 1))];
  for (let row = 0; row < rows; row++) {
    U.set(W.subarray(row * K, row * K + H), row * H);
    V.set(W.subarray(row * K + H, (row + 1) * K), row * (I + 1));
  }
  return [U, V];
}

export const gru = { forward, backward };
