// JavaScript against NumPy: every number of every case that tests/trace/test_web.py wrote, to 1e-10 (of numbers above 1,
// to 1e-10 of them).

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decode, presentBits, run } from "../../../src/glasscell/trace/web/lstm.js";
import * as measures from "../../../src/glasscell/trace/web/measures.js";
import { numbers } from "../../../src/glasscell/trace/web/payload.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;
let largest = 0;

function compare(actual, expected, name) {
  const there = numbers(expected);
  assert.ok(actual, `there is no ${name}`);
  assert.equal(actual.length, there.length, `${name} has ${actual.length} numbers; expected ${there.length}`);
  for (let n = 0; n < there.length; n++) {
    const error = actual[n] === there[n] ? 0 : Math.abs(actual[n] - there[n]) / Math.max(1, Math.abs(there[n]));
    assert.ok(error <= BOUND, `${name}[${n}] is ${actual[n]}; NumPy has ${there[n]}`);
    largest = Math.max(largest, error);
  }
}

function compareTrace(model, expected) {
  const trace = run(model);
  for (const [name, array] of Object.entries(expected.arrays)) compare(trace[name], array, name);
  if (expected.loss !== null) assert.ok(Math.abs(trace.loss - expected.loss) <= BOUND, `loss ${trace.loss}`);
  const ways = trace.layers.flatMap((layer) => layer.ways);
  assert.deepEqual(ways.map((way) => way.name), Object.keys(expected.ways));
  for (const way of ways) {
    for (const [symbol, array] of Object.entries(expected.ways[way.name])) {
      compare(way[symbol], array, `${symbol} of ${way.name}`);
    }
    const { T } = trace;
    const said = {
      halfLives: measures.halfLives(way, T),
      peaks: measures.peaks(way, T),
      correlations: measures.correlations(way, model.x, model.I, 0, T),
      rowNorms: measures.rowNorms(way.c, T),
    };
    for (const [name, array] of Object.entries(expected.measures[way.name])) compare(said[name], array, name);
  }
}

for (const name of folder ? readdirSync(folder).sort() : []) {
  test(name, () => {
    const { payload, expected, bits, after } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    const model = decode(payload);
    compareTrace(model, expected);
    if (bits) compareTrace(presentBits(model, bits), after);
  });
}

test("there were cases", { skip: folder ? false : "GLASSCELL_CASES names no folder: run tests/trace/test_web.py" }, () => {
  assert.ok(readdirSync(folder).length > 0);
  console.log(`largest error: ${largest.toExponential(1)}`);
});
