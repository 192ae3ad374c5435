// The gradient on the cell states by the number of crossings of W_h on its way back.

import { backwardLSTM, run } from "./lstm.js";
import { productTransposed } from "./matrices.js";

export const CROSSINGS = 4; // parts: 0, 1, 2, and more

/** Gradients of a layer from a gradient on the outputs (T, O), in place of that of the loss. */
export function gradientsFrom(model, d_outputs) {
  return run({ ...model, targets: null, loss: null, d_outputs });
}

/**
 * Four arrays (T, H) that add up to d_c: the gradient that crosses W_h of this layer 0, 1, 2, and 3 or more times.
 *
 * A backward pass with W_h = 0 gives the part that does not cross it; what its dz would have handed on through W_h is the
 * gradient on h of the passes that cross it once more, and so forth: glasscell/explain/crossings.py. Interventions act on
 * the gradient in each pass, as in that of the whole.
 */
export function crossingsOf(weights, { d_y, x, h_prev, c_prev, i, f, o, g, tanh_c, reverse, edits }, T) {
  const forward = { x, h_prev, c_prev, i, f, o, g, tanh_c, reverse, edits };
  const { H, I } = weights;
  const K = H + I + 1;
  const cut = { ...weights, W: weights.W.map((w, n) => (n % K < H ? 0 : w)) };
  const part = (of, source) => {
    const direction = { ...forward, take: (_, size) => new Float64Array(size) };
    backwardLSTM(of, direction, source, { T, N: 1 });
    return direction;
  };
  const parts = [];
  let source = d_y;
  while (parts.length < CROSSINGS) {
    const isRest = parts.length === CROSSINGS - 1;
    const { d_c, d_z } = part(isRest ? weights : cut, source);
    parts.push(d_c);
    if (!isRest) source = throughRecurrent(weights, forward, d_z, T);
  }
  return parts;
}

/** The gradient on each h from dz of the next step, through W_h. */
function throughRecurrent({ W, H, I }, { edits, reverse }, d_z, T) {
  const d_h = new Float64Array(T * H);
  const d_u = new Float64Array(H + I + 1);
  for (let t = 0; t < T; t++) {
    const before = reverse ? t + 1 : t - 1;
    if (before < 0 || before >= T) continue;
    productTransposed(W, d_z.subarray(4 * t * H, 4 * (t + 1) * H), d_u);
    edits?.cut(d_u, t);
    d_h.set(d_u.subarray(0, H), before * H);
  }
  return d_h;
}
