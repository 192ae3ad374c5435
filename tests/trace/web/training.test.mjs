// Laws of training.js: gradients equal finite differences, training learns the task, and the service pauses.

import assert from "node:assert/strict";
import { test } from "node:test";

import { bitsRight, copyInputs, runAll } from "../../../web/report/all_inputs.js";
import { generator } from "../../../web/report/random.js";
import { trainer } from "../../../web/report/trainer.js";
import { KINDS, newModel, SHOWN, Training } from "../../../web/report/training.js";

for (const kind of Object.keys(KINDS)) {
  test(`gradients of a batch equal finite differences: ${kind}`, () => {
    const training = new Training({ kind, bits: 2, units: 3, delay: 1, batch: 5, forgetBias: 0.7 });
    const next = generator(4);
    for (const values of training.parameters) values.forEach((_, n) => (values[n] += next() - 0.5));
    const batch = training.draw();
    const { gradients } = training.gradients(batch);
    const kept = gradients.map((array) => array.slice());
    training.parameters.forEach((values, p) => {
      for (let n = 0; n < values.length; n++) {
        const [value, step] = [values[n], 1e-5];
        const [above, below] = [step, -step].map((by) => {
          values[n] = value + by;
          return training.gradients(batch).loss;
        });
        values[n] = value;
        const expected = (above - below) / (2 * step);
        assert.ok(Math.abs(kept[p][n] - expected) < 1e-8, `parameter ${p}, ${n}: ${kept[p][n]} ≠ ${expected}`);
      }
    });
  });

  test(`training copies all inputs of two bits after a delay: ${kind}`, () => {
    const training = new Training({ kind, bits: 2, units: 8, delay: 2 });
    while (training.share() < 1 && training.updates < 600) training.update();
    assert.equal(training.share(), 1);
  });
}

test("four bits with 16 units are copied within 400 updates", () => {
  const training = new Training({});
  assert.ok(training.share() < 1);
  while (training.share() < 1 && training.updates < 400) training.update();
  assert.equal(training.share(), 1);
});

test("the same seed trains the same model, and another seed another one", () => {
  const losses = [1, 1, 2].map((seed) => {
    const training = new Training({ seed });
    return [training.update().loss, training.update().loss];
  });
  assert.deepEqual(losses[0], losses[1]);
  assert.notDeepEqual(losses[0], losses[2]);
});

test("a gradient is clipped to the largest norm", () => {
  const [free, clipped] = [1e9, 1e-9].map((clip) => {
    const training = new Training({ clip });
    const before = training.parameters[0].slice();
    training.update();
    return training.moments[0][0].map((mean) => mean / 0.1).reduce((sum, d, n) => sum + d * d, 0 * before.length);
  });
  assert.ok(free > 1e-6);
  assert.ok(clipped <= 1e-18);
});

test("recurrent weights are orthogonal, and the forget bias is that of the gate that keeps the state", () => {
  const H = 5;
  for (const [kind, row] of [["lstm", 1], ["gru", 1]]) {
    const { W } = newModel({ kind, units: H, forgetBias: 2, seed: 1 }).layers[0].directions[0];
    const K = H + 3;
    for (let r = 0; r < W.length / K; r++) {
      assert.equal(W[r * K + K - 1], Math.floor(r / H) === row ? 2 : 0);
      for (let s = 0; s < H; s++) {
        const other = Math.floor(r / H) * H + s;
        let product = 0;
        for (let k = 0; k < H; k++) product += W[r * K + k] * W[other * K + k];
        assert.ok(Math.abs(product - (r === other)) < 1e-12);
      }
    }
  }
});

test("uniform weights are within ±1/√H", () => {
  const { W } = newModel({ kind: "rnn", units: 9, forgetBias: 2, seed: 1, initial: "uniform" }).layers[0].directions[0];
  assert.ok(W.every((w) => Math.abs(w) < 1 / 3));
  assert.ok(Math.max(...W) > 0.25 && Math.min(...W) < -0.25);
});

test("the norms of gradients fall along a delay where the forget gates are shut", () => {
  const ratio = (forgetBias) => {
    const { state } = new Training({ delay: 30, forgetBias }).gradientNorms();
    return state[5] / state[30];
  };
  assert.ok(ratio(-3) < 1e-6 * ratio(6));
  const gru = new Training({ kind: "gru" }).gradientNorms();
  assert.deepEqual(gru.state, gru.hidden);
});

