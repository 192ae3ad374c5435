// Interventions equal NumPy: cases that tests/trace/test_web_interventions.py writes into a folder.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { decode, run } from "../../../../web/report/lstm.js";
import { numbers } from "../../../../web/report/payload.js";

const BOUND = 1e-10;
const folder = process.env.GLASSCELL_CASES;

for (const name of readdirSync(folder).sort()) {
  test(name, () => {
    const { payload, interventions, expected, d_x } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    const model = decode(payload);
    model.interventions = interventions.map((one) => (one.values ? { ...one, values: numbers(one.values) } : one));
    const trace = run(model);
    for (const direction of trace.layers.flatMap(({ directions }) => directions)) {
      for (const [symbol, array] of Object.entries(expected[direction.name])) {
        compare(direction[symbol], array, `${symbol} of ${direction.name}`);
      }
    }
    compare(trace.d_x, d_x, "d_x");
  });
}

function compare(actual, expected, what) {
  const values = numbers(expected);
  assert.equal(actual.length, values.length, what);
  values.forEach((value, n) => {
    const error = Math.abs(actual[n] - value) / Math.max(1, Math.abs(value));
    assert.ok(error <= BOUND, `${what}[${n}] is ${actual[n]}; NumPy has ${value}`);
  });
}
