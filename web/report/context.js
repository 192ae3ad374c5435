// State shared by the views: the model, its trace, the selection, and access to values.

import { scaleOf } from "./colors.js";
import { decode, GATES, run } from "./lstm.js";

export class Context {
  constructor(payload) {
    this.payload = payload;
    this.model = decode(payload);
    this.state = { step: 0, unit: 0, layer: 0, direction: 0, mode: "forward", sort: "index", channel: 0 };
    this.theme = "light";
    this.compute();
  }

  /** Run the model again after a change. */
  compute() {
    this.trace = run(this.model);
    this.scales = new Map();
    this.state.step = Math.min(this.state.step, this.trace.T - 1);
  }

  /** Restore the model and the input of the report. */
  restore() {
    this.model = decode(this.payload);
    this.compute();
  }

  get T() {
    return this.trace.T;
  }

  /** The values of the selected layer and direction. */
  get direction() {
    return this.trace.layers[this.state.layer].directions[this.state.direction];
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

  /** The value of a symbol for a unit at a step, or undefined. z_f: the rows of z of gate f. */
  at(symbol, t = this.state.step, k = this.state.unit) {
    if (!this.has(t)) return undefined;
    const [, name, gate] = /^((?:d_)?z)_([ifog])$/.exec(symbol) ?? [];
    if (gate) {
      const z = this.direction[name];
      return z?.length === 4 * this.T * this.H ? z[t * 4 * this.H + GATES.indexOf(gate) * this.H + k] : undefined;
    }
    const values = this.direction[symbol];
    return values?.length === this.T * this.H ? values[t * this.H + k] : undefined;
  }

  /** The values of a unit at every step. */
  row(symbol, k = this.state.unit) {
    return Float64Array.from({ length: this.T }, (_, t) => this.at(symbol, t, k) ?? NaN);
  }

  /** The colour scale of a symbol over all steps and units of the selected layer. */
  scale(symbol) {
    const key = `${this.state.layer} ${this.state.direction} ${symbol}`;
    const array = symbol.replace(/z_[ifog]$/, "z");
    if (!this.scales.has(key)) this.scales.set(key, scaleOf(symbol, this.direction[array]));
    return this.scales.get(key);
  }
}
