// Interventions: quantities of a run that are replaced where they are computed. Everything later uses the new value.
//
// {symbol, operation, layer, direction, units, steps, …}: the symbol is one of x z_i z_f z_o z_g i f o g c h, or W_h for a
// cut; layer and direction are numbers, units and steps arrays of numbers; each may be absent, which means all of them.
// value, low and high are numbers, or arrays with one for each unit, in the order of `units`. Operations:
//   scale {value}, set {value}, add {value}
//   clamp {low, high}   its gradient passes where the value is strictly inside; one limit may be absent
//   freeze              the value of the previous processed step; for h and c the initial state before the first
//   patch {values}      an array of the symbol, (T, rows) or (T, rows, N), from another trace
//   cut                 of W_h: h of these units is not read by the gates
// Interventions on one symbol apply in the order of the list.

const GATES = ["i", "f", "o", "g"];
/** The arguments of the activations; their values are rows of z. */
export const PRE_ACTIVATIONS = GATES.map((gate) => `z_${gate}`);
const SYMBOLS = ["x", ...PRE_ACTIVATIONS, ...GATES, "c", "h"];
const LIMITS = { low: -Infinity, high: Infinity }; // where they are absent
const OPERATIONS = {
  scale: ["value"],
  set: ["value"],
  add: ["value"],
  clamp: ["low", "high"],
  freeze: [],
  patch: ["values"],
};

/** The interventions of a list on direction k of layer l; undefined if there are none. */
export function interventionsOn(list, place) {
  const { l, k, kind } = place;
  const here = (list ?? []).filter(({ layer = l, direction = k }) => layer === l && direction === k);
  if (!here.length) return undefined;
  if (kind !== "lstm") throw new Error(`interventions must be on an LSTM, got ${kind}`);
  return new Interventions(here, place);
}

class Interventions {
  constructor(list, place) {
    this.place = place;
    this.cuts = [];
    this.of = {}; // by symbol
    for (const entry of list) {
      const chosen = selected(entry, place);
      if (entry.operation === "cut") this.cuts.push(chosen);
      else (this.of[entry.symbol] ??= []).push(chosen);
    }
  }

  /** Before the first step. The derivatives of a quantity after the interventions are kept for the backward pass. */
  start(direction) {
    const { T, N } = this.place;
    this.direction = direction;
    this.slopes = {}; // by the same quantity before them
    this.held = {}; // by the quantity of the previous processed step
    this.before = Object.fromEntries(GATES.map((gate) => [gate, direction[gate]]));
    if (this.of.x) direction.x = direction.x.slice();
    for (const symbol of Object.keys(this.of)) {
      const size = T * N * this.rows(symbol);
      this.slopes[symbol] = new Float64Array(size).fill(1);
      this.held[symbol] = new Float64Array(size);
      if (GATES.includes(symbol)) this.before[symbol] = new Float64Array(size);
    }
  }

  rows(symbol) {
    return symbol === "x" ? this.place.I : this.place.H;
  }

  /** Where the values of a symbol are at a step in an array of their own. */
  range(symbol, t) {
    const size = this.rows(symbol) * this.place.N;
    return [t * size, (t + 1) * size];
  }

  /** The values of a symbol, or with the prefix d_ their gradients, at a step. */
  valuesAt(symbol, t, prefix = "") {
    const gate = PRE_ACTIVATIONS.indexOf(symbol);
    const [from, to] = this.range(symbol, t);
    if (gate < 0) return this.direction[prefix + symbol].subarray(from, to);
    const first = 4 * from + gate * (to - from);
    return this.direction[`${prefix}z`].subarray(first, first + to - from);
  }

