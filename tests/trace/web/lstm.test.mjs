// Laws of lstm.js: gradients equal finite differences, parts sum to d_c, bits have the layout of the copy task.

import assert from "node:assert/strict";
import { test } from "node:test";

import { predictions, lossOf } from "../../../web/report/losses.js";
import { decode, setBits, run, sigmoid } from "../../../web/report/lstm.js";
import { numbers } from "../../../web/report/payload.js";

/** Numbers in (-size, size), the same in each run: mulberry32. */
function generator(seed) {
  return (count, size = 0.5) =>
    Array.from({ length: count }, () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let n = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n;
      return size * (((n ^ (n >>> 14)) >>> 0) / 2 ** 31 - 1);
    });
}

function array(values, ...shape) {
  const bytes = Buffer.from(Float64Array.from(values).buffer);
  return { shape, type: "float64", data: bytes.toString("base64") };
}

function payloadOf({ loss, merge = "concat", directions = 1, seed = 1 }) {
  const [draw, T, H, O] = [generator(seed), 4, 3, 2];
  const layerOf = (name, I) => ({
    name,
    input_size: I,
    hidden_size: H,
    merge,
    directions: Array.from({ length: directions }, (_, k) => ({
      name: `${name}${k ? "_reverse" : ""}`,
      reverse: k === 1,
      kernel: array(draw(4 * H * (H + I + 1), 1), 4 * H, H + I + 1),
      h0: array(draw(H), H),
      c0: array(draw(H), H),
    })),
  });
  const width = merge === "concat" ? H * directions : H;
  const classes = loss === "categorical_cross_entropy";
  return {
    version: 1,
    live: true,
    layers: [layerOf("l0", 2), layerOf("l1", width)],
    readout: { weight: array(draw(O * width), O, width), bias: array(draw(O), O) },
    loss,
    x: array(draw(T * 2, 1), T, 2),
    targets: classes ? array([0, 1, 1, 0], T) : array(draw(T * O).map((n) => n + 0.5), T, O),
    weights: array([1, 0, 2, 0.5], T),
    d_outputs: null,
    outputs: null,
  };
}

function assertNear(actual, expected, bound, what) {
  assert.ok(Math.abs(actual - expected) <= bound * Math.max(1, Math.abs(expected)), `${what}: ${actual} ≠ ${expected}`);
}

/** dL/dnumbers[n], by central differences. */
function difference(model, array, n) {
  const [value, step] = [array[n], 1e-5];
  const losses = [step, -step].map((by) => {
    array[n] = value + by;
    return run(model).loss;
  });
  array[n] = value;
  return (losses[0] - losses[1]) / (2 * step);
}

const cases = [
  { loss: "binary_cross_entropy" },
  { loss: "squared_error", directions: 2 },
  { loss: "categorical_cross_entropy", directions: 2, merge: "multiply" },
  { loss: "squared_error", directions: 2, merge: "average" },
  { loss: "binary_cross_entropy", directions: 2, merge: "sum" },
];

for (const what of cases) {
  test(`gradients are those of the loss: ${Object.values(what).join(", ")}`, () => {
    const model = decode(payloadOf(what));
    const trace = run(model);
    model.layers.forEach((layer, l) =>
      layer.directions.forEach((direction, k) => {
        const gradients = trace.layers[l].directions[k];
        const pairs = [["W", "dW"], ["h0", "d_h0"], ["c0", "d_c0"]];
        for (const [name, gradient] of pairs) {
          for (let n = 0; n < direction[name].length; n++) {
            assertNear(gradients[gradient][n], difference(model, direction[name], n), 1e-8, `${direction.name} ${gradient} ${n}`);
          }
        }
      }),
    );
    for (let n = 0; n < model.x.length; n++) assertNear(trace.d_x[n], difference(model, model.x, n), 1e-8, `d_x ${n}`);
  });
}

