// Laws of the modules of the views: measures equal their definitions, colour scales are monotonic.

import assert from "node:assert/strict";
import { test } from "node:test";

import { limitsOf } from "../../../web/report/chart.js";
import { colorOf, scaleOf } from "../../../web/report/colors.js";
import { Context } from "../../../web/report/context.js";
import { formatBrief, formatNumber, formatPercent, formatPower, setDigits } from "../../../web/report/number_text.js";
import { correlations, halfLives, peaks, rowNorms, unitOrder } from "../../../web/report/measures.js";
import { bitSentence, dependencySentence, memorySentence } from "../../../web/report/story.js";

/** A small generator of numbers between -1 and 1, always the same ones (Lehmer 1951). */
function generator(seed) {
  let state = seed;
  return () => ((state = (state * 48271) % 2147483647) / 2147483647) * 2 - 1;
}

function randomWay(T, H, seed = 7) {
  const next = generator(seed);
  const f = Float64Array.from({ length: T * H }, () => 0.5 + 0.49 * next());
  const c = Float64Array.from({ length: T * H }, next);
  return { f, c, H };
}

test("the mean forget gate halves a cell state in one half-life", () => {
  const [T, H] = [11, 5];
  const direction = randomWay(T, H);
  halfLives(direction, T).forEach((life, k) => {
    let left = 1;
    for (let t = 0; t < T; t++) left *= direction.f[t * H + k];
    assert.ok(Math.abs(left - 0.5 ** (T / life)) < 1e-12);
  });
});

test("the half-life of an open gate is infinite, that of a closed gate is 0", () => {
  const lives = halfLives({ f: Float64Array.of(1, 0, 1, 1), H: 2 }, 2);
  assert.deepEqual([...lives], [Infinity, 0]);
});

test("the peak of a cell is its largest size, whatever its sign", () => {
  const c = Float64Array.of(1, 0.1, -3, 0.2, 2, -0.1);
  assert.deepEqual([...peaks({ c, H: 2 }, 3)], [1, 1]);
});

test("correlation is 1 with itself, -1 with its mirror, invariant to scale and shift, and 0 with a constant", () => {
  const [T, next] = [9, generator(3)];
  const x = Float64Array.from({ length: T }, next);
  const c = Float64Array.from(
    { length: 3 * T },
    (_, n) => [3 * x[Math.floor(n / 3)] + 1, -x[Math.floor(n / 3)], 4][n % 3],
  );
  const [same, mirror, constant] = correlations({ c, H: 3 }, x, 1, 0, T);
  assert.ok(Math.abs(same - 1) < 1e-12 && Math.abs(mirror + 1) < 1e-12 && constant === 0);
});

test("norms of rows are Euclidean", () => {
  assert.deepEqual([...rowNorms(Float64Array.of(3, 4, 0, -2), 2)], [5, 2]);
});

test("the row of a unit has its values at every step, and those of its gate of z", () => {
  const [T, H, next] = [5, 3, generator(13)];
  const random = (size) => Float64Array.from({ length: T * size }, next);
  const direction = { H, c: random(H), h: random(2), z: random(4 * H), d_z: random(4 * H) };
  const before = { ...direction, c: random(H) };
  const context = Object.assign(Object.create(Context.prototype), {
    trace: { T, layers: [{ directions: [direction] }] },
    reference: { T, layers: [{ directions: [before] }] },
    edited: true,
    state: { layer: 0, direction: 0, version: "new" },
  });
  const steps = Array.from({ length: T }, (_, t) => t);
  for (let k = 0; k < H; k++) {
    assert.deepEqual([...context.row("c", k)], steps.map((t) => direction.c[t * H + k]));
    assert.deepEqual([...context.rowBefore("c", k)], steps.map((t) => before.c[t * H + k]));
    ["i", "f", "o", "g"].forEach((gate, n) => {
      for (const name of ["z", "d_z"]) {
        const expected = steps.map((t) => direction[name][t * 4 * H + n * H + k]);
        assert.deepEqual([...context.row(`${name}_${gate}`, k)], expected);
        assert.deepEqual(steps.map((t) => context.at(`${name}_${gate}`, t, k)), expected);
      }
    });
    assert.deepEqual([...context.row("h", k)], steps.map(() => NaN)); // projected: its rows are not units
    assert.equal(context.rowBefore("h", k), undefined);
    assert.equal(context.at("c", T, k), undefined);
  }
  assert.equal(Object.assign(context, { edited: false }).rowBefore("c", 0), undefined);
});

test("the limits of a chart are the extremes of its finite values and 0; of a logarithmic one, at most six decades", () => {
  const series = [{ values: [0.5, NaN, Infinity, 2] }, { values: Float64Array.of(-3, -Infinity) }];
  assert.deepEqual(limitsOf(series, false, false), [-3, 2]);
  assert.deepEqual(limitsOf([{ values: [1, 4] }], false, true), [0, 4]);
  assert.deepEqual(limitsOf([{ values: [0, NaN] }], false, false), [0, 1]);
  assert.deepEqual(limitsOf([{ values: [0, -1, 0.02, 30] }], true, false), [-2, 2]);
  assert.deepEqual(limitsOf([{ values: [1e-9, 30] }], true, false), [-4, 2]);
  assert.deepEqual(limitsOf([{ values: [0] }], true, false), [-13, -12]);
});

