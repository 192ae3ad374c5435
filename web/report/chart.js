// A chart of lines or bars over the steps. Its legend has the values at the selected step.

import { make, makeSvg, setText } from "../shared/elements.js";
import { formatBrief, formatNumber } from "./number_text.js";

const [WIDTH, HEIGHT] = [600, 150]; // of the viewBox, which is stretched to the element

/**
 * A chart in a host element. `chart.draw({series, T, log, bars, limits, axis})` draws it; `chart.point(t)` moves its
 * cursor.
 * series: [{label: node, values (T), style: 1 … 6}].
 */
export function makeChart(host, { label, onStep }) {
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const cursor = make("div", { class: "column" });
  const [top, bottom] = [make("span", { class: "top" }), make("span", { class: "bottom" })];
  const plate = make("div", { class: "plate" }, svg, cursor, top, bottom);
  const legend = make("ul", { class: "series", "aria-label": label });
  const below = make("div");
  host.replaceChildren(legend, plate, below);
  let drawn = { series: [], T: 1 };

  if (onStep) {
    const pick = (event) => {
      const box = plate.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      onStep(Math.max(0, Math.min(drawn.T - 1, Math.floor(share * drawn.T))));
    };
    plate.addEventListener("pointerdown", pick);
    plate.addEventListener("pointermove", (event) => event.buttons & 1 && event.pointerType !== "touch" && pick(event));
  }

  function draw({ series, T, log = false, bars = false, limits = null, axis = null }) {
    const [low, high] = limits ?? limitsOf(series, log, bars);
    const height = (value) => HEIGHT - 4 - ((value - low) / (high - low)) * (HEIGHT - 8);
    const scaled = log ? (value) => height(Math.log10(Math.max(value, 10 ** low))) : height;
    svg.replaceChildren();
    below.replaceChildren(...(axis ? [axis] : []));
    if (low < 0 && high > 0 && !log) svg.append(makeSvg("path", { class: "zero", d: `M0,${height(0)} H${WIDTH}` }));
    const base = log || low > 0 ? HEIGHT - 4 : height(0);
    for (const { values, style } of series) {
      const d = bars ? barPath(values, T, scaled, base) : linePath(values, T, scaled);
      svg.append(makeSvg("path", { class: `${bars ? "bars" : "line"} s${style}`, d }));
    }
    setText(top, log ? formatBrief(10 ** high) : formatBrief(high));
    setText(bottom, log ? formatBrief(10 ** low) : formatBrief(low));
    const items = series.map(({ label: name, style }) => {
      const number = make("span", { class: "number" });
      return { number, item: make("li", { class: `s${style}` }, make("span", { class: "swatch" }), name, " ", number) };
    });
    legend.replaceChildren(...items.map(({ item }) => item));
    drawn = { series, T, numbers: items.map(({ number }) => number) };
  }

  function point(t) {
    cursor.style.width = `${100 / drawn.T}%`;
    cursor.style.transform = `translateX(${100 * t}%)`;
    drawn.series.forEach(({ values }, n) => setText(drawn.numbers[n], formatNumber(values[t])));
  }

  return { draw, point };
}

/** [low, high]; for a logarithmic chart exponents of ten, at most six decades. */
function limitsOf(series, log, bars) {
  const values = series.flatMap(({ values }) => Array.from(values)).filter(Number.isFinite);
  const least = (numbers, start) => numbers.reduce((a, b) => Math.min(a, b), start);
  const most = (numbers, start) => numbers.reduce((a, b) => Math.max(a, b), start);
  if (log) {
    const positive = values.filter((value) => value > 0);
    const high = Math.ceil(Math.log10(most(positive, 1e-12)));
    const low = Math.floor(Math.log10(least(positive, 10 ** (high - 1))));
    return [Math.max(low, high - 6), high];
  }
  const low = least(values, 0);
  const high = most(values, 0);
  if (low === high) return [low, low + 1];
  return bars && low === 0 ? [0, high] : [low, high];
}

function middleOf(t, T) {
  return ((t + 0.5) * WIDTH) / T;
}

function linePath(values, T, height) {
  let d = "";
  for (const t of visibleSteps(values, T)) {
    if (Number.isFinite(values[t])) d += `${d ? "L" : "M"}${middleOf(t, T).toFixed(1)},${height(values[t]).toFixed(1)}`;
  }
  return d;
}

/** The steps that a line needs: for each of WIDTH positions the steps of the minimum and the maximum. */
function visibleSteps(values, T) {
  if (T <= 2 * WIDTH) return Array.from({ length: T }, (_, t) => t);
  return Array.from({ length: WIDTH }, (_, place) => {
    const [from, to] = placeOf(place, T);
    let [least, most] = [from, from];
    for (let t = from + 1; t < to; t++) {
      if (values[t] < values[least]) least = t;
      if (values[t] > values[most]) most = t;
    }
    return least < most ? [least, most] : [most, least];
  }).flat();
}

function placeOf(place, T) {
  return [place, place + 1].map((n) => Math.floor((n * T) / WIDTH));
}

function barPath(values, T, height, base) {
  if (T > WIDTH) {
    const largest = (_, place) => values.subarray(...placeOf(place, T)).reduce((a, b) => Math.max(a, b), 0);
    return barPath(Float64Array.from({ length: WIDTH }, largest), WIDTH, height, base);
  }
  const half = (0.36 * WIDTH) / T;
  let d = "";
  for (let t = 0; t < T; t++) {
    if (Number.isNaN(values[t])) continue;
    const x = middleOf(t, T);
    const [left, right, bottom, top] = [x - half, x + half, base, height(values[t])].map((n) => n.toFixed(1));
    d += `M${left},${bottom}V${top}H${right}V${bottom}Z`;
  }
  return d;
}
