// The effect of interventions on a model: bits right over all inputs of the copy task; for other models the loss on the
// sequence of the page, or without a loss the change of the outputs.

import { bitsRight, copyInputs, runAll } from "./all_inputs.js";
import { run } from "./lstm.js";

const MOST_INPUTS = 256;

/** What is measured of a model of the page: {model, task, length} for effectOf(), without what only views need. */
export function subjectOf({ model, payload }) {
  const { T, I, O, layers, readout, loss, share, x, targets, weights } = model;
  const { copy } = payload;
  const length = copy ? (model.bits ?? copy.bits).length : 0;
  const part = { live: true, T, I, O, layers, readout, loss, share, x, targets, weights };
  return { model: part, task: length ? { mode: copy.mode, bits_per_step: copy.bits_per_step } : null, length };
}

/** {kind: "bits", all, byPosition, count, complete}, {kind: "loss", loss} or {kind: "change", change}. */
export function effectOf(subject, interventions) {
  const model = { ...subject.model, interventions };
  if (subject.task) {
    subject.inputs ??= copyInputs(subject.task, subject.length, { limit: MOST_INPUTS });
    const { inputs } = subject;
    const { logits } = runAll(model, { ...inputs, targets: null });
    return { kind: "bits", ...bitsRight(logits, inputs), count: inputs.N, complete: inputs.complete };
  }
  if (model.targets && model.loss) return { kind: "loss", loss: lossOnly(model) };
  const outputsOf = (list) => run({ ...model, interventions: list }, { backward: false }).outputs;
  subject.untouched ??= outputsOf([]);
  const sum = outputsOf(interventions).reduce((total, y, n) => total + Math.abs(y - subject.untouched[n]), 0);
  return { kind: "change", change: sum / subject.untouched.length };
}

function lossOnly(model) {
  const inputs = { N: 1, T: model.T, x: model.x, targets: model.targets, weights: model.weights };
  return runAll(model, inputs).losses[0] * (model.share ?? 1);
}

/** The multiplications of one effect, about; the other work of a step counts as 5000. */
export function effortOf({ model, length, task }) {
  const N = task ? Math.min(MOST_INPUTS, 2 ** length) : 1;
  const weights = model.layers.flatMap(({ directions }) => directions.map(({ W }) => W.length));
  return model.T * (5000 + N * weights.reduce((sum, count) => sum + count, 0));
}

/** A number that is larger for a better model. */
export function qualityOf(effect) {
  return effect.kind === "bits" ? effect.all : -(effect.loss ?? effect.change);
}

/** The service of worker.js: {subject} replaces the model, {id, interventions} is answered by {id, effect}. */
export function ablation(send) {
  let subject = null;
  return (message) => {
    if (message.subject) subject = message.subject;
    if (message.interventions) send({ id: message.id, effect: effectOf(subject, message.interventions) });
  };
}

/** Measures effects in a worker, one after the other: the most urgent first. */
export class Ablations {
  waiting = []; // {urgency, group, interventions, done}
  current = null;
  service = null;
  sent = 0;

  constructor(connect) {
    this.connect = connect;
  }

  /** Another model: what was asked about the earlier one is dropped. */
  setSubject(subject) {
    this.waiting = [];
    this.current = null;
    this.service ??= this.connect("ablation", (message) => this.receive(message));
    this.service.send({ subject });
  }

  /** Call done(effect) when it is known, unless the group is dropped before. Urgency 0 is first. */
  ask(group, urgency, interventions, done) {
    this.waiting.push({ group, urgency, interventions, done });
    this.next();
  }

  drop(group) {
    this.waiting = this.waiting.filter((one) => one.group !== group);
    if (this.current?.group === group) this.current.done = () => {};
  }

  next() {
    if (this.current || !this.waiting.length) return;
    const urgency = Math.min(...this.waiting.map((one) => one.urgency));
    const n = this.waiting.findIndex((one) => one.urgency === urgency);
    [this.current] = this.waiting.splice(n, 1);
    this.current.id = ++this.sent;
    this.service.send({ id: this.current.id, interventions: this.current.interventions });
  }

  receive({ id, effect }) {
    if (this.current?.id !== id) return this.next(); // about an earlier model
    const { done } = this.current;
    this.current = null;
    done(effect);
    this.next();
  }
}
