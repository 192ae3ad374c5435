// Inputs, targets and weights of the copy task, as glasscell/tasks/copy.py defines them.

/** Replace the bits of a model, such as "1101": inputs, targets, weights and T are recomputed. */
export function setBits(model, bits) {
  const { mode, bits_per_step: k } = model.payload.copy;
  if (!/^[01]*$/.test(bits) || bits.length % k) {
    throw new Error(`bits must be characters 0 and 1${k > 1 ? `, ${k} per step` : ""}, got "${bits}"`);
  }
  const S = bits.length / k;
  const recall = mode === "recall";
  const T = recall ? 2 * S + 1 : S;
  const answer = recall ? S + 1 : 0; // the first step with a target
  const x = new Float64Array(T * (k + 1)); // silence is 0
  const targets = new Float64Array(T * k);
  const weights = new Float64Array(T);
  for (let n = 0; n < bits.length; n++) {
    const [step, channel] = [Math.floor(n / k), n % k];
    x[step * (k + 1) + channel] = 2 * Number(bits[n]) - 1;
    targets[(answer + step) * k + channel] = Number(bits[n]);
    weights[answer + step] = 1;
  }
  if (recall) x[S * (k + 1) + k] = 1; // the delimiter
  return Object.assign(model, { T, x, targets, weights, bits });
}
