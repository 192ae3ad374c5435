// The gradient on the cell states by the number of crossings of W_h on its way back.

import { GATES, run } from "./lstm.js";

export const CROSSINGS = 4; // parts: 0, 1, 2, and more

/** Gradients of a layer from a gradient on the outputs (T, O), in place of that of the loss. */
export function gradientsFrom(model, d_outputs) {
  return run({ ...model, targets: null, loss: null, d_outputs });
}

/**
 * Four arrays (T, H) that add up to d_c: the gradient that crosses W_h of this layer 0, 1, 2, and 3 or more times.
 *
 * At each step the gradient on h from outside the layer has crossed 0 times; what comes from dz of the next step
 * through W_h has crossed once more than dz. Along the cell, times f, the number stays.
 */
export function crossingsOf({ W, I }, { d_y, i, f, o, g, c_prev, tanh_c, H, reverse }, T) {
  const K = H + I + 1;
  const parts = Array.from({ length: CROSSINGS }, () => new Float64Array(T * H));
  const [dz, d_h, d_c_next] = [4 * H, H, H].map((size) => Array.from({ length: CROSSINGS }, () => new Float64Array(size)));
  for (let count = 0; count < T; count++) {
    const t = reverse ? count : T - 1 - count;
    for (let m = CROSSINGS - 1; m >= 0; m--) {
      d_h[m].fill(0);
      if (m === 0) d_h[0].set(d_y.subarray(t * H, (t + 1) * H));
      else addThrough(W, K, H, dz[m - 1], d_h[m]);
      if (m === CROSSINGS - 1) addThrough(W, K, H, dz[m], d_h[m]);
    }
    for (let m = 0; m < CROSSINGS; m++) {
      for (let k = 0; k < H; k++) {
        const n = t * H + k;
        const d_c = d_h[m][k] * o[n] * (1 - tanh_c[n] * tanh_c[n]) + d_c_next[m][k];
        parts[m][n] = d_c;
        d_c_next[m][k] = d_c * f[n];
        dz[m][k] = d_c * g[n] * i[n] * (1 - i[n]);
        dz[m][H + k] = d_c * c_prev[n] * f[n] * (1 - f[n]);
        dz[m][2 * H + k] = d_h[m][k] * tanh_c[n] * o[n] * (1 - o[n]);
        dz[m][3 * H + k] = d_c * i[n] * (1 - g[n] * g[n]);
      }
    }
  }
  return parts;
}

/** d_h += W_hᵀ dz */
function addThrough(W, K, H, dz, d_h) {
  for (let r = 0; r < GATES.length * H; r++) {
    const factor = dz[r];
    if (factor === 0) continue;
    for (let k = 0, n = r * K; k < H; k++, n++) d_h[k] += W[n] * factor;
  }
}
