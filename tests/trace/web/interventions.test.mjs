// Laws of interventions.js: gradients equal finite differences, parts sum to d_c, invalid interventions raise errors.

import assert from "node:assert/strict";
import { test } from "node:test";

import { runAll } from "../../../web/report/all_inputs.js";
import { run } from "../../../web/report/lstm.js";
import { generator } from "../../../web/report/random.js";

const [T, I, H, O] = [5, 2, 4, 2];

function drawing(seed) {
  const next = generator(seed);
  return (count, size = 1) => Float64Array.from({ length: count }, () => size * (2 * next() - 1));
}

function modelOf(interventions, { reverse = false, layers = 1, seed = 1 } = {}) {
  const draw = drawing(seed);
  const layerOf = (l) => {
    const inputs = l ? H : I;
    const W = draw(4 * H * (H + inputs + 1));
    return { merge: "concat", directions: [{ name: `l${l}`, reverse, H, I: inputs, W, h0: draw(H), c0: draw(H) }] };
  };
  return {
    live: true,
    T,
    I,
    O,
    layers: Array.from({ length: layers }, (_, l) => layerOf(l)),
    readout: { weight: draw(O * H), bias: draw(O), O, H },
    x: draw(T * I),
    loss: "squared_error",
    targets: draw(T * O),
    weights: null,
    interventions,
  };
}

const patch = drawing(9)(T * H);
const CASES = {
  "f scaled": [{ symbol: "f", operation: "scale", value: 0.7 }],
  "i set in a unit": [{ symbol: "i", operation: "set", value: 0.3, units: [1] }],
  "o clamped": [{ symbol: "o", operation: "clamp", low: 0.45, high: 0.55 }],
  "g plus": [{ symbol: "g", operation: "add", value: 0.4, steps: [0, 3] }],
  "c scaled": [{ symbol: "c", operation: "scale", value: 0.5, units: [0, 2] }],
  "h set to 0": [{ symbol: "h", operation: "set", value: 0, units: [3] }],
  "h scaled": [{ symbol: "h", operation: "scale", value: -1.5, steps: [1, 2] }],
  "x scaled": [{ symbol: "x", operation: "scale", value: 2, units: [1] }],
  "c frozen": [{ symbol: "c", operation: "freeze", units: [0, 1], steps: [0, 2, 3] }],
  "h frozen": [{ symbol: "h", operation: "freeze", steps: [0, 1, 3] }],
  "f frozen": [{ symbol: "f", operation: "freeze", steps: [0, 2, 3, 4] }],
  "x frozen": [{ symbol: "x", operation: "freeze", units: [0] }],
  "c patched": [{ symbol: "c", operation: "patch", values: patch, steps: [2], units: [1, 3] }],
  "W_h cut": [{ symbol: "W_h", operation: "cut" }],
  "W_h cut in a unit": [{ symbol: "W_h", operation: "cut", units: [2], steps: [1, 4] }],
  "z_f scaled": [{ symbol: "z_f", operation: "scale", value: 0.7 }],
  "z_i frozen, i too": [
    { symbol: "z_i", operation: "freeze", steps: [1, 2, 4] },
    { symbol: "i", operation: "freeze", units: [0], steps: [3] },
  ],
  "z_o clamped above": [{ symbol: "z_o", operation: "clamp", high: 0.1 }],
  "z_g plus, a number for each unit": [{ symbol: "z_g", operation: "add", value: [0.4, -0.7], units: [2, 0] }],
  several: [
    { symbol: "f", operation: "freeze", units: [0, 1, 2] },
    { symbol: "f", operation: "scale", value: 0.9 },
    { symbol: "c", operation: "add", value: 0.2, units: [1] },
    { symbol: "c", operation: "freeze", steps: [3] },
    { symbol: "h", operation: "clamp", low: -0.2, high: 0.15 },
    { symbol: "W_h", operation: "cut", units: [0] },
  ],
};

function assertNear(actual, expected, bound, what) {
  assert.ok(Math.abs(actual - expected) <= bound * Math.max(1, Math.abs(expected)), `${what}: ${actual} ≠ ${expected}`);
}

function difference(model, array, n) {
  const [value, step] = [array[n], 1e-5];
  const losses = [step, -step].map((by) => {
    array[n] = value + by;
    return run(model).loss;
  });
  array[n] = value;
  return (losses[0] - losses[1]) / (2 * step);
}

