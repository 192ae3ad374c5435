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
    const { payload, interventions, expected } = JSON.parse(readFileSync(join(folder, name), "utf8"));
    const model = decode(payload);
    model.interventions = interventions.map((one) => (one.values ? { ...one, values: numbers(one.values) } : one));
    const [direction] = run(model).layers[0].directions;
    for (const [symbol, array] of Object.entries(expected)) {
      const values = numbers(array);
      assert.equal(direction[symbol].length, values.length, symbol);
      values.forEach((value, n) => {
        const error = Math.abs(direction[symbol][n] - value) / Math.max(1, Math.abs(value));
        assert.ok(error <= BOUND, `${symbol}[${n}] is ${direction[symbol][n]}; NumPy has ${value}`);
      });
    }
  });
}