test("the service reports, pauses when all bits are right, continues, and stops at its limit", async () => {
  const reports = [];
  let waiting = null;
  const receive = trainer((message) => {
    reports.push(message);
    if (!message.running && message.updates > 0) waiting?.();
  }, { slice: 5 });
  const paused = (start) =>
    new Promise((resolve) => {
      waiting = resolve;
      start();
    });
  receive({ start: { bits: 1, units: 8, shown: "1", limit: 150, norms: true } });
  assert.equal(reports[0].updates, 0);
  assert.ok(!reports[0].running);
  await paused(() => receive({ run: true }));
  const first = reports[reports.length - 1];
  assert.equal(first.share, 1);
  assert.equal(first.norms.state.length, 3);
  assert.deepEqual(Object.keys(first.view.values), SHOWN.lstm);
  assert.equal(first.view.values.c.length, 3 * 8);
  receive({ set: { learningRate: 0 } });
  await paused(() => receive({ run: true }));
  const last = reports[reports.length - 1];
  assert.equal(last.updates, 150);
  assert.equal(reports.reduce((sum, { losses }) => sum + losses.length, 0), 150);
  const count = reports.length;
  receive({ run: true }); // at the limit
  assert.equal(reports.length, count + 1);
  assert.ok(!reports[count].running);
});

test("training ends after the same update, whatever the time of the reports and the pauses", async () => {
  const start = { bits: 1, units: 8, shown: "1", limit: 150, norms: true };
  const end = ({ slice, pauses }) =>
    new Promise((resolve) => {
      const shares = [];
      const receive = trainer((report) => {
        shares.push(...report.shares);
        if (report.done && report.updates) resolve({ ...report, shares, seconds: 0, losses: [] });
      }, { slice });
      receive({ start });
      receive({ run: true });
      for (let n = 0; n < pauses; n++) setTimeout(() => [false, true].forEach((run) => receive({ run })), 2 * n);
    });
  const results = [];
  for (const how of [{ slice: 0, pauses: 0 }, { slice: 1000, pauses: 0 }, { slice: 1, pauses: 9 }]) results.push(await end(how));
  assert.deepEqual(results[1], results[0]);
  assert.deepEqual(results[2], results[0]);
  assert.equal(results[0].share, 1);
  assert.ok(results[0].updates < 150 && results[0].updates % 10 === 0, `${results[0].updates} updates`);
});

test("a given model is measured as it is, with the view of its last layer", () => {
  const { layers, readout, loss, I, O } = newModel({ kind: "lstm", units: 5, forgetBias: 1, seed: 9 });
  const [first] = layers[0].directions;
  const above = newModel({ kind: "lstm", units: 3, forgetBias: 1, seed: 4 }).layers[0].directions[0];
  const wide = { ...above, I: 5, W: new Float64Array(4 * 3 * (3 + 5 + 1)).map((_, n) => above.W[n % above.W.length]) };
  const top = { ...readout, weight: readout.weight.slice(0, 3), H: 3 };
  const stack = [{ directions: [first] }, { directions: [wide] }].map((layer) => ({ ...layers[0], ...layer }));
  const training = new Training({ bits: 2, units: 3, weights: { layers: stack, readout: top, loss, I, O } });
  assert.equal(training.view("10").values.c.length, 5 * 3);
  assert.equal(training.gradientNorms().state.length, 5);
  const inputs = copyInputs({ mode: "recall", bits_per_step: 1 }, 2);
  const { logits } = runAll({ live: true, layers: stack, readout: top, loss, I, O }, { ...inputs, targets: null });
  assert.equal(training.share(), bitsRight(logits, inputs).all);
});

test("random bits of the delay are inputs without a target, different in each sequence", () => {
  const { x, targets, weights, T, N, bits } = copyInputs({ mode: "recall", bits_per_step: 1 }, 2, { delay: 6, distracted: true });
  assert.equal(N, 64);
  assert.equal(T, 11);
  const rows = new Set();
  for (let n = 0; n < N; n++) {
    const values = x.subarray(n * T * 2, (n + 1) * T * 2);
    const channel = Array.from({ length: T }, (_, t) => values[2 * t]);
    const delay = channel.slice(2, 8);
    assert.ok(delay.every((value) => Math.abs(value) === 1));
    rows.add(delay.join());
    assert.deepEqual(channel.slice(0, 2), [0, 1].map((k) => 2 * bits[2 * n + k] - 1));
    assert.deepEqual(channel.slice(8), [0, 0, 0]);
    assert.deepEqual(Array.from(targets.subarray((n + 1) * T - 2, (n + 1) * T)), [bits[2 * n], bits[2 * n + 1]]);
  }
  assert.ok(rows.size > 32);
  assert.deepEqual(Array.from(weights), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
  assert.equal(new Set(Array.from({ length: N }, (_, n) => bits.subarray(2 * n, 2 * n + 2).join())).size, 4);
  const silent = copyInputs({ mode: "recall", bits_per_step: 1 }, 2, { delay: 6 });
  assert.ok(silent.x.every((value, n) => n % 22 < 4 || n % 22 === 17 || value === 0));
});

test("an LSTM learns to ignore random bits during a delay", () => {
  const training = new Training({ bits: 1, units: 8, delay: 6, delayInputs: "random", forgetBias: 3 });
  for (let n = 0; n < 400 && training.share() < 1; n += 20) for (let k = 0; k < 20; k++) training.update();
  assert.equal(training.share(), 1);
});
