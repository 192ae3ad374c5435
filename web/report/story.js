// Sentences computed from the data, which stand at the head of the sections.

import { halfLives, rowNorms } from "./measures.js";
import { formatBrief, formatPercent } from "./number_text.js";
import { pathOf, writtenUnits } from "./relay.js";

const HELD = 0.5; // of the largest write
const READABLE = 0.5; // R² from which a bit can be read
const [SHUT, OPEN] = [0.1, 0.9];
const GOOD = 0.9; // of the bits are right
const GATE_NAMES = { i: "input gate", f: "forget gate", o: "output gate" };

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

/**
 * "Bit 3 is written at step 3 into units 8 and 6, then carried most by units 7 (step 4) and 26 (5 to 8), and read …"
 *
 * relay: of relay.js, or null while it is computed; why: the reason if it is not.
 */
export function bitSentence(k, relay, { flips, K, layout }, unitName, why = "which units carry it between is being measured") {
  const j = largestOutput(flips, K, k);
  const own = layout.isRead[k];
  const moved = layout.isRead[j];
  const isSame = moved === own && j % layout.width === k % layout.width || !flips[j * K + k];
  const other = isSame ? "" : ` Flipping it moves the output of step ${moved} more, where bit ${j} is the target.`;
  if (!relay) return `Bit ${k} is the input of step ${layout.enters[k]} and the target of step ${own}; ${why}.${other}`;
  const path = pathOf(relay);
  if (relay.writtenAt < 0) return `Bit ${k}, the input of step ${layout.enters[k]}, does not change the cells.${other}`;
  if (!path.length) return `Bit ${k} changes the cells from step ${relay.writtenAt} on, but not the output of step ${own}, where it is the target.${other}`;
  const written = writtenUnits(relay).map(unitName);
  const into = written.length ? listed(written, "unit") : "many units, each with less than 10 % of it";
  const later = path.flatMap(({ unit, first, last }) => (last === relay.writtenAt ? [] : [[unit, Math.max(first, relay.writtenAt + 1), last]]));
  const word = later.every(([unit]) => unit === later[0][0]) ? "unit" : "units";
  const steps = later.map(([unit, first, last], n) => `${unitName(unit)} (${n ? "" : `step${first < last ? "s" : ""} `}${first === last ? first : `${first} to ${last}`})`);
  const carried = later.length ? `, then carried most by ${word} ${listed(steps)},` : "";
  return `Bit ${k} is written at step ${relay.writtenAt} into ${into}${carried} and ${isSame ? "read at" : "is the target of"} step ${own}.${other}`;
}

/** How the path of a bit was measured, and how much its units carry. */
export function relaySentence(k, relay) {
  const path = relay ? pathOf(relay) : [];
  if (!path.length) return "";
  const { carried, together, H, N } = relay;
  let most = 0;
  for (const { unit, first, last } of path) for (let t = first; t <= last; t++) most = Math.max(most, carried[t * H + unit]);
  const least = Math.min(...path.map(({ share }) => share));
  const steps = path.flatMap(({ first, last }) => Array.from(together.subarray(first, last + 1)));
  return (
    `The path of bit ${k} at the head of the page is measured by activation patching over ${N} inputs: at one step, c of one unit is ` +
    `that of the run with the flipped bit. The units named, the strongest of each step, bring ${formatPercent(least)} to ` +
    `${formatPercent(most)} of the change of the output each, and c of all units of a step at least ${formatPercent(Math.min(...steps))}: ` +
    `where the share of one unit is small, many units carry the bit together.`
  );
}

/** How many inputs are copied, and how many outputs depend most on their own bit. */
export function dependencySentence({ right, N, all, flips, K }) {
  const own = Array.from({ length: K }, (_, j) => j).filter((j) => flips[j * K + j] && largestInput(flips, K, j) === j).length;
  const inputs = all ? `all ${N} inputs` : `a sample of ${N} inputs`;
  const share = right === 1 ? `Over ${inputs} every bit is right.` : `Over ${inputs} ${formatPercent(right, 1)} of the bits are right.`;
  const last = largestInput(flips, K, K - 1);
  return (
    `${share} ${own} of ${K} outputs ${own === 1 ? "depends most on its" : "depend most on their"} own bit; ` +
    (flips[K * K - K + last] ? `the last output depends most on bit ${last}.` : "the last output depends on no bit.")
  );
}

// ---- the current sequence

