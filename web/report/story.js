// Sentences computed from the data, which stand at the head of the sections.

import { halfLives, rowNorms } from "./measures.js";
import { formatBrief, formatPercent } from "./number_text.js";

const HELD = 0.5; // share of the largest difference from which a unit holds a bit
const MOST_UNITS = 3; // in a sentence
const [SHUT, OPEN] = [0.1, 0.9];
const GATE_NAMES = { i: "input gate", f: "forget gate", o: "output gate" };

/**
 * Where a bit is in a model: {written, handed, steps}, of the differences (T, H) and whether they are significant.
 *
 * written: the units with at least half of the largest difference at the step of the input, the largest first; handed:
 * other units with at least half of the largest difference at the steps up to the answer, in the order of the steps of
 * their largest difference, which are `steps`; at most three each.
 */
export function storyOfBit({ difference, isSignificant }, { H, enter, isRead }) {
  const size = (step, u) => (isSignificant[step * H + u] ? Math.abs(difference[step * H + u]) : 0);
  const units = Array.from({ length: H }, (_, u) => u);
  const strongest = (key, among) => {
    const most = Math.max(...units.map(key));
    const found = among.filter((u) => key(u) > 0 && key(u) >= HELD * most);
    return found.sort((a, b) => key(b) - key(a)).slice(0, MOST_UNITS);
  };
  const peakStep = (u) => {
    let best = enter + 1;
    for (let step = enter + 2; step < isRead; step++) if (size(step, u) > size(best, u)) best = step;
    return best;
  };
  const peak = (u) => (enter + 1 < isRead ? size(peakStep(u), u) : 0);
  const written = strongest((u) => size(enter, u), units);
  const handed = strongest(peak, units.filter((u) => !written.includes(u)));
  handed.sort((a, b) => peakStep(a) - peakStep(b));
  return { written, handed, steps: handed.map(peakStep) };
}

/** The bit of which an output depends most, and the output that depends most on a bit: largest in a row or column. */
export function largestInput(flips, K, j) {
  return largest(K, (k) => flips[j * K + k]);
}

export function largestOutput(flips, K, k) {
  return largest(K, (j) => flips[j * K + k]);
}

function largest(count, key) {
  let best = 0;
  for (let n = 1; n < count; n++) if (key(n) > key(best)) best = n;
  return best;
}

/** "units 19 and 8", "unit 4", "9, 22 and 17" */
export function listed(names, noun = "") {
  const words = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}` : names.join("");
  return noun ? `${noun}${names.length > 1 ? "s" : ""} ${words}` : words;
}

/** "Bit 3 shows first in units 19 and 8, then in 9 (most at step 5) and 17 (10), and is read at step 12." */
export function bitSentence(k, { written, handed, steps }, { flips, K, layout }, unitName) {
  const j = largestOutput(flips, K, k);
  const own = layout.isRead[k];
  const where = written.length ? `shows first in ${listed(written.map(unitName), "unit")}` : "does not differ significantly in any unit";
  const later = handed.map((u, n) => `${unitName(u)} (${n ? "" : "most at step "}${steps[n]})`);
  const then = later.length ? `, then in ${listed(later)}` : "";
  const read = layout.isRead[j];
  const isSame = read === own && j % layout.width === k % layout.width;
  const end = isSame ? `is read at step ${own}` : `moves the output of step ${read} most, where bit ${j} is the target`;
  return `Bit ${k} ${where}${then}${then ? "," : ""} and ${isSame ? "" : "it "}${end}.`;
}

/** How many inputs are copied, and how many outputs depend most on their own bit. */
export function dependencySentence({ right, N, all, flips, K }) {
  const own = Array.from({ length: K }, (_, j) => j).filter((j) => largestInput(flips, K, j) === j).length;
  const inputs = all ? `all ${N} inputs` : `a sample of ${N} inputs`;
  const share = right === 1 ? `Over ${inputs} every bit is right.` : `Over ${inputs} ${percent(right)} of the bits are right.`;
  const last = largestInput(flips, K, K - 1);
  return (
    `${share} ${own} of ${K} outputs ${own === 1 ? "depends most on its" : "depend most on their"} own bit; ` +
    `the last output depends most on bit ${last}.`
  );
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.995 ? 2 : 1)} %`;
}

