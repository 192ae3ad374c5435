// The simple recurrent layer with tanh, in the layout of lstm.js. Equations: glasscell/core/rnn.py.

import { addOuter, addSums, order, product, productTransposed, repeated } from "./matrices.js";

function forward({ name, reverse, H, I, W, h0 }, x, { T, N, take }) {
  const size = H * N;
  const [h_prev, h] = ["h_prev", "h"].map((symbol) => take(symbol, T * size));
  const u = take("u", size + (I + 1) * N).fill(1); // the columns [h_prev; x; 1]
  let last = repeated(h0, N);
  for (const t of order(reverse, T)) {
    h_prev.set(last, t * size);
    u.set(last);
    u.set(x.subarray(t * I * N, (t + 1) * I * N), size);
    last = h.subarray(t * size, (t + 1) * size);
    product(W, u, last, N);
    // equation: rnn-step
    for (let k = 0; k < size; k++) last[k] = Math.tanh(last[k]);
  }
  return { kind: "rnn", name, reverse, H, I, x, h_prev, h };
}

function backward({ W, H, I }, direction, d_y, { T, N }) {
  const { x, h_prev, h, reverse, take } = direction;
  const [size, K] = [H * N, H + I + 1];
  const [d_h, d_z] = ["d_h", "d_z"].map((symbol) => take(symbol, T * size));
  const d_x = take("d_x", T * I * N);
  const d_u = take("d_u", size + (I + 1) * N);
  const d_h_next = take("d_h0", size).fill(0);
  const dW = take("dW", H * K).fill(0);
  for (const t of order(!reverse, T)) {
    const from = t * size;
    // equation: rnn-step-backward
    for (let n = from, k = 0; k < size; n++, k++) {
      d_h[n] = d_y[n] + d_h_next[k];
      d_z[n] = d_h[n] * (1 - h[n] * h[n]);
    }
    const d_z_t = d_z.subarray(from, from + size);
    productTransposed(W, d_z_t, d_u, N);
    d_h_next.set(d_u.subarray(0, size));
    d_x.set(d_u.subarray(size, size + I * N), t * I * N);
    addOuter(d_z_t, h_prev.subarray(from, from + size), dW, { N, across: K });
    addOuter(d_z_t, x.subarray(t * I * N, (t + 1) * I * N), dW, { N, across: K, first: H });
    addSums(d_z_t, dW, { N, across: K, first: H + I });
  }
  Object.assign(direction, { d_y, d_h, d_z, d_x, d_h0: d_h_next, dW });
}

export const rnn = { forward, backward };