test("the parts of d_c add up, and none comes through h without W_h", () => {
  const model = decode(payloadOf(cases[0]));
  const [, { directions: [direction] }] = model.layers;
  const before = run(model).layers[1].directions[0];
  assert.ok(before.recurrent.some((d) => Math.abs(d) > 1e-4));
  before.d_c.forEach((d, n) => assertNear(before.output[n] + before.cell[n] + before.recurrent[n], d, 1e-15, `d_c ${n}`));
  const K = direction.H + direction.I + 1;
  direction.W.forEach((_, n) => { if (n % K < direction.H) direction.W[n] = 0; });
  const without = run(model).layers[1].directions[0];
  assert.ok(without.cell.some((d) => Math.abs(d) > 1e-4));
  assert.ok(without.recurrent.every((d) => Math.abs(d) < 1e-18));
});

test("d_outputs in place of targets: the same gradients", () => {
  const model = decode(payloadOf(cases[1]));
  const { d_outputs, d_x } = run(model);
  const given = run(Object.assign(model, { targets: null, loss: null, d_outputs }));
  assert.equal(given.loss, null);
  assert.deepEqual(given.d_x, d_x);
});

test("without targets there are no gradients", () => {
  const trace = run(Object.assign(decode(payloadOf(cases[0])), { targets: null }));
  assert.equal(trace.d_x, null);
  assert.ok(!("d_c" in trace.layers[0].directions[0]));
});

test("weights 0 everywhere: the loss is 0", () => {
  const model = decode(payloadOf(cases[0]));
  model.weights.fill(0);
  const { loss, d_x } = run(model);
  assert.equal(loss, 0);
  assert.ok(d_x.every((d) => d === 0));
});

test("large outputs: finite losses and predictions", () => {
  const y = Float64Array.of(800, -800);
  assert.deepEqual([...predictions("binary_cross_entropy", y, 1)], [1, 0]);
  assert.deepEqual([...predictions("categorical_cross_entropy", y, 1)], [1, 0]);
  assert.deepEqual(predictions("squared_error", y, 1), y);
});

test("recall: bits, a delimiter, zeros with targets", () => {
  const model = { payload: { copy: { mode: "recall", bits_per_step: 2 } } };
  setBits(model, "1101");
  assert.equal(model.T, 5);
  assert.deepEqual([...model.x], [1, 1, 0, -1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...model.targets], [0, 0, 0, 0, 0, 0, 1, 1, 0, 1]);
  assert.deepEqual([...model.weights], [0, 0, 0, 1, 1]);
});

test("echo: each bit is a target at its step", () => {
  const model = { payload: { copy: { mode: "echo", bits_per_step: 1 } } };
  setBits(model, "10");
  assert.deepEqual([...model.x], [1, 0, -1, 0]);
  assert.deepEqual([...model.targets, ...model.weights], [1, 0, 1, 1]);
});

test("invalid bits raise an error", () => {
  const model = { payload: { copy: { mode: "recall", bits_per_step: 2 } } };
  assert.throws(() => setBits(model, "12"), /bits must be characters 0 and 1, 2 per step, got "12"/);
  assert.throws(() => setBits(model, "101"), /2 per step, got "101"/);
});

test("another version, or an array that is too short, raises an error", () => {
  assert.throws(() => decode({ version: 2 }), /version must be 1, got 2/);
  assert.throws(() => numbers({ shape: [3], type: "float32", data: "AAAAAAAA" }), /float32 of shape \(3\) must have 12 bytes, got 6/);
});

test("float32 is read little-endian", () => {
  assert.deepEqual([...numbers({ shape: [2], type: "float32", data: "AACAPwAAAMA=" })], [1, -2]);
});

test("σ of a nearly closed gate, and the gradient of a nearly certain prediction, are accurate", () => {
  for (const z of [0.3, 8, 16, 36.5, 40, 80, 300, 700, 708]) {
    const exact = Math.exp(-z) / (1 + Math.exp(-z)); // σ(-z)
    const bound = 4 * Number.EPSILON * exact;
    assert.ok(Math.abs(sigmoid(-z) - exact) <= bound, `σ(${-z}) is ${sigmoid(-z)}`);
    for (const [y, target, gradient] of [[z, 1, -exact], [-z, 0, exact]]) {
      const [, [d]] = lossOf("binary_cross_entropy", Float64Array.of(y), Float64Array.of(target), null, 1);
      assert.ok(Math.abs(d - gradient) <= bound, `the gradient at ${y} is ${d}`);
    }
  }
  assert.equal(sigmoid(-1e4), 0);
  assert.equal(sigmoid(1e4), 1);
});
