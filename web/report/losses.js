// Losses and their gradients, as glasscell/core/losses.py defines them: means or weighted means over all elements.

/**
 * The loss of outputs (T, O) and its gradient; weights (T), (T, O) or null. Both are multiplied by the share.
 * With weights per output, each output counts as one step.
 */
export function lossOf(name, outputs, targets, weights, steps, share = 1) {
  const T = weights ? weights.length : steps;
  if (!(name in ROWS)) throw new Error(`loss must be one of ${Object.keys(ROWS).join(", ")}, got ${name}`);
  const O = outputs.length / T;
  const ofClasses = name === "categorical_cross_entropy";
  const gradient = new Float64Array(outputs.length);
  let total = 0;
  let count = 0;
  for (let t = 0; t < T; t++) {
    const weight = weights ? weights[t] : 1;
    const row = [t * O, (t + 1) * O];
    const target = ofClasses ? targets[t] : targets.subarray(...row);
    const d = gradient.subarray(...row);
    total += weight * ROWS[name](outputs.subarray(...row), target, d);
    count += weight * (ofClasses ? 1 : O);
    for (let k = 0; k < O; k++) d[k] *= weight;
  }
  if (count === 0) return [0, gradient.fill(0)];
  return [(share * total) / count, gradient.map((d) => (share * d) / count)];
}

/** Whether output k at step t counts in the loss. */
export function hasTarget({ weights, T, O }, t, k) {
  return !weights || weights[weights.length === T ? t : t * O + k] !== 0;
}

/** The predictions of outputs (T, O): probabilities, or for the squared error the outputs. */
export function predictions(name, outputs, T) {
  if (name === "binary_cross_entropy") return outputs.map((y) => 1 / (1 + Math.exp(-y)));
  if (name !== "categorical_cross_entropy") return outputs;
  const O = outputs.length / T;
  const answers = new Float64Array(outputs.length);
  for (let t = 0; t < T; t++) softmax(outputs.subarray(t * O, (t + 1) * O), answers.subarray(t * O, (t + 1) * O));
  return answers;
}

// Each function takes a row of outputs and its target, writes the gradient and returns the sum of the losses.
const ROWS = {
  binary_cross_entropy(y, target, d) {
    let sum = 0;
    for (let k = 0; k < y.length; k++) {
      const odds = Math.exp(-Math.abs(y[k]));
      const small = odds / (1 + odds); // σ(-|y|), accurate for targets of 0 and 1
      sum += Math.max(y[k], 0) - y[k] * target[k] + Math.log1p(odds);
      d[k] = y[k] > 0 ? 1 - target[k] - small : small - target[k];
    }
    return sum;
  },
  squared_error(y, target, d) {
    let sum = 0;
    for (let k = 0; k < y.length; k++) {
      const difference = y[k] - target[k];
      sum += difference * difference;
      d[k] = 2 * difference;
    }
    return sum;
  },
  categorical_cross_entropy(y, target, d) {
    const logarithm = softmax(y, d);
    d[target] -= 1;
    return logarithm - y[target];
  },
};

/** Write softmax(y), and return log Σ e^y. */
function softmax(y, into) {
  const largest = y.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let k = 0; k < y.length; k++) sum += into[k] = Math.exp(y[k] - largest);
  for (let k = 0; k < y.length; k++) into[k] /= sum;
  return Math.log(sum) + largest;
}