/** At which steps information is written, how large the writes are, and which gate opens at the delimiter. */
export function writesSentence(context) {
  const { T, H, direction, survey } = context;
  if (!direction.i || !direction.g || direction.i.length !== T * H) return "";
  const written = Float64Array.from({ length: T }, (_, t) => meanOfStep((n) => Math.abs(direction.i[n] * direction.g[n]), t, H));
  const top = largest(T, (t) => written[t]);
  const parts = survey?.r2 ? [informationSentence(survey, written, context)] : [];
  const most = `The writes are largest at step ${context.stepName(top)}: mean |i\u00a0g| = ${formatBrief(written[top])}`;
  const strong = Array.from(written, (w) => w >= HELD * written[top]);
  const weak = strong.map((mark) => !mark);
  const count = strong.filter(Boolean).length;
  const others = count === T ? "all other steps" : count > T / 2 ? `all steps except ${rangesOf(weak, context)}` : rangesOf(strong, context);
  parts.push(parts.length || T === 1 ? `${most}.` : `${most}; at least half of that at ${others}.`);
  const delimiter = context.delimiter;
  if (delimiter > 0) parts.push(delimiterSentence(context, delimiter));
  return parts.join(" ");
}

/** The steps at which a bit can first be read from the cells, over all inputs, and the writes there and elsewhere. */
function informationSentence({ r2, K, T, layout }, written, context) {
  const first = Array.from({ length: K }, (_, k) => r2.subarray(k * T, (k + 1) * T).findIndex((value) => value >= READABLE));
  const marks = Array.from({ length: T }, (_, t) => first.includes(t));
  const never = first.flatMap((t, k) => (t < 0 ? [k] : []));
  const rest = never.length ? ` ${listed(never.map(String), "Bit")} cannot be read so well at any step.` : "";
  if (never.length === K) return `No bit can be read from the cells of any step by a linear readout (R² below ${READABLE}).`;
  const range = (isIn) => {
    const sizes = Array.from(written).filter((_, t) => marks[t] === isIn);
    const [low, high] = [Math.min(...sizes), Math.max(...sizes)].map(formatBrief);
    return low === high ? low : `${low} to ${high}`;
  };
  const there = first.every((t, k) => t < 0 || t === layout.enters[k]) ? "the bit that is the input of the step" : "a bit";
  const elsewhere = marks.every(Boolean) ? "" : `, and ${range(false)} at the other steps, which add no bit`;
  return (
    `Information is written at ${rangesOf(marks, context)}: there ${there} can first be read from the cells ` +
    `(R² of a linear readout at least ${READABLE}).${rest}${fadingSentence(r2, first, T, layout, context)} The mean of |i\u00a0g| is ${range(true)} there${elsewhere}.`
  );
}

/** The bits that can be read less well at a step between the first one at which they can be read and their output. */
function fadingSentence(r2, first, T, { isRead }, context) {
  let least = { value: READABLE };
  const fading = first.flatMap((from, k) => {
    let low = { value: READABLE };
    for (let t = from; from >= 0 && t <= isRead[k]; t++) if (r2[k * T + t] < low.value) low = { value: r2[k * T + t], t, k };
    if (low.value < least.value) least = low;
    return low.value < READABLE ? [String(k)] : [];
  });
  if (!fading.length) return "";
  return (
    ` From there to the output, R² of ${listed(fading, "bit")} is lower at some steps, down to ` +
    `${formatBrief(least.value)} (bit ${least.k}, step ${context.stepName(least.t)}).`
  );
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
    if (marks[t - 1]) ranges[ranges.length - 1][1] = t;
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
      ? `open forget gates keep the cell state, and its gradient${judgement(f.open, "good", context)}`
      : `most forget gates are not saturated: these cells leak${judgement(0, "enough", context)}`,
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

/** Whether the forget gates do for this task: not where many bits are wrong. */
function judgement(open, praise, { survey, state }) {
  const right = state.version === "old" ? NaN : survey?.right;
  const [forgets, share] = [open === 1 ? ", and no unit forgets" : "", formatPercent(right, 1)];
  return forgets + (right < GOOD ? `: but only ${share} of the bits are right` : right >= GOOD && !forgets ? `, which is ${praise} here` : "");
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
  const kept = Number.isFinite(most) ? `after ${formatBrief(most)} steps half of a cell state is left` : "nothing is forgotten";
  const long = lives.filter((life) => life >= length).length;
  const rest = long
    ? `${long} of ${H} units have a half-life of at least the ${length} steps of this sequence.`
    : `No unit has a half-life as long as this sequence of ${length} steps: what must last longer is handed on or rewritten.`;
  const ties = lives.filter((life) => life === most || Math.abs(life - most) < 1e-9 * most).length;
  const who = ties === 1 ? `Unit ${name} remembers` : ties === H ? `All ${H} units remember equally long` : `${ties} units remember`;
  return `${who}${ties === H && H > 1 ? "" : " longest"}: ${kept}, if nothing is written. ${rest}`;
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