  /** Replace the values of a symbol at a step. */
  apply(symbol, t) {
    const list = this.of[symbol];
    if (!list) return;
    const [from, to] = this.range(symbol, t);
    const values = this.valuesAt(symbol, t);
    const slopes = this.slopes[symbol].subarray(from, to);
    const held = this.held[symbol].subarray(from, to);
    if (GATES.includes(symbol)) this.before[symbol].set(values, from);
    for (const entry of list) {
      if (!entry.at[t]) continue;
      const change = this.changeOf(entry, symbol, t);
      const { N } = this.place;
      entry.units.forEach((unit, k) => {
        for (let n = unit * N; n < (unit + 1) * N; n++) change(values, slopes, held, n, k);
      });
    }
  }

  /** A function that changes element n, of the k-th of the units, of the values and of their derivatives. */
  changeOf({ operation, value, low, high, values: other }, symbol, t) {
    const replace = (from, share) => (values, slopes, held, n, k) => {
      values[n] = from(n, k);
      slopes[n] = 0;
      held[n] = share;
    };
    if (operation === "set") return replace((_n, k) => value[k], 0);
    if (operation === "patch") return replace(this.reader(other, symbol, t), 0);
    if (operation === "freeze") {
      const earlier = this.previous(symbol, t);
      return earlier ? replace((n) => earlier[n], 1) : () => {};
    }
    if (operation === "add") return (values, _slopes, _held, n, k) => void (values[n] += value[k]);
    if (operation === "scale") {
      return (values, slopes, held, n, k) => {
        for (const array of [values, slopes, held]) array[n] *= value[k];
      };
    }
    return (values, slopes, held, n, k) => {
      if (values[n] > low[k] && values[n] < high[k]) return;
      values[n] = Math.min(high[k], Math.max(low[k], values[n]));
      slopes[n] = held[n] = 0;
    };
  }

  /** Reads element n of a step from an array (T, rows) or (T, rows, N). */
  reader(array, symbol, t) {
    const [{ T, N }, rows] = [this.place, this.rows(symbol)];
    const columns = array.length / (T * rows);
    if (columns !== 1 && columns !== N) {
      throw new Error(`values of a patch must have ${T * rows} numbers, got ${array.length}`);
    }
    return (n) => array[columns === N ? t * rows * N + n : t * rows + Math.floor(n / N)];
  }

  /** The values of the previous processed step; null for a gate or an input at the first step. */
  previous(symbol, t) {
    const { direction, place } = this;
    const earlier = direction.reverse ? t + 1 : t - 1;
    if (earlier >= 0 && earlier < place.T) return this.valuesAt(symbol, earlier);
    const initial = { h: direction.h_prev, c: direction.c_prev }[symbol];
    return initial ? initial.subarray(...this.range(symbol, t)) : null;
  }

  /** Write 0 where h of a unit is not read: in [h; x; 1] or its gradient. */
  cut(u, t) {
    const { N } = this.place;
    for (const { units, at } of this.cuts) if (at[t]) for (const k of units) u.fill(0, k * N, (k + 1) * N);
  }

  withoutCut(h, t) {
    if (!this.cuts.length) return h;
    const copy = h.slice();
    this.cut(copy, t);
    return copy;
  }

  /** The quantities before the interventions, and arrays of the gradients on them. */
  startBackward(direction) {
    const { T, N } = this.place;
    this.direction = direction; // of this backward pass
    this.later = {}; // by symbol, but of c and h in other ways: the gradient that a frozen value of the next processed step adds
    for (const symbol of SYMBOLS) {
      const name = `d_${symbol}`;
      const size = N * this.rows(symbol);
      if (!PRE_ACTIVATIONS.includes(symbol)) this.before[name] = this.of[symbol] && symbol !== "x" ? new Float64Array(T * size) : direction[name];
      if (this.of[symbol]) this.later[symbol] = new Float64Array(size);
    }
    return this.before;
  }

