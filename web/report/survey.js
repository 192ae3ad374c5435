// Run a model on many inputs in parts, between which the page can draw.

import { run } from "./lstm.js";
import { predictions } from "./losses.js";
import { flippedOf, inputsOf, layoutOf, linearisedOf, partOf, populationOf, productsOf, splitOf } from "./population.js";
import { significant } from "./statistics.js";
import { decodabilityOfStep, dependency, unitDifferences } from "./what_it_does.js";

const MOST_PRODUCTS = 4e8; // of a Jacobian over steps
const PRODUCTS_PER_PART = 2.5e7; // between which the page can draw
const MOST_STEPS = 10_000;
const MOST_NORMS = 1e6; // output steps times input steps

/**
 * What a copy model does: a generator that returns
 * {K, N, T, H, O, all, symbols, halves, layout, right, r2 (K, T), difference, p and isSignificant (K, T, H),
 * flips (K, K), jacobian (K, K)}; before the end it yields these without r2 and jacobian.
 *
 * Cells are those of the chosen layer and direction. flips[j * K + k] is the mean size of the change of output j if bit
 * k is flipped, and jacobian its linear prediction 2 |dy/dx|: a flip moves x from -1 to 1, or back.
 */
export function* surveyCopies(model, bits, { layer, direction }) {
  const shared = { ...model, bits, targets: null, loss: null, d_outputs: null };
  const population = populationOf(shared);
  const layout = layoutOf(shared);
  const { T, O } = model;
  const { H } = model.layers[layer].directions[direction];
  const { K, N, symbols } = population;
  const places = layout.isRead.map((t, k) => t * O + (k % layout.width));
  const base = yield* runParts(shared, population, ({ layers }) => layers[layer].directions[direction].c);
  const right = shareRight(base.outputs, symbols, places, N);
  const [difference, p] = [new Float64Array(K * T * H), new Float64Array(K * T * H)];
  for (let k = 0; k < K; k++) {
    const tests = unitDifferences({ cells: base.recorded, symbols, T, H, N }, k);
    difference.set(tests.difference, k * T * H);
    p.set(tests.p, k * T * H);
    yield;
  }
  const flipped = flippedOf(population);
  const after = flipped.symbols ? yield* runParts(shared, flipped) : base;
  const flips = dependency({ outputs: base.outputs, N }, { outputs: after.outputs, N: flipped.N || N }, places, flipped.pairs);
  const shapes = { K, N, T, H, O, all: population.all, symbols, layout };
  const first = { ...shapes, right, difference, p, isSignificant: significant(p), flips };
  yield first;
  const { halves } = splitOf(shared, population);
  yield;
  const r2 = new Float64Array(K * T);
  for (let t = 0; t < T; t++) {
    const ofStep = decodabilityOfStep({ cells: base.recorded, symbols, H, N, K }, halves, t);
    ofStep.forEach((value, k) => (r2[k * T + t] = value));
    yield;
  }
  const linearised = linearisedOf(shared, population);
  const jacobian = yield* linearDependency(shared, linearised, layout, places);
  return { ...first, halves, r2, jacobian, linearised: linearised.N };
}

/** The outputs (T O, N) of sequences, and a recorded array (rows, N). */
function* runParts(model, population, record = () => null) {
  const { N } = population;
  const block = Math.max(1, Math.floor(PRODUCTS_PER_PART / productsOf(model)));
  const result = { outputs: null, recorded: null };
  for (let from = 0; from < N; from += block) {
    const part = partOf(population, from, from + block);
    const trace = run({ ...model, N: part.N, x: inputsOf(model, part) }, { backward: false });
    result.outputs = placed(result.outputs, trace.outputs, N, from, part.N);
    const recorded = record(trace);
    if (recorded) result.recorded = placed(result.recorded, recorded, N, from, part.N);
    yield;
  }
  return result;
}

