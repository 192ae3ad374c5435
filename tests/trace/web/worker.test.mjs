// Law: the script of the page also runs in a worker, which has no document, and serves training and ablations there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const page = readFileSync(new URL("../../../src/glasscell/pages/report.html", import.meta.url), "utf8");
const [, script] = /<script>("use strict"[\s\S]*?)<\/script>/.exec(page);

test("the script of the page answers messages in a worker", () => {
  const answers = [];
  const self = {};
  vm.runInNewContext(script, { self, postMessage: (message) => answers.push(message), performance, setTimeout, clearTimeout });
  self.onmessage({ data: { service: "trainer", start: { bits: 1, units: 2, shown: "1", limit: 5 } } });
  assert.equal(answers.length, 1);
  assert.equal(answers[0].updates, 0);
});