for (const [name, interventions] of Object.entries(CASES)) {
  for (const options of [{}, { reverse: true, layers: 2, seed: 3 }]) {
    test(`${name}: gradients are those of the loss${options.reverse ? ", two layers, reverse" : ""}`, () => {
      const model = modelOf(interventions, options);
      const trace = run(model);
      model.layers.forEach(({ directions: [weights] }, l) => {
        const [direction] = trace.layers[l].directions;
        for (const [array, gradient] of [["W", "dW"], ["h0", "d_h0"], ["c0", "d_c0"]]) {
          for (let n = 0; n < weights[array].length; n++) {
            assertNear(direction[gradient][n], difference(model, weights[array], n), 1e-7, `${gradient} ${n} of ${l}`);
          }
        }
        const { d_c, output, cell, recurrent } = direction;
        d_c.forEach((d, n) => assertNear(output[n] + cell[n] + recurrent[n], d, 1e-14, `parts of d_c ${n}`));
      });
      for (let n = 0; n < model.x.length; n++) assertNear(trace.d_x[n], difference(model, model.x, n), 1e-7, `d_x ${n}`);
    });
  }

  test(`${name}: many inputs at once have the values of each alone`, () => {
    const model = modelOf(interventions, { layers: 2 });
    const x = drawing(5)(3 * T * I);
    const record = [{ symbol: "c" }, { symbol: "h", layer: 1 }];
    const result = runAll({ ...model, targets: null }, { N: 3, T, x }, { record });
    for (let n = 0; n < 3; n++) {
      const { outputs, layers } = run({ ...model, x: x.subarray(n * T * I, (n + 1) * T * I) });
      const alone = [layers[0].directions[0].c, layers[1].directions[0].h];
      outputs.forEach((y, m) => assertNear(result.logits[n * T * O + m], y, 1e-13, `output ${m}`));
      alone.forEach((values, r) =>
        values.forEach((value, m) => assertNear(result.recorded[r][n * T * H + m], value, 1e-13, `value ${m}`)),
      );
    }
  });
}

test("an intervention has an effect, and an empty list has none", () => {
  const without = run(modelOf(undefined));
  assert.deepEqual(run(modelOf([])).outputs, without.outputs);
  for (const interventions of Object.values(CASES)) assert.notDeepEqual(run(modelOf(interventions)).outputs, without.outputs);
});

test("a scale of 1 and a clamp of a wide range change nothing", () => {
  const none = [
    { symbol: "f", operation: "scale", value: 1 },
    { symbol: "c", operation: "clamp", low: -99, high: 99 },
  ];
  const [with_, without] = [run(modelOf(none)), run(modelOf(undefined))];
  assert.deepEqual(with_.outputs, without.outputs);
  assert.deepEqual(with_.layers[0].directions[0].dW, without.layers[0].directions[0].dW);
});

test("an intervention acts on its layer and direction", () => {
  const both = { ...modelOf([{ symbol: "h", operation: "set", value: 0, layer: 1 }], { layers: 2 }) };
  const trace = run(both);
  assert.ok(trace.layers[0].directions[0].h.every((h) => h !== 0));
  assert.ok(trace.layers[1].directions[0].h.every((h) => h === 0));
  const none = run({ ...both, interventions: [{ symbol: "h", operation: "set", value: 0, direction: 1 }] });
  assert.ok(none.layers[1].directions[0].h.every((h) => h !== 0));
});

test("invalid interventions raise an error", () => {
  const invalid = [
    [{ symbol: "q", operation: "scale", value: 1 }, /symbol must be one of x, z_i, z_f, z_o, z_g, i, f, o, g, c, h, got q/],
    [{ symbol: "f", operation: "double" }, /operation must be one of scale, .* got double/],
    [{ symbol: "f", operation: "cut" }, /symbol of a cut must be W_h, got f/],
    [{ symbol: "f", operation: "scale" }, /value of scale must be a number, got undefined/],
    [{ symbol: "f", operation: "clamp", low: 1, high: 0 }, /low must be at most high, got 1 and 0/],
    [{ symbol: "f", operation: "set", value: 1, units: [4] }, /units must be 0 to 3, got 4/],
    [{ symbol: "x", operation: "set", value: 1, units: [2] }, /units must be 0 to 1, got 2/],
    [{ symbol: "f", operation: "set", value: 1, steps: [5] }, /steps must be 0 to 4, got 5/],
    [{ symbol: "f", operation: "clamp" }, /clamp must have low or high, got neither/],
    [{ symbol: "f", operation: "clamp", low: NaN, high: 1 }, /low of clamp must be a number, got NaN/],
    [{ symbol: "f", operation: "clamp", low: [0, 0, 2, 0], high: 1 }, /low must be at most high, got 0,0,2,0 and 1/],
    [{ symbol: "f", operation: "set", value: [1, 2], units: [1] }, /value of set must have a number for each of the 1 units, got 2/],
    [{ symbol: "f", operation: "set", value: [1, NaN], units: [1, 2] }, /value of set must be a number for each unit, got 1,NaN/],
    [{ symbol: "f", operation: "patch", values: new Float64Array(3) }, /values of a patch must have 20 numbers, got 3/],
  ];
  for (const [intervention, message] of invalid) assert.throws(() => run(modelOf([intervention])), message);
  const gru = modelOf([{ symbol: "h", operation: "set", value: 0 }]);
  gru.layers[0].directions[0].kind = "gru";
  assert.throws(() => run(gru), /interventions must be on an LSTM, got gru/);
});