/** Columns of a part in an array of all columns. */
function placed(all, values, N, from, count) {
  const rows = values.length / count;
  if (count === N) return values;
  const result = all ?? new Float64Array(rows * N);
  for (let r = 0; r < rows; r++) result.set(values.subarray(r * count, (r + 1) * count), r * N + from);
  return result;
}

function shareRight(outputs, symbols, places, N) {
  let right = 0;
  places.forEach((place, k) => {
    for (let n = 0; n < N; n++) right += Number(outputs[place * N + n] > 0 === symbols[k * N + n] > 0.5);
  });
  return right / (places.length * N);
}

/** The mean of 2 |dy_j/dx_k| over sequences, (K, K). */
function* linearDependency(model, { N, K, symbols }, layout, places) {
  const { T, I, O } = model;
  const x = inputsOf(model, { K, N, symbols });
  const result = new Float64Array(K * K);
  const block = Math.max(1, Math.floor(PRODUCTS_PER_PART / (3 * productsOf(model))));
  for (let j = 0; j < K; j++) {
    for (let from = 0; from < N; from += block) {
      const part = partOf({ K: T * I, N, symbols: x }, from, from + block);
      const d_outputs = new Float64Array(T * O * part.N);
      d_outputs.fill(1, places[j] * part.N, (places[j] + 1) * part.N);
      const { d_x } = run({ ...model, N: part.N, x: part.symbols, d_outputs });
      for (let k = 0; k < K; k++) {
        const row = (layout.enters[k] * I + (k % layout.width)) * part.N;
        for (let n = 0; n < part.N; n++) result[j * K + k] += (2 * Math.abs(d_x[row + n])) / N;
      }
      yield;
    }
  }
  return result;
}

/**
 * How much each output step depends on each input step, linearised at the current input: a generator that returns
 * {rows, T, norms (rows, T), every}: the Euclidean norm of the derivatives of the outputs of a step by the inputs of a
 * step. Of many outputs, those of classes, it is the output with the largest probability. Of many steps, one of `every`.
 */
export function* surveySteps(model, trace) {
  const { T, I, O } = model;
  const each = O <= 4 ? O : 1;
  const products = 3 * productsOf(model) * each;
  const every = Math.max(1, Math.ceil((T * products) / MOST_PRODUCTS), Math.ceil((T * T) / MOST_NORMS));
  if (T > MOST_STEPS || 3 * productsOf(model) > MOST_PRODUCTS) return null;
  const steps = Array.from({ length: Math.ceil(T / every) }, (_, n) => T - 1 - n * every).reverse();
  const sources = steps.flatMap((t) => outputsOf(model, trace, t, each).map((j) => [t, j]));
  const norms = new Float64Array(steps.length * T);
  const shared = { ...model, targets: null, loss: null };
  const block = Math.max(1, Math.min(32, Math.floor(PRODUCTS_PER_PART / products)));
  for (let from = 0; from < sources.length; from += block) {
    const part = sources.slice(from, from + block);
    const N = part.length;
    const d_outputs = new Float64Array(T * O * N);
    part.forEach(([t, j], n) => (d_outputs[(t * O + j) * N + n] = 1));
    const x = new Float64Array(T * I * N);
    for (let row = 0; row < T * I; row++) x.fill(model.x[row], row * N, (row + 1) * N);
    const { d_x } = run({ ...shared, N, x, d_outputs });
    part.forEach(([t], n) => {
      const row = steps.indexOf(t) * T;
      for (let s = 0; s < T; s++) for (let i = 0; i < I; i++) norms[row + s] += d_x[(s * I + i) * N + n] ** 2;
    });
    yield;
  }
  return { steps, every, T, norms: norms.map(Math.sqrt) };
}

function outputsOf({ O, loss, T }, trace, t, each) {
  if (each === O) return Array.from({ length: O }, (_, j) => j);
  const answers = predictions(loss, trace.outputs, T).subarray(t * O, (t + 1) * O);
  return [answers.reduce((best, p, j) => (p > answers[best] ? j : best), 0)];
}