// ---- the current sequence

/** At which steps the layer writes, and which gate opens at the delimiter. */
export function writesSentence(context) {
  const { T, H, direction } = context;
  if (!direction.i || !direction.g || direction.i.length !== T * H) return "";
  const written = Float64Array.from({ length: T }, (_, t) => meanOfStep((n) => Math.abs(direction.i[n] * direction.g[n]), t, H));
  const top = largest(T, (t) => written[t]);
  const strong = rangesOf(Array.from(written, (w) => w >= HELD * written[top]), context);
  const parts = [
    `The cells are written most at step ${context.stepName(top)}: mean |i g| = ${formatBrief(written[top])}; ` +
      `at least half of that at ${strong}.`,
  ];
  const delimiter = context.delimiter;
  if (delimiter > 0) parts.push(delimiterSentence(context, delimiter));
  return parts.join(" ");
}

function delimiterSentence({ direction, H, T }, t) {
  const change = (gate) => {
    const mean = (step) => meanOfStep((n) => direction[gate][n], step, H);
    let others = 0;
    for (let step = 0; step < T; step++) if (step !== t) others += mean(step) / (T - 1);
    return { gate, here: mean(t), others, change: mean(t) - others };
  };
  const changes = Object.keys(GATE_NAMES).map(change);
  const [most] = [...changes].sort((a, b) => b.change - a.change);
  if (most.change <= 0) return `At the delimiter, step ${t}, no gate is more open than at other steps.`;
  return (
    `At the delimiter, step ${t}, the ${GATE_NAMES[most.gate]} opens most: a mean of ${formatBrief(most.here)}, ` +
    `and ${formatBrief(most.others)} at the other steps.`
  );
}

function meanOfStep(value, t, H) {
  let sum = 0;
  for (let n = t * H; n < (t + 1) * H; n++) sum += value(n);
  return sum / H;
}

/** "steps 0 to 3, 8" of a list of truth values. */
function rangesOf(marks, context) {
  const ranges = [];
  marks.forEach((mark, t) => {
    if (!mark) return;
    if (t > 0 && marks[t - 1]) ranges[ranges.length - 1][1] = t;
    else ranges.push([t, t]);
  });
  const name = (t) => (context.model.steps ? context.model.steps[t] : t);
  const words = ranges.slice(0, 6).map(([from, to]) => (from === to ? name(from) : `${name(from)} to ${name(to)}`));
  return `step${marks.filter(Boolean).length > 1 ? "s" : ""} ${words.join(", ")}${ranges.length > 6 ? ", …" : ""}`;
}

/** Which gates are saturated, and whether that is good. */
export function saturationSentence(context) {
  const { T, H, direction } = context;
  if (!["i", "f", "o"].every((gate) => direction[gate]?.length === T * H)) return "";
  const shares = {};
  for (const gate of ["i", "f", "o"]) {
    let [shut, open] = [0, 0];
    for (const value of direction[gate]) {
      if (value < SHUT) shut++;
      if (value > OPEN) open++;
    }
    shares[gate] = { shut: shut / (T * H), open: open / (T * H) };
  }
  const always = (gate, test) =>
    Array.from({ length: H }, (_, k) => k).filter((k) => context.row(gate, k).every(test));
  const unread = always("o", (value) => value < SHUT);
  const unwritten = always("i", (value) => value < SHUT);
  const { f, i, o } = shares;
  const verdicts = [
    f.open > 0.5
      ? "open forget gates are good here: they keep the cell state, and its gradient"
      : "most forget gates are not saturated: these cells leak",
  ];
  const idle = unread.length + unwritten.length;
  if (idle) {
    const named = [
      ...(unwritten.length ? [`${count(unwritten.length)} never written`] : []),
      ...(unread.length ? [`${count(unread.length)} never read`] : []),
    ];
    verdicts.push(`${named.join(" and ")} on this input, which is bad if it is so on every input`);
  } else verdicts.push("no unit has an input or output gate that stays shut, which is good");
  return (
    `Saturated, below ${SHUT} or above ${OPEN}: forget gates ${formatPercent(f.shut)} shut and ${formatPercent(f.open)} open, ` +
    `input gates ${formatPercent(i.shut)} and ${formatPercent(i.open)}, output gates ${formatPercent(o.shut)} and ${formatPercent(o.open)} ` +
    `of all units and steps. Verdict: ${verdicts.join("; ")}. Through a saturated gate almost no gradient flows to its weights.`
  );
}

