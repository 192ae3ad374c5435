// State shared by the views: the model, its trace, the selection, and access to values.

import { differenceScale, scaleOf } from "./colors.js";
import { decode, GATES, run } from "./lstm.js";

export class Context {
  constructor(payload) {
    this.payload = payload;
    this.model = decode(payload);
    this.state = { step: 0, unit: 0, layer: 0, direction: 0, mode: "forward", sort: "index", channel: 0, bit: 0 };
    this.state.version = "new"; // of the values: "new", "old", or "difference"
    this.theme = "light";
    this.projected = false; // whether numbers are for a projector
    this.edited = false;
    this.compute();
    this.reference = this.trace;
    this.state.bit = Math.max(0, (this.bits.length >> 1) - 1);
  }

  /** Run the model again after a change. */
  compute() {
    this.trace = run(this.model);
    this.cache = new Map();
    this.state.step = Math.min(this.state.step, this.trace.T - 1);
    this.state.bit = Math.max(0, Math.min(this.state.bit, this.bits.length - 1));
    if (this.reference && !this.comparable) this.state.version = "new";
  }

  /** Whether the model or its input differs from that of the report. */
  differs() {
    this.original ??= decode(this.payload);
    const arraysOf = ({ x, layers }) => [x, ...layers.flatMap(({ directions }) => directions.map(({ W }) => W))];
    const before = arraysOf(this.original);
    const isNew = (values, n) => values.length !== before[n].length || values.some((value, k) => !Object.is(value, before[n][k]));
    return this.model.interventions?.length > 0 || arraysOf(this.model).some(isNew);
  }

  /** Restore the model and the input of the report. */
  restore() {
    const { interventions } = this.model;
    this.model = Object.assign(decode(this.payload), interventions && { interventions: [] });
    this.edited = false;
    this.state.version = "new";
    this.compute();
  }

  /** Whether the values before the changes have the shape of the new ones. */
  get comparable() {
    return this.edited && this.reference.T === this.trace.T;
  }

  /** The bits of a copy task, or "". */
  get bits() {
    return this.payload.copy && this.model.live ? (this.model.bits ?? this.payload.copy.bits) : "";
  }

  /** The step of the delimiter of a copy task, or -1. */
  get delimiter() {
    const { copy } = this.payload;
    return copy?.mode === "recall" && this.model.live ? this.bits.length / copy.bits_per_step : -1;
  }

  /** A text that differs after each change of the model, but not of its input. */
  get fingerprint() {
    let sum = 0;
    const add = (values) => values?.forEach((value, n) => (sum += value * Math.sin(n + 1)));
    for (const { directions } of this.model.layers) for (const { W, h0, c0 } of directions) [W, h0, c0].forEach(add);
    add(this.model.readout?.weight);
    add(this.model.readout?.bias);
    return `${this.T} ${sum} ${JSON.stringify(this.model.interventions ?? [])}`;
  }

  get T() {
    return this.trace.T;
  }

  /** The values of the selected layer and direction: the new ones, or those before the changes. */
  get direction() {
    return this.directionOf(this.state.version === "old" ? this.reference : this.trace);
  }

  directionOf(trace) {
    return trace.layers[this.state.layer].directions[this.state.direction];
  }

  /** The values of a symbol that maps display, (T, rows): new, old, or their difference. */
  valuesOf(symbol) {
    const values = this.direction[symbol];
    if (this.state.version !== "difference" || !values) return values;
    const before = this.directionOf(this.reference)[symbol];
    return this.cached(`values ${symbol}`, () => values.map((value, n) => value - before[n]));
  }

  /** The weights of the selected layer and direction. */
  get weights() {
    return this.model.layers[this.state.layer].directions[this.state.direction];
  }

  get H() {
    return this.direction.H;
  }

  get hasGradients() {
    return Boolean(this.direction.d_c);
  }

  get backward() {
    return this.state.mode === "backward";
  }

  /** Every layer and direction: [{layer, direction, name}]. */
  get directions() {
    return this.model.layers.flatMap(({ directions }, l) =>
      directions.map(({ name }, k) => ({ layer: l, direction: k, name })),
    );
  }

  /** The number of a unit in the model: a static page may have a selection of units. */
  unitName(k) {
    return String(this.direction.units ? this.direction.units[k] : k);
  }

  stepName(t) {
    const number = this.model.steps ? this.model.steps[t] : t;
    const name = this.payload.step_names?.[t];
    return name ? `${number} (${name})` : String(number);
  }

  /** The previous step in processing order; -1 or T before the first. */
  before(t) {
    return this.direction.reverse ? t + 1 : t - 1;
  }

  after(t) {
    return this.direction.reverse ? t - 1 : t + 1;
  }

  has(t) {
    return t >= 0 && t < this.T;
  }

  /** Whether two rows of the arrays are adjacent steps: a static page may omit steps. */
  adjacent(t, other) {
    const { steps } = this.model;
    return this.has(t) && this.has(other) && (!steps || Math.abs(steps[t] - steps[other]) === 1);
  }

  /** The values of a symbol, and where those of a unit are among them, or null. z_f: the rows of z of gate f. */
  placeOf(symbol, k, direction = this.direction) {
    const { H } = direction;
    const [, name = symbol, gate] = /^((?:d_)?z)_([ifog])$/.exec(symbol) ?? [];
    const values = direction[name];
    const size = gate ? 4 * H : H;
    return values?.length === this.T * size ? { values, size, first: gate ? GATES.indexOf(gate) * H + k : k } : null;
  }

  /** The value of a symbol for a unit at a step, or undefined. */
  at(symbol, t = this.state.step, k = this.state.unit) {
    const place = this.has(t) ? this.placeOf(symbol, k) : null;
    return place?.values[t * place.size + place.first];
  }

  /** The value that a map displays for the selected unit and step. */
  mapValue(symbol) {
    const values = this.state.version === "difference" ? this.valuesOf(symbol) : null;
    return values ? values[this.state.step * this.H + this.state.unit] : this.at(symbol);
  }

  /** The values of a unit at every step. */
  row(symbol, k = this.state.unit) {
    return this.rowOf(this.placeOf(symbol, k)) ?? new Float64Array(this.T).fill(NaN);
  }

  /** The values of a unit before the changes, or undefined if there are none to compare. */
  rowBefore(symbol, k = this.state.unit) {
    return this.comparable ? this.rowOf(this.placeOf(symbol, k, this.directionOf(this.reference))) : undefined;
  }

  rowOf(place) {
    if (!place) return undefined;
    const row = new Float64Array(this.T);
    for (let t = 0; t < row.length; t++) row[t] = place.values[t * place.size + place.first];
    return row;
  }

  /** The colour scale of a symbol over all steps and units of the selected layer, old and new. */
  scale(symbol) {
    return this.cached(symbol, () => {
      const array = symbol.replace(/z_[ifog]$/, "z");
      const traces = this.comparable ? [this.trace, this.reference] : [this.trace];
      return scaleOf(symbol, ...traces.map((trace) => this.directionOf(trace)[array]));
    });
  }

  /** The colour scale of the values that maps display. */
  mapScale(symbol) {
    if (this.state.version !== "difference") return this.scale(symbol);
    return this.cached(`difference ${symbol}`, () => differenceScale(this.valuesOf(symbol)));
  }

  cached(name, compute) {
    const key = `${this.state.layer} ${this.state.direction} ${name}`;
    if (!this.cache.has(key)) this.cache.set(key, compute());
    return this.cache.get(key);
  }
}
