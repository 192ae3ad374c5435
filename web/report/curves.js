// Curves: one unit over time, the gradient over time, and half-lives.

import { byId, make, makeSvg, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { halfLives, rowNorms } from "./measures.js";
import { formatBrief, formatNumber } from "./number_text.js";
import { labelled, stepAxis } from "./symbols.js";

/** The selected unit over time. */
export function unitView(context, { choose }) {
  const options = { onStep: (step) => choose({ step }) };
  const states = makeChart(byId("unit-states"), { label: "cell and hidden state", ...options });
  const gates = makeChart(byId("unit-gates"), { label: "gates", ...options });
  const line = (symbol, style) => ({ label: labelled(symbol), values: context.row(symbol), style });

  function unit() {
    const d = context.backward ? "d_" : "";
    const { T } = context;
    states.draw({ T, axis: stepAxis(context), series: [line(`${d}c`, 1), line(`${d}h`, 2)] });
    const limits = context.backward ? null : [Math.min(0, ...context.row("g").filter(Number.isFinite)), 1];
    gates.draw({
      T,
      axis: stepAxis(context),
      limits,
      series: [line(`${d}i`, 3), line(`${d}f`, 4), line(`${d}o`, 5), line(`${d}g`, 6)],
    });
    setText(byId("unit-name"), context.unitName(context.state.unit));
  }

  function step() {
    for (const chart of [states, gates]) chart.point(context.state.step);
  }

  return { unit, step };
}

// Parts of the gradient on a cell state: name, label, line style.
const PARTS = [
  ["output", "from the output of this step", 6],
  ["cell", "along the cell", 4],
  ["recurrent", "through h", 3],
];

/** The norm of the gradient at each step, with the three parts of the gradient on the cell states. */
export function gradientView(context, { choose }) {
  const options = { onStep: (step) => choose({ step }) };
  const layer = makeChart(byId("gradient-layer"), { label: "norms over all units", ...options });
  const unitChart = makeChart(byId("gradient-unit"), { label: "selected unit", ...options });
  const inputs = makeChart(byId("gradient-inputs"), { label: "gradient on the inputs", ...options });
  const log = byId("gradient-log");
  log.addEventListener("change", () => {
    data();
    step();
  });

  const norm = (...inside) => make("span", {}, "‖", ...inside, "‖");
  const words = (text) => make("span", { class: "words" }, text);

  function data() {
    byId("gradients").hidden = !context.hasGradients;
    byId("no-gradients").hidden = context.hasGradients;
    if (!context.hasGradients) return;
    const { direction, T } = context;
    const series = [{ label: norm(labelled("d_c")), values: rowNorms(direction.d_c, T), style: 1 }];
    if (direction.cell) {
      for (const [name, text, style] of PARTS)
        series.push({ label: words(text), values: rowNorms(direction[name], T), style });
    }
    layer.draw({ T, axis: stepAxis(context), series, log: log.checked });
    const onInputs = direction.d_x ? rowNorms(direction.d_x, T) : direction.d_x_norm;
    byId("gradient-inputs").parentElement.hidden = !onInputs;
    if (onInputs) {
      const bars = [{ label: norm(labelled("d_x")), values: onInputs, style: 6 }];
      inputs.draw({ T, axis: stepAxis(context), bars: true, log: log.checked, series: bars });
    }
    byId("gradient-unit").parentElement.hidden = !direction.cell;
  }

  function unit() {
    if (!context.direction.cell) return;
    const line = (name, label, style) => ({ label, values: context.row(name), style });
    unitChart.draw({
      T: context.T,
      axis: stepAxis(context),
      series: [
        line("d_c", labelled("d_c"), 1),
        ...PARTS.map(([name, text, style]) => line(name, words(text), style)),
      ],
    });
    setText(byId("gradient-unit-name"), context.unitName(context.state.unit));
  }

  function step() {
    if (!context.hasGradients) return;
    for (const chart of [layer, unitChart, inputs]) chart.point(context.state.step);
  }

  return { data, unit, step };
}

const MARKS = [1, 4, 16, 64, 256, 1024]; // grid lines of the half-lives, in steps; one of them is the top
const [WIDTH, HEIGHT] = [600, 130];

/** Half-lives: one bar per unit, in the chosen order. */
export function memoryView(context, { choose, order }) {
  const host = byId("half-lives");
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const cursor = make("div", { class: "column" });
  const ticks = make("div");
  const plate = make("div", { class: "plate" }, svg, cursor, ticks);
  host.replaceChildren(plate);
  plate.addEventListener("pointerdown", (event) => {
    const box = plate.getBoundingClientRect();
    const rank = Math.floor(((event.clientX - box.left) / box.width) * context.H);
    choose({ unit: order()[Math.max(0, Math.min(context.H - 1, rank))] });
  });
  let lives = [];

  function data() {
    const { H, T, direction } = context;
    lives = halfLives(direction, T);
    const sorted = Array.from(lives).sort((a, b) => a - b);
    const longest = sorted.findLast(Number.isFinite) ?? 1;
    const top = MARKS.find((mark) => mark > 1.5 * longest) ?? MARKS[MARKS.length - 1];
    const heightOf = (steps) => heightBelow(top, steps);
    let d = "";
    order().forEach((k, rank) => {
      const [x, width] = [((rank + 0.12) * WIDTH) / H, (0.76 * WIDTH) / H];
      d += `M${x.toFixed(2)},${HEIGHT}v${-heightOf(lives[k]).toFixed(1)}h${width.toFixed(2)}V${HEIGHT}Z`;
    });
    const marks = MARKS.filter((mark) => mark < top);
    svg.replaceChildren(
      ...marks.map((n) => makeSvg("path", { class: "grid", d: `M0,${HEIGHT - heightOf(n)}H${WIDTH}` })),
      makeSvg("path", { class: "bars s4", d }),
    );
    ticks.replaceChildren(
      ...marks.map((n) =>
        make("span", { class: "tick", style: `bottom: ${(100 * heightOf(n)) / HEIGHT}%` }, String(n)),
      ),
    );
    setText(byId("half-life-median"), formatBrief(sorted[H >> 1]));
  }

  function unit() {
    const { state, H } = context;
    cursor.style.width = `${100 / H}%`;
    cursor.style.transform = `translateX(${100 * order().indexOf(state.unit)}%)`;
    setText(byId("half-life"), formatNumber(lives[state.unit]));
    setText(byId("half-life-unit"), context.unitName(state.unit));
  }

  return { data, unit };
}

/** The height of the bar of a half-life: logarithmic, from a quarter of a step to the top. */
function heightBelow(top, steps) {
  const share = Math.log2(4 * Math.min(top, Math.max(0.25, steps))) / Math.log2(4 * top);
  return Math.max(1, share * HEIGHT);
}
