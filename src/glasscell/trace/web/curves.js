// The curves: one unit through time, the gradient's way back, and how long each unit remembers.

import { makeChart } from "./chart.js";
import { brief, byId, make, makeSvg, named, setText, show, stepAxis } from "./dom.js";
import { halfLives, rowNorms } from "./measures.js";

/** The chosen unit at every step. */
export function unitView(context, { choose }) {
  const options = { onStep: (step) => choose({ step }) };
  const states = makeChart(byId("unit-states"), { label: "cell and hidden state", ...options });
  const gates = makeChart(byId("unit-gates"), { label: "gates", ...options });
  const line = (symbol, style) => ({ label: named(symbol), values: context.row(symbol), style });

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

// The parts of the gradient on a cell: name, label, style of the line.
const PARTS = [
  ["output", "from this step’s output", 6],
  ["cell", "along the cell", 4],
  ["recurrent", "through h", 3],
];

/** The norm of the gradient at each step, and the three parts of that on the cells. */
export function gradientView(context, { choose }) {
  const options = { onStep: (step) => choose({ step }) };
  const layer = makeChart(byId("gradient-layer"), { label: "norms over all units", ...options });
  const unitChart = makeChart(byId("gradient-unit"), { label: "the chosen unit", ...options });
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
    const { way, T } = context;
    const series = [{ label: norm(named("d_c")), values: rowNorms(way.d_c, T), style: 1 }];
    if (way.cell) {
      for (const [name, text, style] of PARTS) series.push({ label: words(text), values: rowNorms(way[name], T), style });
    }
    layer.draw({ T, axis: stepAxis(context), series, log: log.checked });
    const onInputs = way.d_x ? rowNorms(way.d_x, T) : way.d_x_norm;
    byId("gradient-inputs").parentElement.hidden = !onInputs;
    if (onInputs) {
      const bars = [{ label: norm(named("d_x")), values: onInputs, style: 6 }];
      inputs.draw({ T, axis: stepAxis(context), bars: true, log: log.checked, series: bars });
    }
    byId("gradient-unit").parentElement.hidden = !way.cell;
  }

  function unit() {
    if (!context.way.cell) return;
    const line = (name, label, style) => ({ label, values: context.row(name), style });
    unitChart.draw({
      T: context.T,
      axis: stepAxis(context),
      series: [
        line("d_c", named("d_c"), 1),
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

const MARKS = [1, 4, 16, 64, 256, 1024]; // steps: lines of the picture of half-lives; one of them is its top
const [WIDTH, HEIGHT] = [600, 130];

/** Half-lives, a bar a unit, in the chosen order. */
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
    const { H, T, way } = context;
    lives = halfLives(way, T);
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
    setText(byId("half-life-median"), brief(sorted[H >> 1]));
  }

  function unit() {
    const { state, H } = context;
    cursor.style.width = `${100 / H}%`;
    cursor.style.transform = `translateX(${100 * order().indexOf(state.unit)}%)`;
    setText(byId("half-life"), show(lives[state.unit]));
    setText(byId("half-life-unit"), context.unitName(state.unit));
  }

  return { data, unit };
}

/** Of a half-life, the height of its bar: logarithmic, from a quarter of a step to the top. */
function heightBelow(top, steps) {
  const share = Math.log2(4 * Math.min(top, Math.max(0.25, steps))) / Math.log2(4 * top);
  return Math.max(1, share * HEIGHT);
}