function count(units) {
  return units === 1 ? "1 unit is" : `${units} units are`;
}

/** The unit with the longest half-life. */
export function memorySentence(context) {
  const { direction, T, H } = context;
  const lives = Array.from(halfLives(direction, T));
  const longest = largest(H, (k) => lives[k]);
  const [most, name] = [lives[longest], context.unitName(longest)];
  const length = context.model.steps ? context.model.steps[T - 1] + 1 : T;
  const kept = Number.isFinite(most) ? `after ${formatBrief(most)} steps half of its cell state is left` : "it forgets nothing";
  const long = lives.filter((life) => life >= length).length;
  const rest = long
    ? `${long} of ${H} units have a half-life of at least the ${length} steps of this sequence.`
    : `No unit has a half-life as long as this sequence of ${length} steps: what must last longer is handed on or rewritten.`;
  return `Unit ${name} remembers longest: ${kept}, if nothing is written. ${rest}`;
}

/** What a unit does: its largest writes, and where it holds. */
export function unitSentence(context) {
  const { T, state, direction } = context;
  if (direction.i?.length !== direction.g?.length || !direction.i) return "";
  const [i, f, g, c] = ["i", "f", "g", "c"].map((name) => context.row(name));
  const writes = i.map((value, t) => value * g[t]);
  const top = largest(T, (t) => Math.abs(writes[t]));
  const peak = largest(T, (t) => Math.abs(c[t]));
  const mean = Math.exp(f.reduce((sum, value) => sum + Math.log(value), 0) / T);
  return (
    `Unit ${context.unitName(state.unit)} is written most at step ${context.stepName(top)} (i g = ${formatBrief(writes[top])}), ` +
    `is largest at step ${context.stepName(peak)} (c = ${formatBrief(c[peak])}), and keeps ${formatPercent(mean)} of its cell state per step (geometric mean of its forget gates, as in its half-life).`
  );
}

/** How large the gradient is at the first step, and by which path. */
export function gradientSentence(context, { total, crossings, name }) {
  const { T, direction, H } = context;
  const [first, last] = direction.reverse ? [T - 1, 0] : [0, T - 1];
  const norm = (values, t) => Math.hypot(...values.subarray(t * H, (t + 1) * H));
  const atFirst = norm(total, first);
  let largestStep = first;
  rowNorms(total, T).forEach((size, t, norms) => (largestStep = size > norms[largestStep] ? t : largestStep));
  const start = `At step ${context.stepName(first)} the norm of ${name} is ${formatBrief(atFirst)}; its largest is ${formatBrief(norm(total, largestStep))} at step ${context.stepName(largestStep)}.`;
  if (!crossings || atFirst === 0) return atFirst === 0 && first !== last ? `${start} No gradient reaches it.` : start;
  // The projection of each part on the whole: these shares add up to 1.
  const shares = crossings.map((part) => {
    let sum = 0;
    for (let n = first * H; n < (first + 1) * H; n++) sum += part[n] * total[n];
    return sum / atFirst ** 2;
  });
  const best = largest(shares.length, (n) => shares[n]);
  const ways = ["", "once", "twice", "three or more times"];
  const cell = best ? ` The path along the cells alone brings ${formatPercent(shares[0])}.` : "";
  const words =
    `${start} Of the gradient at step ${context.stepName(first)} the largest part, ${formatPercent(shares[best])}, ` +
    `${best ? `crosses the recurrent weights ${ways[best]}` : "comes along the cells alone"}.${cell} A share is how far a part ` +
    `points in the direction of the whole: shares add up to 100 %, and a part that points against the whole is negative.`;
  return words.replaceAll(" %", "\u00a0%"); // a number and its sign stay on one line
}
