// Batches of sequences equal NumPy: cases that tests/trace/test_web_batches.py writes into a folder.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { copyInputs, runAll } from "../../../../web/report/all_inputs.js";
import { Buffers, decode, readOutGradient, run } from "../../../../web/report/lstm.js";
import { numbers } from "../../../../web/report/payload.js";
import { adam } from "../../../../web/report/training.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;
let largest = 0;

function compare(actual, expected, name) {
  const values = numbers(expected);
  assert.ok(actual, `${name} is missing`);
  assert.equal(actual.length, values.length, `${name} has ${actual.length} numbers; expected ${values.length}`);
  for (let n = 0; n < values.length; n++) {
    const error = Math.abs(actual[n] - values[n]) / Math.max(1, Math.abs(values[n]));
    assert.ok(error <= BOUND, `${name}[${n}] is ${actual[n]}; NumPy has ${values[n]}`);
    largest = Math.max(largest, error);
  }
}

const CHECKS = {
  /** Many inputs of a model: outputs, losses, quantities of layers, gradients of each loss. */
  inputs({ payload, inputs, expected }) {
    const model = decode(payload);
    const given = { N: inputs.x.shape[0], T: inputs.x.shape[1] };
    for (const name of ["x", "targets", "weights"]) given[name] = numbers(inputs[name]);
    const record = expected.recorded.map(({ symbol, layer, direction }) => ({ symbol, layer, direction }));
    const result = runAll(model, given, { record });
    compare(result.logits, expected.outputs, "logits");
    if (expected.losses) compare(result.losses, expected.losses, "losses");
    expected.recorded.forEach(({ symbol, values }, r) => compare(result.recorded[r], values, symbol));
  },
  /** All inputs of the copy task. */
  copy({ task, length, expected }) {
    const made = copyInputs(task, length);
    for (const [name, values] of Object.entries(expected)) compare(made[name], values, name);
  },
  /** A batch through an RNN, a GRU or an LSTM, with every gradient; twice with the same buffers. */
  kinds({ kind, sizes, weights, x, d_y, expected }) {
    const [T, I, H, N] = sizes;
    const direction = { kind, name: "l0", reverse: false, H, I };
    for (const [name, values] of Object.entries(weights)) direction[name] = numbers(values);
    const layers = [{ merge: "concat", directions: [direction] }];
    const model = { live: true, layers, readout: null, T, N, x: numbers(x), d_outputs: numbers(d_y) };
    const buffers = new Buffers();
    run({ ...model, x: model.x.map((value) => 3 * value) }, { buffers });
    const trace = run(model, { buffers });
    for (const [name, values] of Object.entries(expected)) compare(trace.layers[0].directions[0][name], values, name);
  },
  /** Updates of Adam. */
  adam({ start, gradients, learningRate, expected }) {
    const values = numbers(start);
    const moments = [0, 1].map(() => new Float64Array(values.length));
    gradients.forEach((gradient, n) => adam(values, numbers(gradient), moments, { factor: 1, learningRate, count: n + 1 }));
    compare(values, expected, "parameters");
  },
  /** The gradient on a readout. */
  readout({ sizes, readout, x, h, d_y, expected }) {
    const [T, H, O, N] = sizes;
    const trace = { T, N, layers: [{ y: numbers(h) }], d_outputs: numbers(d_y) };
    const { weight, bias } = readOutGradient({ O, H }, trace);
    compare(weight, expected.weight, "weight");
    compare(bias, expected.bias, "bias");
  },
};

for (const name of folder ? readdirSync(folder).sort() : []) {
  test(name, () => {
    const written = JSON.parse(readFileSync(join(folder, name), "utf8"));
    CHECKS[written.check](written);
  });
}

test("there were cases", { skip: folder ? false : "GLASSCELL_CASES names no folder: run test_web_batches.py" }, () => {
  assert.ok(readdirSync(folder).length > 0);
  console.log(`largest error: ${largest.toExponential(1)}`);
});
