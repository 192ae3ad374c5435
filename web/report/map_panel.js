// A map: rows and columns as colours, with names of rows, steps and bits below, marks, a read-out and a colour key.

import { byId, make, on, setText } from "../shared/elements.js";
import { colorOf, colorRamp } from "./colors.js";
import { formatBrief } from "./number_text.js";
import { saveButton } from "./save_panel.js";
import { mapAsSvg } from "./panel_svg.js";
import { writeAxis } from "./symbols.js";

const MOST_ROWS = 256; // for more rows, each cell of the map is a mean
const MOST_COLUMNS = 512;
const MOST_NAMED_ROWS = 32;

/**
 * A panel {figure, canvas, value, draw(spec), frame({row, column})}.
 *
 * spec = {symbol, theme, title: nodes, words, rows, columns, at(row, column), scale, rowNames, rowTitle, steps: a list of
 * {bit, name} per column or names of columns, delimiter, marks: [{row, column, kind, words}], label, read(row, column)}
 */
export function makeMap({ describedBy, name }) {
  const canvas = make("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "heat map",
    "aria-describedby": describedBy,
  });
  const [column, row] = [make("div", { class: "column" }), make("div", { class: "row" })];
  const marks = make("div", { class: "marks", "aria-hidden": "true" });
  const rowNames = make("div", { class: "row-names", "aria-hidden": "true" });
  const axis = make("div", { class: "map-axis" });
  const [title, words, value] = [
    make("span", { class: "name" }),
    make("span", { class: "words" }),
    make("output", { class: "number" }),
  ];
  const place = make("span", { "aria-hidden": "true" }); // of the value
  const [low, bar, high] = [make("span"), make("span", { class: "ramp" }), make("span")];
  const keys = make("span", { class: "keys" });
  const legend = make("div", { class: "legend", "aria-hidden": "true" }, low, bar, high, keys);
  const reading = make("div", { class: "reading" }, place, " ", value);
  const panel = { canvas, value, spec: null };
  const save = saveButton(() => name(panel.spec), () => mapAsSvg(panel.spec));
  const caption = make("figcaption", {}, make("span", { class: "heading" }, title, " ", words), save);
  const plate = make("div", { class: "plate" }, canvas, marks, column, row);
  panel.figure = make("figure", { class: "map" }, caption, make("div", { class: "frame" }, rowNames, plate, axis), make("div", { class: "below" }, legend, reading));

  panel.draw = (spec) => {
    panel.spec = spec;
    canvas.dataset.symbol = spec.symbol;
    canvas.setAttribute("aria-label", spec.label);
    title.replaceChildren(...spec.title);
    setText(words, spec.words);
    setText(low, formatBrief(spec.scale.low));
    setText(high, formatBrief(spec.scale.high));
    bar.style.background = colorRamp(spec.theme, spec.scale.name);
    keys.replaceChildren(...keyOf(spec));
    drawPixels(canvas, spec);
    panel.figure.style.setProperty("--rows", canvas.height);
    drawRowNames(rowNames, spec);
    drawMarks(marks, spec);
    writeAxis(axis, spec);
  };
  /** Change the bits and names below the columns alone. */
  panel.setSteps = (steps) => {
    panel.spec.steps = steps;
    writeAxis(axis, panel.spec);
  };
  /** Draw new values of a spec that is otherwise the same. */
  panel.repaint = (spec) => {
    panel.spec = spec;
    setText(low, formatBrief(spec.scale.low));
    setText(high, formatBrief(spec.scale.high));
    drawPixels(canvas, spec);
  };
  panel.frame = ({ row: y, column: x }) => {
    setText(place, placeName(panel.spec, y, x));
    for (const [element, index, count, side, size, move] of [
      [column, x, panel.spec.columns, "width", "100%", "translateX"],
      [row, y, panel.spec.rows, "height", "100%", "translateY"],
    ]) {
      element.hidden = !(index >= 0);
      element.style[side] = `${100 / count}%`;
      element.style.transform = `${move}(${100 * index}%)`;
    }
  };
  /** The row and column of an event. */
  panel.placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const indexAt = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    return { row: indexAt(y, panel.spec.rows), column: indexAt(x, panel.spec.columns) };
  };
  readOut(panel);
  return panel;
}

