// A chart of lines, dots or bars over the steps. Its legend has the values at the selected step.

import { make, makeSvg, on, setText } from "../shared/elements.js";
import { hideReadOut, showReadOut } from "./map_panel.js";
import { formatBrief, formatNumber, formatPower } from "./number_text.js";
import { chartAsSvg } from "./panel_svg.js";
import { saveButton } from "./save_panel.js";
import { axisOf, writeAxis } from "./symbols.js";

const [WIDTH, HEIGHT] = [600, 150]; // of the viewBox, which is stretched to the element
const DASHES = { 1: "", 2: "7 4", 3: "2 3", 4: "", 5: "9 3 2 3", 6: "4 2" }; // of the line styles, as in style.css

/**
 * A chart in a host element. `chart.draw({series, T, log, bars, dots, limits, axis})` draws it; `chart.point(t)` moves
 * its cursor. title(): of its picture.
 * series: [{label: text or node, values (T), style: 1 … 6, before: values (T) that are drawn as a faint line, or undefined}].
 * axis: of axisSpec(), or an element.
 */
export function makeChart(host, { label, onStep, title = () => label }) {
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const cursor = make("div", { class: "column" });
  const marks = make("div", { class: "marks", "aria-hidden": "true" });
  const [top, bottom] = [make("span", { class: "top" }), make("span", { class: "bottom" })];
  const plate = make("div", { class: "plate" }, svg, marks, cursor);
  const legend = make("ul", { class: "series", "aria-label": label });
  const below = make("div", { class: "map-axis" });
  const save = saveButton(() => label.replaceAll(/,? /g, "-"), picture);
  const numbers = make("div", { class: "row-names", "aria-hidden": "true" }, top, bottom);
  host.replaceChildren(
    make("div", { class: "series-line" }, legend, save),
    make("div", { class: "frame" }, numbers, plate, below),
  );
  let drawn = { series: [], T: 1 };
  const stepAt = (event) => {
    const box = plate.getBoundingClientRect();
    return Math.max(0, Math.min(drawn.T - 1, Math.floor(((event.clientX - box.left) / box.width) * drawn.T)));
  };

  if (onStep) {
    on(plate, "pointerdown", (event) => onStep(stepAt(event)));
    on(plate, "pointermove", (event) => event.buttons & 1 && event.pointerType !== "touch" && onStep(stepAt(event)));
  }
  on(plate, "pointermove", (event) => {
    const t = stepAt(event);
    const name = drawn.axis?.steps ? `step ${drawn.axis.steps[t].name}: ` : "";
    const values = drawn.series.map(({ label: of, values }) => `${of.textContent} ${formatNumber(values[t])}`);
    showReadOut(event, name + values.join(", "));
  });
  on(plate, "pointerleave", hideReadOut);

  function draw({ series, T, log = false, bars = false, dots = false, limits = null, axis = null }) {
    const all = series.flatMap(({ values, before }) => (before ? [{ values }, { values: before }] : [{ values }]));
    const [low, high] = limits ?? limitsOf(all, log, bars);
    const height = (value) => HEIGHT - 4 - ((value - low) / (high - low)) * (HEIGHT - 8);
    // A value of 0 has no place on a logarithmic axis, and is not drawn.
    const scaled = log ? (value) => (value > 0 ? height(Math.log10(Math.max(value, 10 ** low))) : NaN) : height;
    const isSpec = Boolean(axis?.steps);
    if (isSpec) writeAxis(below, axis);
    else if (below.textContent !== (axis?.textContent ?? "")) below.replaceChildren(axis ?? "");
    const lines = isSpec && axis.delimiter >= 0 ? [axis.delimiter, axis.delimiter + 1] : [];
    const places = `${lines} ${T}`;
    if (marks.dataset.places !== places) {
      marks.dataset.places = places;
      marks.replaceChildren(
        ...lines.map((column) => make("i", { class: "delimiter", style: `left: ${(100 * column) / T}%` })),
      );
    }
    const paths = [];
    if (low < 0 && high > 0 && !log) paths.push(["zero", `M0,${height(0)} H${WIDTH}`]);
    const base = log || low > 0 ? HEIGHT - 4 : height(0);
    for (const { before, style } of series) {
      if (before) paths.push([`ghost s${style}`, linePath(before, T, scaled)]);
    }
    for (const { values, style } of series) {
      const d = bars ? barPath(values, T, scaled, base) : linePath(values, T, scaled);
      paths.push([`${bars ? "bars" : "line"} s${style}`, d]);
      if (dots) paths.push([`dots s${style}`, dotPath(values, T, scaled)]);
    }
    writePaths(svg, paths);
    setText(top, log ? formatPower(high) : formatBrief(high));
    setText(bottom, log ? formatPower(low) : formatBrief(low));
    drawn = { ...namesOf(series), T, axis, log };
  }

  /** The legend: {series with elements as labels, numbers}. It stays as it is where all names are the same. */
  function namesOf(series) {
    const names = series.map(({ label: name, style }) => `${style} ${typeof name === "string" ? name : name.outerHTML}`).join();
    if (names === drawn.names) {
      return { ...drawn, series: series.map((one, n) => ({ ...one, label: drawn.series[n].label })) };
    }
    series = series.map((one) => ({ ...one, label: typeof one.label === "string" ? make("span", {}, one.label) : one.label }));
    const items = series.map(({ label: name, style }) => {
      const number = make("span", { class: "number" });
      return { number, item: make("li", { class: `s${style}` }, swatch(style), make("span", {}, name), " ", number) };
    });
    legend.replaceChildren(...items.map(({ item }) => item));
    return { names, series, numbers: items.map(({ number }) => number) };
  }

  function point(t) {
    cursor.style.width = `${100 / drawn.T}%`;
    cursor.style.transform = `translateX(${100 * t}%)`;
    drawn.series.forEach(({ values }, n) => setText(drawn.numbers[n], formatNumber(values[t])));
  }

  function titleOf([first, ...rest]) {
    const isEmpty = !drawn.series[0]?.values.some(Number.isFinite);
    return `${first.toUpperCase()}${rest.join("")}${drawn.log ? ", logarithmic" : ""}${isEmpty ? " (not measured yet)" : ""}`;
  }

  function picture() {
    return chartAsSvg(svg, {
      title: titleOf(title()),
      T: drawn.T,
      axis: drawn.axis?.steps ? axisOf(drawn.axis) : endsOf(drawn.axis, drawn.T),
      numbers: [
        { text: top.textContent, share: 1 },
        { text: bottom.textContent, share: 0 },
      ],
      legend: drawn.series.map(({ label: of, style }) => ({
        node: of,
        dash: DASHES[style],
        color: getComputedStyle(document.documentElement).getPropertyValue(`--s${style}`).trim(),
      })),
    });
  }

  return { draw, point };
}

