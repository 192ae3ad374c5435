// What the views share: the model, its trace, what is chosen, and how to ask for a number.

import { scaleOf } from "./colors.js";
import { decode, GATES, run } from "./lstm.js";

export class Context {
  constructor(payload) {
    this.payload = payload;
    this.model = decode(payload);
    this.state = { step: 0, unit: 0, layer: 0, way: 0, mode: "forward", sort: "index", channel: 0 };
    this.theme = "light";
    this.compute();
  }

  /** Run the model again, after something in it has changed. */
  compute() {
    this.trace = run(this.model);
    this.scales = new Map();
    this.state.step = Math.min(this.state.step, this.trace.T - 1);
  }

  /** Back to what the report was made of. */
  restore() {
    this.model = decode(this.payload);
    this.compute();
  }

  get T() {
    return this.trace.T;
  }

  /** What the chosen layer computed, in the chosen direction. */
  get way() {
    return this.trace.layers[this.state.layer].ways[this.state.way];
  }

  /** Its weights. */
  get weights() {
    return this.model.layers[this.state.layer].ways[this.state.way];
  }

  get H() {
    return this.way.H;
  }

  get hasGradients() {
    return Boolean(this.way.d_c);
  }

  get backward() {
    return this.state.mode === "backward";
  }

  /** Every layer and direction: [{layer, way, name}]. */
  get ways() {
    return this.model.layers.flatMap((layer, l) => layer.ways.map(({ name }, w) => ({ layer: l, way: w, name })));
  }

  /** The number of a unit as the model counts it: a page that is not live may have only some of them. */
  unitName(k) {
    return String(this.way.units ? this.way.units[k] : k);
  }

  stepName(t) {
    const number = this.model.steps ? this.model.steps[t] : t;
    const name = this.payload.step_names?.[t];
    return name ? `${number} (${name})` : String(number);
  }

  /** The step whose state a step starts from; -1 or T if it starts from the initial state. */
  before(t) {
    return this.way.reverse ? t + 1 : t - 1;
  }

  after(t) {
    return this.way.reverse ? t - 1 : t + 1;
  }

  has(t) {
    return t >= 0 && t < this.T;
  }

  /** Whether two rows of the arrays are steps next to each other: a page that is not live may leave steps out. */
  adjacent(t, other) {
    const { steps } = this.model;
    return this.has(t) && this.has(other) && (!steps || Math.abs(steps[t] - steps[other]) === 1);
  }

  /** Of a symbol, the number of the chosen unit at a step, undefined if there is none. z_f is the part of z for f. */
  at(symbol, t = this.state.step, k = this.state.unit) {
    if (!this.has(t)) return undefined;
    const [, name, gate] = /^((?:d_)?z)_([ifog])$/.exec(symbol) ?? [];
    if (gate) {
      const z = this.way[name];
      return z?.length === 4 * this.T * this.H ? z[t * 4 * this.H + GATES.indexOf(gate) * this.H + k] : undefined;
    }
    const values = this.way[symbol];
    return values?.length === this.T * this.H ? values[t * this.H + k] : undefined;
  }

  /** The numbers of the chosen unit at every step. */
  row(symbol, k = this.state.unit) {
    return Float64Array.from({ length: this.T }, (_, t) => this.at(symbol, t, k) ?? NaN);
  }

  /** The scale of a symbol's colours, over all steps and units of the chosen layer. */
  scale(symbol) {
    const key = `${this.state.layer} ${this.state.way} ${symbol}`;
    const array = symbol.replace(/z_[ifog]$/, "z");
    if (!this.scales.has(key)) this.scales.set(key, scaleOf(symbol, this.way[array]));
    return this.scales.get(key);
  }
}
