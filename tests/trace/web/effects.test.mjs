// Laws of effects.js: everything is measured once per model, whatever the order of the changes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ablation } from "../../../web/report/ablation.js";
import { interventionsOf, untouched } from "../../../web/report/break_it_settings.js";
import { Effects, FACTORS } from "../../../web/report/effects.js";
import { newModel } from "../../../web/report/training.js";

const H = 5;

/** Effects whose messages wait until work() is called. */
function waiting() {
  const messages = [];
  const counts = { now: 0, curve: 0, units: 0 };
  let deliver = null;
  const changed = Object.fromEntries(Object.keys(counts).map((name) => [name, () => counts[name]++]));
  const effects = new Effects((_, onMessage) => {
    deliver = ablation(onMessage);
    return { send: (message) => messages.push(message) };
  }, changed);
  const work = () => {
    let count = 0;
    for (; messages.length; count++) deliver(messages.shift());
    return count;
  };
  return { effects, counts, work };
}

function context() {
  const model = newModel({ kind: "lstm", units: H, forgetBias: 1, seed: 3 });
  return { model, payload: { copy: { mode: "recall", bits_per_step: 1, bits: "101" } } };
}

const at = (change) => interventionsOf({ ...untouched(), ...change });

test("two changes at once: the last one is measured, and the untouched model", () => {
  const { effects, work } = waiting();
  const of = context();
  effects.measure(of, "model", at({ factor: 0.9 }));
  effects.measure(of, "model", at({ cut: true }));
  work();
  assert.equal(effects.untouched.kind, "bits");
  const { effects: other, work: workOther } = waiting();
  other.measure(of, "model", at({ cut: true }));
  workOther();
  assert.deepEqual(effects.now.byPosition, other.now.byPosition);
});

test("the curve is measured again only when another intervention changes", () => {
  const { effects, work } = waiting();
  const of = context();
  const curve = (change) => effects.measureCurve((factor) => at({ ...change, factor }));
  effects.measure(of, "model", []);
  curve({});
  work();
  assert.ok(effects.curve.every((share) => share >= 0 && share <= 1));
  assert.equal(effects.curve[FACTORS.indexOf(1)], effects.untouched.all);
  effects.measure(of, "model", at({ factor: 0.8 }));
  curve({});
  assert.equal(work(), 1);
  assert.equal(effects.curve[FACTORS.indexOf(0.8)], effects.now.all);
  curve({ cut: true });
  assert.equal(work(), FACTORS.length);
});

test("each unit is measured once, and ranked by its effect", () => {
  const { effects, work } = waiting();
  effects.measure(context(), "model", []);
  effects.measureUnits("h", { layer: 0, direction: 0 }, H);
  effects.measureUnits("h", { layer: 0, direction: 0 }, H);
  assert.equal(work(), 2 + 1 + H); // the subject, the untouched model, the interventions, and the units
  const ranking = effects.ranking();
  assert.deepEqual(ranking.map(({ unit }) => unit).sort(), [0, 1, 2, 3, 4]);
  for (let n = 1; n < H; n++) assert.ok(ranking[n].effect.all >= ranking[n - 1].effect.all);
  effects.measureUnits("c", { layer: 0, direction: 0 }, H);
  assert.equal(work(), H);
});

test("a model with many weights is slow, and a long sequence", () => {
  const { effects } = waiting();
  effects.measure(context(), "small", []);
  assert.ok(!effects.isSlow);
  const wide = newModel({ kind: "lstm", units: 128, forgetBias: 1, seed: 3 });
  effects.measure({ model: { ...wide, T: 17, bits: "10110010" }, payload: { copy: { mode: "recall", bits_per_step: 1 } } }, "wide", []);
  assert.ok(effects.isSlow);
  effects.measure({ model: { ...context().model, T: 100_000 }, payload: { copy: null } }, "long", []);
  assert.ok(effects.isSlow);
});

test("another model: everything is measured again", () => {
  const { effects, work } = waiting();
  effects.measure(context(), "model", []);
  effects.measureUnits("h", { layer: 0, direction: 0 }, H);
  effects.measure(context(), "other", []);
  effects.measureUnits("h", { layer: 0, direction: 0 }, H);
  work();
  assert.equal(effects.units.length, H);
  assert.ok(effects.now && effects.untouched);
});