  /** Compute the gradients on a symbol before the interventions, from those after them. */
  applyBackward(symbol, t) {
    if (!this.of[symbol]) return;
    const [from, to] = this.range(symbol, t);
    const after = this.valuesAt(symbol, t, "d_");
    const before = this.before[`d_${symbol}`]?.subarray(from, to) ?? after; // of pre-activations in place
    const [later, slopes, held] = [this.later[symbol], this.slopes[symbol], this.held[symbol]];
    const isState = "ch".includes(symbol); // passOn adds their later gradients
    for (let n = from, k = 0; n < to; n++, k++) {
      const d = isState ? after[k] : (after[k] += later[k]);
      later[k] = held[n] * d;
      before[k] = slopes[n] * d;
    }
  }

  /** After a step of the backward pass: scale the parts of d_c, and pass on the gradients of frozen states. */
  passOn(t, d_h_next, d_c_next) {
    this.applyBackward("x", t);
    if (this.of.h) {
      const { output, recurrent } = this.direction;
      const [from, to] = this.range("h", t);
      for (let n = from; n < to; n++) {
        output[n] *= this.slopes.h[n];
        recurrent[n] *= this.slopes.h[n];
      }
    }
    this.later.h?.forEach((d, k) => (d_h_next[k] += d));
    this.later.c?.forEach((d, k) => (d_c_next[k] += d));
  }
}

/** An intervention with the numbers of its units, and whether it acts at each step. */
function selected(entry, { T, H, I }) {
  const { symbol, operation, units, steps } = entry;
  check(symbol, operation);
  const rows = symbol === "x" ? I : H;
  const whole = (count) => Array.from({ length: count }, (_, n) => n);
  checkNumbers("units", units, rows);
  checkNumbers("steps", steps, T);
  const at = new Uint8Array(T);
  for (const t of steps ?? whole(T)) at[t] = 1;
  const chosen = units ?? whole(rows);
  return { ...entry, ...numbersOf(entry, chosen.length), units: chosen, at };
}

/** {value} or {low, high} of an operation as arrays, with a number for each of the units. */
function numbersOf(entry, count) {
  const { operation } = entry;
  const numbers = {};
  if (operation === "clamp" && entry.low == null && entry.high == null) throw new Error("clamp must have low or high, got neither");
  for (const name of operation === "cut" ? [] : OPERATIONS[operation]) {
    const given = name in LIMITS ? (entry[name] ?? LIMITS[name]) : entry[name];
    if (name === "values") continue;
    const isArray = Array.isArray(given) || ArrayBuffer.isView(given);
    if (isArray && given.length !== count) {
      throw new Error(`${name} of ${operation} must have a number for each of the ${count} units, got ${given.length}`);
    }
    numbers[name] = isArray ? Float64Array.from(given) : new Float64Array(count).fill(given);
    const isRight = (number) => Number.isFinite(number) || (number === LIMITS[name] && !isArray);
    if ((!isArray && typeof given !== "number") || !numbers[name].every(isRight)) {
      throw new Error(`${name} of ${operation} must be a number${isArray ? " for each unit" : ""}, got ${given}`);
    }
  }
  const { low, high } = numbers;
  if (low?.some((limit, k) => limit > high[k])) throw new Error(`low must be at most high, got ${entry.low} and ${entry.high}`);
  return numbers;
}

function check(symbol, operation) {
  if (operation === "cut") {
    if (symbol !== "W_h") throw new Error(`symbol of a cut must be W_h, got ${symbol}`);
    return;
  }
  if (!SYMBOLS.includes(symbol)) throw new Error(`symbol must be one of ${SYMBOLS.join(", ")}, got ${symbol}`);
  if (!Object.hasOwn(OPERATIONS, operation)) {
    throw new Error(`operation must be one of ${Object.keys(OPERATIONS).join(", ")}, cut, got ${operation}`);
  }
}

function checkNumbers(name, numbers, count) {
  for (const n of numbers ?? []) {
    if (!Number.isInteger(n) || n < 0 || n >= count) throw new Error(`${name} must be 0 to ${count - 1}, got ${n}`);
  }
}
