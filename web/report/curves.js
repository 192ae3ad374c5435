// Curves: one unit over time, and half-lives.

import { byId, make, makeSvg, on, setText } from "../shared/elements.js";
import { makeChart } from "./chart.js";
import { hideReadOut, showReadOut } from "./map_panel.js";
import { halfLives } from "./measures.js";
import { formatBrief, formatNumber } from "./number_text.js";
import { memorySentence, unitSentence } from "./story.js";
import { axisSpec, labelled, writeAxis } from "./symbols.js";

/** The selected unit over time. */
export function unitView(context, { choose }) {
  const titled = (label) => ({ label, title: () => `unit ${context.unitName(context.state.unit)}: ${label}`, onStep: (step) => choose({ step }) });
  const states = makeChart(byId("unit-states"), titled("cell and hidden state"));
  const gates = makeChart(byId("unit-gates"), titled("gates"));
  const line = (symbol, style) => ({
    label: labelled(symbol),
    values: context.row(symbol),
    before: context.rowBefore(symbol),
    style,
  });

  function unit() {
    const d = context.backward ? "d_" : "";
    const { T } = context;
    const axis = axisSpec(context);
    states.draw({ T, axis, series: [line(`${d}c`, 1), line(`${d}h`, 2)] });
    const limits = context.backward ? null : [context.row("g").reduce((least, value) => (value < least ? value : least), 0), 1];
    gates.draw({
      T,
      axis,
      limits,
      series: [line(`${d}i`, 3), line(`${d}f`, 4), line(`${d}o`, 5), line(`${d}g`, 6)],
    });
    setText(byId("unit-name"), context.unitName(context.state.unit));
    setText(byId("unit-finding"), context.backward ? "" : unitSentence(context));
  }

  function step() {
    for (const chart of [states, gates]) chart.point(context.state.step);
  }

  return { unit, step };
}

const MARKS = [1, 4, 16, 64, 256, 1024]; // grid lines of the half-lives, in steps; one of them is the top
const [WIDTH, HEIGHT] = [600, 130];

/** Half-lives: one dot per unit, in the chosen order. */
export function memoryView(context, { choose, order }) {
  const host = byId("half-lives");
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const cursor = make("div", { class: "column" });
  const ticks = make("div", { class: "row-names", "aria-hidden": "true" });
  const names = make("div", { class: "map-axis" });
  const plate = make("div", { class: "plate" }, svg, cursor);
  host.replaceChildren(make("div", { class: "frame" }, ticks, plate, names));
  const rankAt = (event) => {
    const box = plate.getBoundingClientRect();
    return Math.max(0, Math.min(context.H - 1, Math.floor(((event.clientX - box.left) / box.width) * context.H)));
  };
  on(plate, "pointerdown", (event) => choose({ unit: order()[rankAt(event)] }));
  on(plate, "pointermove", (event) => {
    const k = order()[rankAt(event)];
    showReadOut(event, `unit ${context.unitName(k)}: ${formatNumber(lives[k])} steps`);
  });
  on(plate, "pointerleave", hideReadOut);
  let lives = [];

  function data() {
    const { H, T, direction } = context;
    lives = halfLives(direction, T);
    const before = context.comparable ? halfLives(context.directionOf(context.reference), T) : null;
    const sorted = Array.from(lives).sort((a, b) => a - b);
    const longest = sorted.findLast(Number.isFinite) ?? 1;
    const top = MARKS.find((mark) => mark > 1.5 * longest) ?? MARKS[MARKS.length - 1];
    const heightOf = (steps) => heightBelow(top, steps);
    const dotsOf = (values) =>
      order()
        .map((k, rank) => `M${(((rank + 0.5) * WIDTH) / H).toFixed(2)},${(HEIGHT - heightOf(values[k])).toFixed(1)}h0`)
        .join("");
    const marks = MARKS.filter((mark) => mark <= top);
    svg.replaceChildren(
      ...marks.map((n) => makeSvg("path", { class: "grid", d: `M0,${HEIGHT - heightOf(n)}H${WIDTH}` })),
      ...(before ? [makeSvg("path", { class: "ghost dots s4", d: dotsOf(before) })] : []),
      makeSvg("path", { class: "dots s4", d: dotsOf(lives) }),
    );
    ticks.replaceChildren(
      make("b", {}, "steps"),
      ...marks.map((n) => make("span", { style: `top: ${100 - (100 * heightOf(n)) / HEIGHT}%` }, String(n))),
    );
    const steps = order().map((k) => ({ name: context.unitName(k) }));
    writeAxis(names, { columns: H, steps });
    setText(byId("half-life-median"), formatBrief(sorted[H >> 1]));
    setText(byId("memory-finding"), memorySentence(context));
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

/** The height of the dot of a half-life: logarithmic, from a quarter of a step to the top. */
function heightBelow(top, steps) {
  const share = Math.log2(4 * Math.min(top, Math.max(0.25, steps))) / Math.log2(4 * top);
  return 4 + share * (HEIGHT - 8);
}