/** The name of a cell of the map, before its value: "unit 5, step 6:". Empty if no row is selected. */
function placeName({ rowNames, rowTitle, columnTitle = "step", steps }, row, column) {
  if (!(row >= 0 && column >= 0)) return "";
  return `${rowTitle} ${rowNames[row]}, ${columnTitle} ${steps[column].name}:`;
}

/** Choose a cell by pressing it or by dragging; the keys are those of `onKey`. */
export function listen(panel, onPick, onKey) {
  const { canvas } = panel;
  on(canvas, "pointerdown", (event) => {
    onPick(panel.placeOf(event));
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
  });
  on(canvas, "pointermove", (event) => {
    if (event.buttons & 1 && event.pointerType !== "touch") onPick(panel.placeOf(event));
  });
  on(canvas, "keydown", (event) => {
    if (!onKey(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** The value under the pointer, next to it. */
function readOut(panel) {
  on(panel.canvas, "pointermove", (event) => {
    const { row, column } = panel.placeOf(event);
    showReadOut(event, panel.spec.read(row, column));
  });
  on(panel.canvas, "pointerleave", hideReadOut);
}

export function showReadOut(event, text) {
  const box = byId("readout");
  setText(box, text);
  box.hidden = false;
  const left = Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8);
  const above = event.clientY - box.offsetHeight - 12;
  box.style.transform = `translate(${Math.max(4, left)}px, ${above < 4 ? event.clientY + (event.below ?? 18) : above}px)`;
}

export function hideReadOut() {
  byId("readout").hidden = true;
}

/** Rows and columns of the data per cell of a map. */
export function blocksOf(rows, columns) {
  return [Math.ceil(rows / MOST_ROWS), Math.ceil(columns / MOST_COLUMNS)];
}

function drawPixels(canvas, { rows, columns, at, scale, theme }) {
  const [down, across] = blocksOf(rows, columns);
  const [height, width] = [Math.ceil(rows / down), Math.ceil(columns / across)];
  if (canvas.height !== height) canvas.height = height; // setting a size makes the browser lay out the page
  if (canvas.width !== width) canvas.width = width;
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let y = 0, n = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, n += 4) {
      const value = down * across === 1 ? at(y, x) : blockMean(at, y * down, Math.min(rows, (y + 1) * down), x * across, Math.min(columns, (x + 1) * across));
      const [r, g, b] = colorOf(theme, scale, value);
      pixels.data[n] = r;
      pixels.data[n + 1] = g;
      pixels.data[n + 2] = b;
      pixels.data[n + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function blockMean(at, top, bottom, left, right) {
  let [sum, count] = [0, 0];
  for (let column = left; column < right; column++) {
    for (let row = top; row < bottom; row++, count++) sum += at(row, column);
  }
  return sum / count;
}

/** Names of rows: of all, or of one of several. */
export function namedRows({ rows, rowNames }) {
  const every = Math.ceil(rows / MOST_NAMED_ROWS);
  return rowNames.map((text, row) => ({ text, row })).filter(({ row }) => row % every === 0);
}

function drawRowNames(host, spec) {
  const names = namedRows(spec);
  const places = `${spec.rowTitle} ${spec.rows}`;
  if (host.dataset.places === places) return names.forEach(({ text }, n) => setText(host.children[n + 1], text));
  host.dataset.places = places;
  const spans = names.map(({ text, row }) => make("span", { style: `top: ${(100 * (row + 0.5)) / spec.rows}%` }, text));
  host.replaceChildren(make("b", {}, spec.rowTitle), ...spans);
}

function drawMarks(host, { rows, columns, marks = [], delimiter = -1 }) {
  const places = JSON.stringify([rows, columns, marks, delimiter]);
  if (host.dataset.places === places) return;
  host.dataset.places = places;
  const lines = delimiter >= 0 && columns > delimiter ? [delimiter, delimiter + 1] : [];
  host.replaceChildren(
    ...lines.map((column) => make("i", { class: "delimiter", style: `left: ${(100 * column) / columns}%` })),
    ...marks.map(({ row, column, kind }) =>
      make("i", {
        class: `mark-${kind}`,
        style: `left: ${(100 * (column + 0.5)) / columns}%; top: ${(100 * (row + 0.5)) / rows}%`,
      }),
    ),
  );
}

function keyOf({ marks = [] }) {
  const kinds = new Map(marks.map(({ kind, words }) => [kind, words]));
  return [...kinds].map(([kind, words]) => make("span", {}, make("i", { class: `mark-${kind}` }), words));
}