/** The texts of an axis that is an element, at equal distances. */
function endsOf(axis, T) {
  return Array.from(axis?.children ?? [], ({ textContent: text }, n) => ({ column: (n * (T - 1)) / (axis.children.length - 1), text, line: 0 }));
}

/** Paths of an SVG: [class, d]. Paths that are there are only changed. */
function writePaths(svg, paths) {
  while (svg.childElementCount > paths.length) svg.lastChild.remove();
  paths.forEach(([name, d], n) => {
    const path = svg.children[n] ?? svg.appendChild(makeSvg("path"));
    if (path.getAttribute("class") !== name) path.setAttribute("class", name);
    if (path.getAttribute("d") !== d) path.setAttribute("d", d);
  });
}

/** A line of a style, for a key. */
export function swatch(style) {
  const line = makeSvg("path", { d: "M0,4 H28", class: `line s${style}` });
  return makeSvg("svg", { class: "swatch", width: 28, height: 8, "aria-hidden": "true" }, line);
}

/** [low, high]; for a logarithmic chart exponents of ten, at most six decades. */
export function limitsOf(series, log, bars) {
  let [low, high, leastPositive] = [0, 0, Infinity];
  for (const { values } of series) {
    for (let t = 0; t < values.length; t++) {
      const value = values[t];
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
      if (value > 0 && value < leastPositive) leastPositive = value;
    }
  }
  if (log) {
    const top = Math.ceil(Math.log10(Math.max(high, 1e-12)));
    const bottom = Math.floor(Math.log10(Math.min(leastPositive, 10 ** (top - 1))));
    return [Math.max(bottom, top - 6), top];
  }
  if (low === high) return [low, low + 1];
  return bars && low === 0 ? [0, high] : [low, high];
}

function middleOf(t, T) {
  return ((t + 0.5) * WIDTH) / T;
}

/** A line through the finite values. It is interrupted where a finite value has no height; a point alone is a dash. */
function linePath(values, T, height) {
  const parts = [[]];
  for (const t of visibleSteps(values, T)) {
    if (!Number.isFinite(values[t])) continue;
    const y = height(values[t]);
    if (Number.isNaN(y)) parts.push([]);
    else parts.at(-1).push(`${middleOf(t, T).toFixed(1)},${y.toFixed(1)}`);
  }
  const interrupted = parts.length > 1;
  return parts
    .filter((points) => points.length)
    .map((points) => `M${points.join("L")}${interrupted && points.length === 1 ? "m-3,0h6" : ""}`)
    .join("");
}

/** Dots at the steps: lines of length zero with round ends, which the stretched viewBox does not distort. */
function dotPath(values, T, height) {
  let d = "";
  for (const t of visibleSteps(values, T)) {
    const y = height(values[t]);
    if (Number.isFinite(y)) d += `M${middleOf(t, T).toFixed(1)},${y.toFixed(1)}h0`;
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
    if (Number.isNaN(height(values[t]))) continue;
    const x = middleOf(t, T);
    const [left, right, bottom, top] = [x - half, x + half, base, height(values[t])].map((n) => n.toFixed(1));
    d += `M${left},${bottom}V${top}H${right}V${bottom}Z`;
  }
  return d;
}
