// The maps of what a model does equal NumPy: cases that tests/trace/test_web_maps.py writes into a folder.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { crossingsOf, gradientsFrom } from "../../../../web/report/gradient_flow.js";
import { decode, run } from "../../../../web/report/lstm.js";
import { numbers } from "../../../../web/report/payload.js";
import { halvesOf } from "../../../../web/report/hash_order.js";
import { flippedOf, populationOf, splitOf } from "../../../../web/report/population.js";
import { pathOf, relayOf } from "../../../../web/report/relay.js";
import { regularizedBeta } from "../../../../web/report/statistics.js";
import { surveyCopies, surveySteps } from "../../../../web/report/survey.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;
let largest = 0;

function compare(actual, expected, name) {
  const values = numbers(expected);
  assert.equal(actual.length, values.length, `${name} has ${actual.length} numbers; expected ${values.length}`);
  for (let n = 0; n < values.length; n++) {
    const error = Object.is(actual[n], values[n]) ? 0 : Math.abs(actual[n] - values[n]) / Math.max(1, Math.abs(values[n]));
    assert.ok(error <= BOUND, `${name}[${n}] is ${actual[n]}; NumPy has ${values[n]}`);
    largest = Math.max(largest, error);
  }
}

function completed(generator) {
  for (;;) {
    const { done, value } = generator.next();
    if (done) return value;
  }
}

const CHECKS = {
  /** All inputs of a copy task; the halves are those of Python. */
  copies({ payload, layer, halves, expected }) {
    const model = decode(payload);
    const { bits } = payload.copy;
    const found = completed(surveyCopies(model, bits, { layer, direction: 0 }));
    const { K, N, T, H, symbols } = found;
    const codeOf = (n) => parseInt(Array.from({ length: K }, (_, k) => symbols[k * N + n]).join(""), 2);
    const ascending = (numbers) => [...numbers].sort((a, b) => a - b);
    const { fitted, scored } = found.halves;
    assert.deepEqual([fitted, scored].map((half) => ascending(half.map(codeOf))), halves);
    compare(found.r2, expected.r2, "r2");
    assert.equal(T * H * K, found.difference.length);
    for (const name of ["difference", "p", "isSignificant", "flips", "jacobian"]) compare(found[name], expected[name], name);
    assert.ok(found.r2.every((value) => value <= 1 + 1e-12));
  },
  /** Activation patching of the cells of one bit. */
  relay({ payload, place, sequences, expected, steps, path }) {
    const model = decode(payload);
    model.bits = payload.copy.bits;
    const found = completed(relayOf(model, place));
    assert.equal(found.N, sequences);
    for (const name of ["carried", "together"]) compare(found[name], expected[name], name);
    assert.deepEqual([found.writtenAt, found.readAt], steps);
    const stretches = pathOf(found);
    assert.deepEqual(stretches.map(({ unit, first, last }) => [unit, first, last]), path.map((one) => one.slice(0, 3)));
    stretches.forEach(({ share }, n) => assert.ok(Math.abs(share - path[n][3]) <= BOUND));
    const scaled = { symbol: "f", operation: "scale", value: 1 };
    const whole = completed(relayOf({ ...model, interventions: [scaled] }, place)); // each run from the first step on
    whole.carried.forEach((share, n) => assert.ok(Math.abs(share - found.carried[n]) <= BOUND));
  },
  /** Outputs by inputs of other models, linearised. */
  steps({ payload, expected }) {
    const model = decode(payload);
    compare(completed(surveySteps(model, run(model))).norms, expected.norms, "norms");
  },
  /** The gradient by crossings of W_h, of the loss and of one output. */
  crossings({ payload, output, interventions = [], expected }) {
    const model = Object.assign(decode(payload), { interventions });
    const traces = [run(model)];
    if (output !== undefined) {
      const d_outputs = new Float64Array(model.T * model.O);
      d_outputs[output] = 1;
      traces.push(gradientsFrom(model, d_outputs));
    }
    traces.forEach((trace, n) => {
      const directions = trace.layers.flatMap((layer) => layer.directions);
      const weights = model.layers.flatMap((layer) => layer.directions);
      directions.forEach((direction, place) => {
        const parts = crossingsOf(weights[place], direction, model.T);
        compare(parts.flatMap((part) => [...part]), expected[n][place], `crossings ${n} ${place}`);
        direction.d_c.forEach((whole, k) => {
          const sum = parts.reduce((total, part) => total + part[k], 0);
          assert.ok(Math.abs(sum - whole) <= 1e-12 * Math.max(1, Math.abs(whole)), `part ${k}: ${sum} ≠ ${whole}`);
        });
      });
    });
  },
  /** The incomplete beta function. */
  beta({ arguments: given, expected }) {
    compare(given.map((triple) => regularizedBeta(...triple)), expected, "I_x(a, b)");
  },
};

for (const name of folder ? readdirSync(folder).sort() : []) {
  test(name, () => {
    const entry = JSON.parse(readFileSync(join(folder, name), "utf8"));
    CHECKS[entry.check](entry);
  });
}

test("there were cases", { skip: folder ? false : "GLASSCELL_CASES names no folder: run tests/trace/test_web_maps.py" }, () => {
  assert.ok(readdirSync(folder).length > 0);
  console.log(`largest error: ${largest.toExponential(1)}`);
});

const model = (K, extra = {}) => ({
  bits: "0".repeat(K),
  T: 2 * K + 1,
  I: 2,
  payload: { dtype: "float32", copy: { mode: "recall", bits_per_step: 1 } },
  layers: [{ directions: [{ H: 8, I: 2 }] }],
  ...extra,
});

test("all inputs of up to eight bits, in two halves of one size that have each of them once", () => {
  const population = populationOf(model(8));
  const { N, K, symbols, all } = population;
  assert.ok(all && N === 256);
  assert.equal(new Set(Array.from({ length: N }, (_, n) => Array.from({ length: K }, (_, k) => symbols[k * N + n]).join(""))).size, N);
  const { halves } = splitOf(model(8), population);
  assert.deepEqual([halves.fitted.length, halves.scored.length], [N / 2, N / 2]);
  assert.equal(new Set([...halves.fitted, ...halves.scored]).size, N);
});

test("equal sequences are in one half", () => {
  const digests = ["b", "a", "a", "c", "a", "a", "b"];
  const order = [1, 2, 4, 5, 0, 6, 3];
  assert.deepEqual(halvesOf({ order, digests }), { fitted: [1, 2, 4, 5], scored: [0, 3, 6] });
});

test("a pair of sequences differs in its bit alone", () => {
  for (const K of [5, 12]) {
    const population = populationOf(model(K));
    assert.equal(population.all, K === 5);
    const flipped = flippedOf(population);
    const after = flipped.symbols ?? population.symbols;
    const M = flipped.N || population.N;
    flipped.pairs.forEach((pairs, k) => {
      for (const [n, m] of pairs) {
        for (let j = 0; j < K; j++) {
          const isSame = after[j * M + m] === population.symbols[j * population.N + n];
          assert.equal(isSame, j !== k);
        }
      }
    });
  }
});

test("a large model gets fewer sequences", () => {
  const { N, all } = populationOf(model(8, { layers: [{ directions: [{ H: 1024, I: 2 }] }] }));
  assert.ok(!all && N < 64);
});
