// Backwards: the gradient on the cell states by its parts, of the loss or of one output.

import { byId, make, on, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { crossingsOf, gradientsFrom } from "./gradient_flow.js";
import { rowNorms } from "./measures.js";
import { productsOf } from "./population.js";
import { gradientSentence } from "./story.js";
import { axisSpec, labelled, symbol } from "./symbols.js";

const MOST_TARGETS = 32; // outputs in the list
const MOST_TARGETS_OF_LARGE = 4; // where a backward pass takes more than a tenth of a second
const LARGE = 5e6; // products of a forward pass
const MOST_PRODUCTS = 4e8; // of a split by crossings, about half a second

// Parts of the gradient on a cell state: name, label, line style.
const PATHS = [
  ["output", "from the output of this step", 6],
  ["cell", "along the cell", 4],
  ["recurrent", "through h", 3],
];
const CROSSINGS = [
  ["crossing 0", "0 crossings", 4],
  ["crossing 1", "1 crossing", 3],
  ["crossing 2", "2 crossings", 5],
  ["crossing 3", "3 or more", 6],
];
// A function: this module also runs in a worker, which has no elements.
const wordsOf = () => ({
  paths: [
    "The gradient on a cell state is a sum of three parts: from the output of the same step; along the cell, the whole " +
    "gradient on the next cell state times the next forget gate; and through h and the recurrent weights, from the gates " +
    "of the next step. Norms of parts do not add up, because parts can cancel.",
  ],
  crossings: [
    "The gradient by the number of times that it crosses the recurrent weights (the columns of ",
    make("i", { class: "symbol" }, "W"),
    " that multiply ",
    make("i", { class: "symbol" }, "h"),
    " of the step before) on its way back. With 0 crossings it comes along the cells alone: this is the path that a tanh RNN does " +
    "not have. The parts add up to the whole; their norms do not, because parts can cancel.",
  ],
});

/** The norm of the gradient at each step, with its parts, of the loss or of one output. */
export function gradientView(context, { choose }) {
  const options = { onStep: (step) => choose({ step }) };
  const layer = makeChart(byId("gradient-layer"), { label: "gradient, norm over all units", ...options });
  const unitChart = makeChart(byId("gradient-unit"), { label: "gradient of the selected unit", ...options, title: () => `gradient of unit ${context.unitName(context.state.unit)}` });
  const inputs = makeChart(byId("gradient-inputs"), { label: "gradient on the inputs", ...options });
  const [target, parts, log] = ["gradient-target", "gradient-parts", "gradient-log"].map(byId);
  let listed = "";
  let wanted = parts.value; // also while the parts by crossings are not known
  let source = null; // {trace, values: the direction with the gradients, split}
  const again = () => {
    data();
    unit();
    step();
  };
  on(parts, "change", () => (wanted = parts.value));
  for (const control of [target, parts, log]) on(control, "change", again);

  /** The outputs that can be differentiated: those with a target, else those of the last step. */
  function listTargets() {
    const { model, T, payload } = context;
    const key = `${T} ${model.O} ${context.hasGradients}`;
    if (key === listed) return;
    listed = key;
    const { O, weights } = model;
    const isUsed = (t) => !weights || weights.length !== T || weights[t] !== 0;
    const steps = model.live ? Array.from({ length: T }, (_, t) => t).filter(isUsed).slice(-MOST_TARGETS) : [];
    const outputs = steps.flatMap((t) => Array.from({ length: Math.min(O, 8) }, (_, j) => [t, j]));
    const isLarge = model.live && productsOf(model) > LARGE;
    const chosen = outputs.slice(isLarge ? -MOST_TARGETS_OF_LARGE : -MOST_TARGETS);
    const name = (t, j) => `output ${O > 1 ? `${payload.output_names[j] ?? j} ` : ""}at step ${context.stepName(t)}`;
    target.replaceChildren(
      ...(context.hasGradients ? [make("option", { value: "" }, "the loss")] : []),
      ...chosen.map(([t, j]) => make("option", { value: t * O + j }, name(t, j))),
    );
  }

  function read() {
    const { model, state } = context;
    let { direction } = context;
    target.disabled = state.version === "old"; // the old model is not kept, only its values
    if (target.disabled) target.value = "";
    if (target.value !== "") {
      const d_outputs = new Float64Array(model.T * model.O);
      d_outputs[Number(target.value)] = 1;
      direction = context.directionOf(gradientsFrom(model, d_outputs));
    }
    const products = 5 * 4 * direction.H ** 2 * model.T;
    let split = null;
    let reason = "";
    if (!model.live) reason = "the page has recorded values";
    else if (state.version === "old") reason = "of the old model the page keeps its values alone";
    else if (products >= MOST_PRODUCTS) reason = "the model is too large for the page";
    else if (direction.d_y) {
      split = crossingsOf(context.weights, direction, model.T);
      split.forEach((values, n) => (direction = { ...direction, [`crossing ${n}`]: values }));
    }
    source = { direction, split, reason };
  }

  const norm = (...inside) => make("span", {}, "‖", ...inside, "‖");
  const words = (text) => make("span", { class: "words" }, text);
  const hasPart = ([name]) => Boolean(source.direction[name]);
  const series = () => (parts.value === "crossings" && source.split ? CROSSINGS : PATHS).filter(hasPart);

  function data() {
    listTargets();
    const isEmpty = !context.hasGradients && !target.options.length;
    byId("gradients").hidden = isEmpty;
    byId("gradient-finding").hidden = isEmpty;
    byId("no-gradients").hidden = !isEmpty;
    if (isEmpty) return (source = null);
    read();
    const { direction, split } = source;
    const { T } = context;
    parts.disabled = !split;
    parts.value = split ? wanted : "paths";
    const why = source.reason ? [`No parts by crossings of the recurrent weights: ${source.reason}. `] : [];
    byId("gradient-parts-words").replaceChildren(...why, ...wordsOf()[parts.value]);
    const axis = axisSpec(context);
    const of = (name, label, style) => ({ label, values: rowNorms(direction[name], T), style });
    const lines = [of("d_c", norm(whole()), 1), ...series().map(([name, text, style]) => of(name, words(text), style))];
    layer.draw({ T, axis, series: lines, log: log.checked });
    const onInputs = direction.d_x ? rowNorms(direction.d_x, T) : direction.d_x_norm;
    byId("gradient-inputs").parentElement.hidden = !onInputs;
    if (onInputs) {
      const curve = { label: norm(derivative("x")), values: onInputs, style: 6 };
      inputs.draw({ T, axis, dots: T <= 100, log: log.checked, series: [curve] });
    }
    byId("gradient-unit").parentElement.hidden = !direction.cell;
    const name = target.value === "" ? "dL/dc" : "dy/dc";
    setText(byId("gradient-finding"), gradientSentence(context, { total: direction.d_c, crossings: split, name }));
  }

  /** dL/d… or dy/d… of a symbol. */
  function derivative(name) {
    if (target.value === "") return labelled(`d_${name}`);
    return make("span", { class: "gradient" }, "d", make("i", { class: "symbol" }, "y"), "/d", symbol(name));
  }

  function whole() {
    return derivative("c");
  }

  function unit() {
    if (!source?.direction.cell) return;
    const { T, state } = context;
    const row = (name) => context.rowOf(context.placeOf(name, state.unit, source.direction));
    unitChart.draw({
      T,
      axis: axisSpec(context),
      series: [
        { label: whole(), values: row("d_c"), style: 1 },
        ...series().map(([name, text, style]) => ({ label: words(text), values: row(name), style })),
      ],
    });
    setText(byId("gradient-unit-name"), context.unitName(state.unit));
  }

  function step() {
    if (!source) return;
    for (const chart of [layer, unitChart, inputs]) chart.point(context.state.step);
  }

  return { data, unit, step };
}
