// JavaScript compared with NumPy: every value of every case that tests/trace/test_web.py writes, to 1e-10 (relative for
// values above 1).

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decode, setBits, run } from "../../../web/report/lstm.js";
import * as measures from "../../../web/report/measures.js";
import { numbers } from "../../../web/report/payload.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;
let largest = 0;

function compare(actual, expected, name) {
  const values = numbers(expected);
  assert.ok(actual, `${name} is missing`);
  assert.equal(actual.length, values.length, `${name} has ${actual.length} numbers; expected ${values.length}`);
  for (let n = 0; n < values.length; n++) {
    const error = actual[n] === values[n] ? 0 : Math.abs(actual[n] - values[n]) / Math.max(1, Math.abs(values[n]));
    assert.ok(error <= BOUND, `${name}[${n}] is ${actual[n]}; NumPy has ${values[n]}`);
    largest = Math.max(largest, error);
  }
}

function compareTrace(model, expected) {
  const trace = run(model);
  for (const [name, array] of Object.entries(expected.arrays)) compare(trace[name], array, name);
  if (expected.loss !== null) assert.ok(Math.abs(trace.loss - expected.loss) <= BOUND, `loss ${trace.loss}`);
  const directions = trace.layers.flatMap((layer) => layer.directions);
  assert.deepEqual(directions.map((direction) => direction.name), Object.keys(expected.directions));
  for (const direction of directions) {
    for (const [symbol, array] of Object.entries(expected.directions[direction.name])) {
      compare(direction[symbol], array, `${symbol} of ${direction.name}`);
    }
    const { T } = trace;
    const computed = {
      halfLives: measures.halfLives(direction, T),
      peaks: measures.peaks(direction, T),
      correlations: measures.correlations(direction, model.x, model.I, 0, T),
      rowNorms: measures.rowNorms(direction.c, T),
    };
    for (const [name, array] of Object.entries(expected.measures[direction.name])) compare(computed[name], array, name);
  }
}

for (const name of folder ? readdirSync(folder).sort() : []) {
  test(name, () => {
    const { payload, expected, bits, after } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    const model = decode(payload);
    compareTrace(model, expected);
    if (bits) compareTrace(setBits(model, bits), after);
  });
}

test("there were cases", { skip: folder ? false : "GLASSCELL_CASES names no folder: run tests/trace/test_web.py" }, () => {
  assert.ok(readdirSync(folder).length > 0);
  console.log(`largest error: ${largest.toExponential(1)}`);
});
