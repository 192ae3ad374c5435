// The service of worker.js that trains a model, pauses, and reports: see training.js.

import { Training } from "./training.js";

const REPORT = 100; // milliseconds between reports
const MOST_VALUES = 20_000; // steps × units × sequences for which gradients are part of each report

/**
 * Messages: {start: options}, {run: true or false}, {set: options} for learningRate and clip, {stop: true}.
 * options: of training.js, shown: the bits of the input in the reports, limit: the number of updates, norms: whether the
 * norms of gradients are reported: of a large model only while it does not train.
 *
 * Reports: {updates, seconds, losses since the last one, share, view, norms, running}. Training pauses when all bits of all
 * inputs are right for the first time, and at the limit.
 */
export function trainer(send, { slice }) {
  let training = null;
  let options = {};
  let running = false;
  let losses = [];
  let seconds = 0;
  let wasRight = false;
  let timer = 0;
  let reported = -Infinity;

  function report() {
    reported = performance.now();
    const share = training.share();
    const limit = options.limit ?? Infinity;
    if ((share === 1 && !wasRight) || training.updates >= limit) running = false;
    wasRight ||= share === 1;
    const { N, T } = training.all;
    const isQuick = N * T * training.options.units < MOST_VALUES;
    const norms = options.norms && (isQuick || !running) ? training.gradientNorms() : null;
    send({ updates: training.updates, seconds, losses, share, view: training.view(options.shown), norms, running });
    losses = [];
  }

  function work() {
    const start = performance.now();
    const limit = options.limit ?? Infinity;
    do {
      if (training.updates < limit) losses.push(training.update().loss);
    } while (performance.now() - start < slice && training.updates < limit);
    seconds += (performance.now() - start) / 1000;
    if (performance.now() - reported >= REPORT || training.updates >= limit) report();
    if (running) timer = setTimeout(work);
  }

  return (message) => {
    clearTimeout(timer);
    if (message.stop) return;
    if (message.start) {
      options = message.start;
      training = new Training(options);
      [losses, seconds, wasRight, running] = [[], 0, false, false];
      report();
    }
    if (message.set) Object.assign(training.options, message.set);
    if (message.run !== undefined) running = message.run && training.updates < (options.limit ?? Infinity);
    if (running) timer = setTimeout(work);
    else if (message.run !== undefined) report(); // also at the limit, where it does not run
  };
}