test("every order of the units has each unit once, and is sorted", () => {
  const [T, H] = [6, 8];
  const direction = randomWay(T, H, 11);
  const x = Float64Array.from({ length: T }, generator(5));
  const keys = {
    index: null,
    peak: peaks(direction, T),
    "half-life": halfLives(direction, T),
    correlation: correlations(direction, x, 1, 0, T),
  };
  for (const [sort, key] of Object.entries(keys)) {
    const order = unitOrder({ direction, T, model: { x, I: 1 }, state: { sort, channel: 0 } });
    assert.deepEqual(
      [...order].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
    const sign = sort === "peak" ? 1 : -1;
    if (key) for (let n = 1; n < H; n++) assert.ok(sign * key[order[n]] >= sign * key[order[n - 1]]);
  }
});

const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

test("a more open gate is darker, in light and dark", () => {
  for (const theme of ["light", "dark"]) {
    for (let n = 1; n <= 20; n++) {
      const [less, more] = [(n - 1) / 20, n / 20].map((f) => luminance(colorOf(theme, scaleOf("f"), f)));
      assert.ok(more < less, `${theme}, ${n / 20}`);
    }
  }
});

test("a share of 0 is the lightest on a light page, and the darkest on a dark one", () => {
  for (const [theme, sign] of [["light", -1], ["dark", 1]]) {
    const lights = Array.from({ length: 33 }, (_, n) => colorOf(theme, { name: "share", low: 0, high: 1 }, n / 32).slice(0, 3).reduce((a, b) => a + b));
    lights.slice(1).forEach((light, n) => assert.ok(sign * (light - lights[n]) > 0));
  }
});

test("an open gate is visible on the page, in light and dark: contrast of at least 3", () => {
  const linear = (channel) => (channel <= 10.31475 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4);
  const bright = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  for (const [theme, paper] of Object.entries({ light: [0xfb, 0xfa, 0xf6], dark: [0x12, 0x17, 0x1d] })) {
    const [less, more] = [bright(paper), bright(colorOf(theme, scaleOf("f"), 1))].sort((a, b) => a - b);
    assert.ok((more + 0.05) / (less + 0.05) >= 3, theme);
  }
});

test("zero has the same colour on every diverging scale, and opposite values have different colours", () => {
  for (const theme of ["light", "dark"]) {
    const scales = [scaleOf("g"), scaleOf("c", [-4, 2]), scaleOf("d_c", [1e-5, -3e-5])];
    for (const scale of scales) {
      assert.deepEqual(colorOf(theme, scale, 0), colorOf(theme, scales[0], 0));
      assert.notDeepEqual(colorOf(theme, scale, scale.high / 2), colorOf(theme, scale, scale.low / 2));
      assert.equal(scale.low, -scale.high);
    }
  }
});

test("every number has a colour, also beyond the scale", () => {
  for (const value of [-9, 9, NaN, Infinity, undefined]) {
    for (const symbol of ["f", "c", "d_c"]) assert.equal(colorOf("light", scaleOf(symbol, [0]), value).length, 4);
  }
});

test("a number is shown with four significant digits", () => {
  const next = generator(13);
  const read = (text) => Number(text.replaceAll("−", "-"));
  for (let n = 0; n < 200; n++) {
    const value = next() * 10 ** Math.round(12 * next());
    assert.ok(Math.abs(read(formatNumber(value)) - value) <= 5.01e-4 * Math.abs(value), formatNumber(value));
    assert.ok(Math.abs(read(formatBrief(value)) - value) <= 5.01e-2 * Math.abs(value), formatBrief(value));
    assert.ok(formatNumber(value).length <= 10);
  }
  assert.deepEqual([0, NaN, undefined, Infinity, -Infinity].map(formatNumber), ["0", "–", "–", "∞", "−∞"]);
  setDigits(2);
  assert.deepEqual([0.98765, -1.234, 123.4, 1e-5].map(formatNumber), ["0.99", "−1.2", "123", "1.0e−5"]);
  setDigits(4);
});

test("a power of ten is short", () => {
  assert.deepEqual([0, -2, 3, -12, 5].map(formatPower), ["1", "0.01", "1000", "1e−12", "1e5"]);
});

test("a share is 0 % or 100 % only if it is 0 or 1", () => {
  const shown = { 0: 0, 0.0001: "under 0.1", 0.0039: "0.4", 0.066: 7, 0.977: 98, 0.9961: "99.6", 0.9999: "over 99.9", 1: 100 };
  for (const [share, text] of Object.entries(shown)) assert.equal(formatPercent(Number(share)), `${text} %`);
  assert.equal(formatPercent(-0.012), "−1 %");
  assert.equal(formatPercent(NaN), "–");
});

test("a share has the same digits wherever it has a decimal: it is rounded", () => {
  const shown = { 0.8799: "88.0", 0.995: "99.5", 0.9956: "99.6", 0.3945: "39.5", 1: "100", 0: "0" };
  for (const [share, text] of Object.entries(shown)) assert.equal(formatPercent(Number(share), 1), `${text} %`);
  assert.equal(formatPercent(0.995), "99.5 %");
});

test("units with the same half-life are not ranked", () => {
  const of = (f) => memorySentence({ T: 1, H: f.length, model: {}, direction: { f: Float64Array.from(f), H: f.length }, unitName: String });
  assert.match(of([1, 1, 1]), /^All 3 units remember equally long: nothing is forgotten/);
  assert.match(of([0.5, 0.8, 0.8]), /^2 units remember longest: after 3.1 steps/);
  assert.match(of([0.5, 0.8, 0.7]), /^Unit 1 remembers longest/);
});

test("a change that no output follows is not one that moves an output more", () => {
  const layout = { isRead: [3, 4], enters: [0, 1], width: 1 };
  const none = { right: 0.5, N: 4, all: true, K: 2, flips: new Float64Array(4), layout };
  assert.ok(!bitSentence(1, null, none, String).includes("more"));
  assert.ok(dependencySentence(none).endsWith("0 of 2 outputs depend most on their own bit; the last output depends on no bit."));
});
