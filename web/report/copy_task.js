// Inputs, targets and weights of the copy task, as glasscell/tasks/copy.py defines them.

/**
 * One sequence: {T, x (T, k + 1), targets (T, k), weights (T)}, from bits such as "1101" or an array of 0 and 1.
 * delay: steps between the bits and the delimiter, silent or, with next() of random numbers, of bits to ignore.
 */
export function copySequence(bits, { mode, bits_per_step: k }, delay = 0, next = null) {
  const S = bits.length / k;
  const recall = mode === "recall";
  const T = recall ? 2 * S + 1 + delay : S;
  const answer = recall ? S + delay + 1 : 0; // the first step with a target
  const x = new Float64Array(T * (k + 1)); // silence is 0
  const targets = new Float64Array(T * k);
  const weights = new Float64Array(T);
  for (let n = 0; n < bits.length; n++) {
    const [step, channel] = [Math.floor(n / k), n % k];
    x[step * (k + 1) + channel] = 2 * Number(bits[n]) - 1;
    targets[(answer + step) * k + channel] = Number(bits[n]);
    weights[answer + step] = 1;
  }
  if (recall && next)
    for (let t = S; t < S + delay; t++) for (let n = 0; n < k; n++) x[t * (k + 1) + n] = next() < 0.5 ? -1 : 1;
  if (recall) x[(S + delay) * (k + 1) + k] = 1; // the delimiter
  return { T, x, targets, weights };
}

/** Replace the bits of a model, such as "1101": inputs, targets, weights and T are recomputed. */
export function setBits(model, bits) {
  const { copy } = model.payload;
  const k = copy.bits_per_step;
  if (!/^[01]*$/.test(bits) || bits.length % k) {
    throw new Error(`bits must be characters 0 and 1${k > 1 ? `, ${k} per step` : ""}, got "${bits}"`);
  }
  return Object.assign(model, copySequence(bits, copy), { bits });
}
