// A model on many inputs at once: outputs, losses, and any quantity of any layer.
//
// The sequences run together as the columns of lstm.js, in parts that fit into memory whose arrays are reused.

import { copySequence } from "./copy_task.js";
import { lossOf } from "./losses.js";
import { Buffers, run } from "./lstm.js";
import { generator } from "./random.js";

const DISTRACTED = 64; // sequences with random bits
const MAX_VALUES = 4e5; // steps × units × sequences of a part
const buffers = new Buffers();

/**
 * All bit strings of a length as inputs of the copy task, or if there are more than `limit`, a random sample.
 *
 * delay: of copySequence(); distracted: with random bits in it, in several copies of each bit string.
 *
 * {N, T, length, complete, bits (N, length), x (N, T, I), targets (N, T, O), weights (T)}
 */
export function copyInputs(task, length, { limit = 256, seed = 1, delay = 0, distracted = false } = {}) {
  const complete = 2 ** length <= limit;
  const copies = distracted && complete ? Math.max(1, Math.floor(DISTRACTED / 2 ** length)) : 1;
  const N = complete ? copies * 2 ** length : limit;
  const next = generator(seed);
  const bits = new Uint8Array(N * length);
  const bitOf = (n, k) => (complete ? ((n / copies) >> (length - 1 - k)) & 1 : Number(next() < 0.5));
  for (let n = 0; n < N; n++) for (let k = 0; k < length; k++) bits[n * length + k] = bitOf(n, k);
  const sequences = Array.from({ length: N }, (_, n) =>
    copySequence(bits.subarray(n * length, (n + 1) * length), task, delay, distracted ? next : null),
  );
  const joined = (name) => concatenated(sequences.map((sequence) => sequence[name]));
  const { T, weights } = sequences[0];
  return { N, T, length, complete, bits, x: joined("x"), targets: joined("targets"), weights };
}

/**
 * Run a model on inputs {N, T, x (N, T, I)}, and with targets (N, T, O) and weights (T) or null for the losses.
 *
 * record: [{symbol, layer, direction}], the quantities that are returned. Gradients such as "d_c" are those of the loss
 * of each sequence. The interventions of the model apply.
 *
 * @returns {N, T, O, logits (N, T, O), losses (N) or null, recorded: [(N, T, rows)]}
 */
export function runAll(model, inputs, { record = [] } = {}) {
  const { N, T } = inputs;
  const [I, O] = [inputs.x.length / (N * T), model.O];
  const units = model.layers.reduce((sum, { directions }) => sum + directions.length * directions[0].H, 0);
  const size = Math.max(1, Math.min(N, Math.floor(MAX_VALUES / (T * units))));
  const hasLoss = Boolean(inputs.targets && model.loss);
  const result = { N, T, O, logits: new Float64Array(N * T * O), losses: hasLoss ? new Float64Array(N) : null };
  result.recorded = record.map(() => null);
  const backward = record.some(({ symbol }) => symbol.startsWith("d_"));
  for (let first = 0; first < N; first += size) {
    const count = Math.min(size, N - first);
    const x = toColumns(inputs.x.subarray(first * T * I, (first + count) * T * I), count);
    const part = { ...model, N: count, T, x, targets: null, loss: null, d_outputs: null };
    let trace = run(part, { buffers, backward: false });
    const logits = result.logits.subarray(first * T * O, (first + count) * T * O);
    fromColumns(trace.outputs, logits, count);
    const gradients = hasLoss ? lossesOf(model, inputs, logits, first, result.losses) : null;
    if (backward && gradients) trace = run({ ...part, d_outputs: toColumns(gradients, count) }, { buffers });
    record.forEach(({ symbol, layer = 0, direction = 0 }, r) => {
      const values = trace.layers[layer].directions[direction][symbol];
      const rows = values.length / count;
      result.recorded[r] ??= new Float64Array(N * rows);
      fromColumns(values, result.recorded[r].subarray(first * rows, (first + count) * rows), count);
    });
  }
  return result;
}

/** Write the losses of these sequences; return their gradients on the outputs, (N, T, O). */
function lossesOf(model, { T, targets, weights }, logits, first, losses) {
  const size = T * model.O;
  const width = targets.length / losses.length; // T class numbers, or T O targets
  const gradients = new Float64Array(logits.length);
  for (let n = 0; n * size < logits.length; n++) {
    const target = targets.subarray((first + n) * width, (first + n + 1) * width);
    const outputs = logits.subarray(n * size, (n + 1) * size);
    const [loss, gradient] = lossOf(model.loss, outputs, target, weights, T);
    losses[first + n] = loss;
    gradients.set(gradient, n * size);
  }
  return gradients;
}

/** The share of bits that are right, and that are 1: {all, byPosition (length), ones (length)}, of logits of copyInputs(). */
export function bitsRight(logits, { N, length, bits }) {
  const step = logits.length / N; // targets are the last numbers of each row
  const [byPosition, ones] = [new Float64Array(length), new Float64Array(length)];
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < length; k++) {
      const isOne = logits[(n + 1) * step - length + k] > 0;
      if (isOne === Boolean(bits[n * length + k])) byPosition[k] += 1 / N;
      if (isOne) ones[k] += 1 / N;
    }
  }
  return { all: byPosition.reduce((sum, share) => sum + share, 0) / length, byPosition, ones };
}

/** (N, rows) → (rows, N) */
export function toColumns(values, N) {
  const rows = values.length / N;
  const result = new Float64Array(values.length);
  for (let n = 0; n < N; n++) for (let r = 0; r < rows; r++) result[r * N + n] = values[n * rows + r];
  return result;
}

/** (rows, N) → (N, rows) */
function fromColumns(values, result, N) {
  const rows = values.length / N;
  for (let r = 0; r < rows; r++) for (let n = 0; n < N; n++) result[n * rows + r] = values[r * N + n];
}

function concatenated(arrays) {
  const result = new Float64Array(arrays.length * arrays[0].length);
  arrays.forEach((array, n) => result.set(array, n * array.length));
  return result;
}
