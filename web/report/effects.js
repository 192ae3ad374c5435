// What a section measures of a model: the effect of the interventions of the moment, next to the untouched model, over a
// slider of all forget gates, and of each unit alone.

import { Ablations, effortOf, qualityOf, subjectOf } from "./ablation.js";

// All forget gates are multiplied by these; 1 leaves them as they are.
export const FACTORS = Array.from({ length: 31 }, (_, n) => (50 + 2 * n) / 100);
const SLOW = 1e8; // multiplications of one effect; then the others are measured only when the user requests it
const [FIRST, CURVE, UNITS] = [0, 1, 2]; // urgencies

export class Effects {
  now = null;
  untouched = null;
  curve = new Float64Array(FACTORS.length).fill(NaN);
  units = []; // [{unit, effect}], in the order of measurement
  isSlow = false;
  model = ""; // the keys of what is measured
  asked = null;
  others = "";
  each = "";

  /** changed: {now(), curve(), units()}, called after each measurement. */
  constructor(connect, changed) {
    this.ablations = new Ablations(connect);
    this.changed = changed;
  }

  /** Measure the interventions of a list on the model of a context, whose key changes with it. */
  measure(context, key, list) {
    if (key !== this.model) {
      const subject = subjectOf(context);
      const isSlow = effortOf(subject) > SLOW;
      Object.assign(this, { model: key, now: null, untouched: null, units: [], others: "", each: "", isSlow });
      this.ablations.setSubject(subject);
      this.ablations.ask("untouched", FIRST, [], (effect) => {
        this.untouched = effect;
        this.changed.now();
      });
      this.asked = null;
    }
    const asked = JSON.stringify(list);
    if (asked === this.asked) return;
    this.asked = asked;
    this.ablations.drop("now");
    this.ablations.ask("now", FIRST, list, (effect) => {
      this.now = effect;
      this.changed.now();
    });
  }

  /** Measure the curve: listOf(factor) are the interventions at a factor. The untouched model is measured first. */
  measureCurve(listOf) {
    const key = JSON.stringify(listOf(1));
    if (key === this.others) return;
    this.others = key;
    this.ablations.drop("curve");
    this.curve = new Float64Array(FACTORS.length).fill(NaN);
    FACTORS.map((_, n) => FACTORS.length - 1 - n).forEach((n) => {
      this.ablations.ask("curve", CURVE, listOf(FACTORS[n]), (effect) => {
        this.curve[n] = Math.abs(qualityOf(effect));
        if (n % 5 === 0) this.changed.curve();
      });
    });
  }

  /** Measure each of H units of a layer and direction with its h or c set to 0. */
  measureUnits(symbol, { layer, direction }, H) {
    const key = `${symbol} ${layer} ${direction}`;
    if (key === this.each) return;
    this.each = key;
    this.units = [];
    this.ablations.drop("units");
    for (let unit = 0; unit < H; unit++) {
      const list = [{ symbol, operation: "set", value: 0, units: [unit], layer, direction }];
      this.ablations.ask("units", UNITS, list, (effect) => {
        this.units.push({ unit, effect });
        this.changed.units();
      });
    }
    this.changed.units();
  }

  /** The units, the one that matters most first, each with its share of the largest effect. */
  ranking() {
    const sorted = [...this.units].sort((a, b) => qualityOf(a.effect) - qualityOf(b.effect) || a.unit - b.unit);
    if (!this.untouched || !sorted.length) return sorted.map((one) => ({ ...one, share: 0 }));
    const best = qualityOf(this.untouched);
    const most = best - qualityOf(sorted[0].effect);
    return sorted.map((one) => ({ ...one, share: most > 0 ? Math.max(0, (best - qualityOf(one.effect)) / most) : 0 }));
  }
}
