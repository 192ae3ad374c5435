// Laws of ablation.js: effects are those of the model under interventions, and the most urgent is measured first.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ablation, Ablations, effectOf, qualityOf, subjectOf } from "../../../web/report/ablation.js";
import { copyInputs, runAll } from "../../../web/report/all_inputs.js";
import { run } from "../../../web/report/lstm.js";
import { newModel } from "../../../web/report/training.js";

const TASK = { mode: "recall", bits_per_step: 1 };
const CUT = [{ symbol: "W_h", operation: "cut" }];
const SHUT = [{ symbol: "h", operation: "set", value: 0 }];

function subject(bits = "1010") {
  const model = newModel({ kind: "lstm", units: 5, forgetBias: 1, seed: 3 });
  return subjectOf({ model, payload: { copy: { ...TASK, bits } } });
}

test("bits right are counted over all inputs, by position", () => {
  const of = subject();
  const effect = effectOf(of, CUT);
  const inputs = copyInputs(TASK, 4);
  const { logits } = runAll({ ...of.model, interventions: CUT }, inputs);
  const right = new Float64Array(4);
  for (let n = 0; n < 16; n++) {
    for (let k = 0; k < 4; k++) if (logits[n * 9 + 5 + k] > 0 === Boolean((n >> (3 - k)) & 1)) right[k]++;
  }
  assert.deepEqual([...effect.byPosition], [...right].map((count) => count / 16));
  assert.ok(Math.abs(effect.all - right.reduce((a, b) => a + b) / 64) < 1e-15);
  assert.equal(effect.count, 16);
  assert.ok(effect.complete);
  assert.equal(effectOf(subject(), SHUT).all, 0.5); // constant outputs
});

test("a long task is measured over a sample, always the same one", () => {
  const [a, b] = [subject("1".repeat(12)), subject("0".repeat(12))].map((of) => effectOf(of, CUT));
  assert.equal(a.count, 256);
  assert.ok(!a.complete);
  assert.deepEqual(a, b);
});

test("without a copy task it is the loss, and without targets the change of the outputs", () => {
  const { model } = subject();
  const x = Float64Array.from({ length: 12 }, (_, n) => Math.sin(n));
  const targets = Float64Array.from({ length: 6 }, (_, n) => Math.cos(n));
  const given = { ...model, T: 6, x, loss: "squared_error", targets, weights: null, share: 0.5 };
  const { loss, outputs } = run({ ...given, interventions: CUT });
  const effect = effectOf(subjectOf({ model: given, payload: { copy: null } }), CUT);
  assert.equal(effect.kind, "loss");
  assert.ok(Math.abs(effect.loss - loss) < 1e-15);
  const without = subjectOf({ model: { ...given, targets: null }, payload: { copy: null } });
  const untouched = run(given).outputs;
  const change = outputs.reduce((sum, y, n) => sum + Math.abs(y - untouched[n]), 0) / 6;
  assert.ok(Math.abs(effectOf(without, CUT).change - change) < 1e-15);
  assert.ok(qualityOf(effectOf(without, CUT)) < qualityOf(effectOf(without, [])));
});

test("effects are measured one after the other, the most urgent first; a dropped group is not reported", () => {
  const messages = [];
  let deliver = null;
  const ablations = new Ablations((name, onMessage) => {
    assert.equal(name, "ablation");
    deliver = ablation(onMessage);
    return { send: (message) => messages.push(message) };
  });
  const reported = [];
  const ask = (group, urgency, name) => ablations.ask(group, urgency, CUT, (effect) => reported.push([name, effect.kind]));
  ablations.setSubject(subject());
  ask("units", 2, "unit 0");
  ask("units", 2, "unit 1");
  ask("curve", 1, "curve");
  ask("now", 0, "now");
  ask("now", 0, "again");
  const work = () => deliver(messages.shift());
  work(); // the subject
  work();
  work();
  ablations.drop("units");
  while (messages.length) work();
  assert.deepEqual(reported.map(([name]) => name), ["unit 0", "now", "again", "curve"]);
  assert.ok(reported.every(([, kind]) => kind === "bits"));
});

test("an effect of an earlier model is not reported", () => {
  const messages = [];
  let deliver = null;
  const ablations = new Ablations((_, onMessage) => {
    deliver = ablation(onMessage);
    return { send: (message) => messages.push(message) };
  });
  const reported = [];
  ablations.setSubject(subject());
  ablations.ask("now", 0, CUT, () => reported.push("earlier"));
  ablations.setSubject(subject("11"));
  ablations.ask("now", 0, CUT, ({ count }) => reported.push(count));
  while (messages.length) deliver(messages.shift());
  assert.deepEqual(reported, [4]);
});
