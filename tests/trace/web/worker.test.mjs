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
  for (const channel of [3, 4]) {
    const start = { bits: channel - 2, units: 2, shown: "11".slice(4 - channel), limit: 5 };
    self.onmessage({ data: { channel, service: "trainer", message: { start } } });
  }
  assert.deepEqual(answers.map(({ channel, message }) => [channel, message.updates, message.view.T]), [[3, 0, 3], [4, 0, 5]]);
});
