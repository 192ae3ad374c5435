// JavaScript against NumPy: every number of every case that tests/trace/test_web.py wrote, to 1e-10.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decode, presentBits, run } from "../../../src/glasscell/trace/web/lstm.js";
import { numbers } from "../../../src/glasscell/trace/web/payload.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;
let largest = 0;

function compare(actual, expected, name) {
  const there = numbers(expected);
  assert.ok(actual, `there is no ${name}`);
  assert.equal(actual.length, there.length, `${name} has ${actual.length} numbers; expected ${there.length}`);
  for (let n = 0; n < there.length; n++) {
    const error = Math.abs(actual[n] - there[n]);
    assert.ok(error <= BOUND, `${name}[${n}] is ${actual[n]}; NumPy has ${there[n]}`);
    largest = Math.max(largest, error);
  }
}

function compareTrace(trace, expected) {
  for (const [name, array] of Object.entries(expected.arrays)) compare(trace[name], array, name);
  if (expected.loss !== null) assert.ok(Math.abs(trace.loss - expected.loss) <= BOUND, `loss ${trace.loss}`);
  const ways = trace.layers.flatMap((layer) => layer.ways);
  assert.deepEqual(ways.map((way) => way.name), Object.keys(expected.ways));
  for (const way of ways) {
    for (const [symbol, array] of Object.entries(expected.ways[way.name])) {
      compare(way[symbol], array, `${symbol} of ${way.name}`);
    }
  }
}

for (const name of folder ? readdirSync(folder).sort() : []) {
  test(name, () => {
    const { payload, expected, bits, after } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    const model = decode(payload);
    compareTrace(run(model), expected);
    if (bits) compareTrace(run(presentBits(model, bits)), after);
  });
}

test("there were cases", { skip: folder ? false : "GLASSCELL_CASES names no folder: run tests/trace/test_web.py" }, () => {
  assert.ok(readdirSync(folder).length > 0);
  console.log(`largest error: ${largest.toExponential(1)}`);
});
