// The service of worker.js that trains a model, pauses, and reports: see training.js.

import { Training } from "./training.js";

const REPORT = 150; // milliseconds between reports
const CHECK = 10; // updates between two checks of all inputs: training ends after the same update on every machine
const MOST_VALUES = 20_000; // steps × units × sequences for which gradients are part of each report

/**
 * Messages: {start: options}, {run: true or false}, {set: options} for learningRate and clip, {stop: true}.
 * options: of training.js, shown: the bits of the input in the reports, symbols: the quantities of its view, limit: the
 * number of updates, norms: whether the norms of gradients are reported: of a large model only while it does not train.
 *
 * Reports: {updates, seconds, losses and shares of the updates since the last report, share, checked, view, norms,
 * running, done}. A share is that of the last check; `checked` is the number of updates before that of `share`.
 * Training is done, and pauses, at the first check at which all bits of all inputs are right, and at the limit. Times
 * decide only when there is a report: equal options give equal models.
 */
export function trainer(send, { slice }) {
  let training = null;
  let options = {};
  let running = false;
  let [losses, shares] = [[], []];
  let seconds = 0;
  let wasRight = false;
  let [share, checked] = [0, 0];
  let timer = 0;
  let reported = -Infinity;

  const isAtLimit = () => training.updates >= (options.limit ?? Infinity);

  function check() {
    [share, checked] = [training.share(), training.updates];
  }

  function report() {
    reported = performance.now();
    const current = running || checked === training.updates ? { share, checked } : { share: training.share(), checked: training.updates };
    const { N, T } = training.all;
    const isQuick = N * T * training.options.units < MOST_VALUES;
    const norms = options.norms && (isQuick || !running) ? training.gradientNorms() : null;
    const view = training.view(options.shown, options.symbols);
    const done = wasRight || isAtLimit();
    const arrays = [view.logits, ...Object.values(view.values), ...new Set(Object.values(norms ?? {}))];
    const transfer = arrays.map(({ buffer }) => buffer);
    send({ updates: training.updates, seconds, losses, shares, ...current, view, norms, running, done }, transfer);
    [losses, shares] = [[], []];
  }

  /** One update; where it is the last one, training no longer runs. */
  function update() {
    losses.push(training.update().loss);
    if (training.updates % CHECK === 0 || isAtLimit()) check();
    shares.push(share);
    const isFirst = share === 1 && !wasRight && checked === training.updates;
    wasRight ||= isFirst;
    if (isFirst || isAtLimit()) running = false;
  }

  function work() {
    const start = performance.now();
    do update();
    while (running && performance.now() - start < slice);
    seconds += (performance.now() - start) / 1000;
    if (!running || performance.now() - reported >= REPORT) report();
    if (running) timer = setTimeout(work);
  }

  return (message) => {
    clearTimeout(timer);
    if (message.stop) return;
    if (message.start) {
      options = message.start;
      training = new Training(options);
      [losses, shares, seconds, wasRight, running] = [[], [], 0, false, false];
      check();
      report();
    }
    if (message.set) Object.assign(training.options, message.set);
    if (message.run !== undefined) running = message.run && !isAtLimit();
    if (running) timer = setTimeout(work);
    else if (message.run !== undefined) report(); // also at the limit, where it does not run
  };
}
