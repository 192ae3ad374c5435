// Heat maps: rows are units, columns are steps. Two frames mark the selection, so that another step moves only them.

import { byId, make, setText } from "../shared/elements.js";
import { colorOf, colorRamp } from "./colors.js";
import { formatBrief, formatNumber } from "./number_text.js";
import { labelled, stepAxis } from "./symbols.js";

const MOST_ROWS = 256; // for more rows, each cell of the map is a mean
const MOST_COLUMNS = 512;

const WORDS = {
  i: "input gate",
  f: "forget gate",
  o: "output gate",
  g: "candidate",
  c: "cell state",
  h: "hidden state",
  d_i: "gradient on the input gate",
  d_f: "gradient on the forget gate",
  d_o: "gradient on the output gate",
  d_g: "gradient on the candidate",
  d_c: "gradient on the cell state",
  d_h: "gradient on the hidden state",
};
const SYMBOLS = ["i", "f", "o", "g", "c", "h"];

export function heatMapsView(context, { choose, order }) {
  const maps = SYMBOLS.map((symbol) => makeMap(symbol));
  byId("maps").replaceChildren(...maps.map(({ figure }) => figure));
  for (const map of maps) listen(map, context, choose, order);

  function data() {
    const note = byId("maps-note");
    for (const map of maps) drawMap(map, context, order());
    const [rows, columns] = blocks(context);
    note.hidden = rows * columns === 1;
    setText(
      note,
      `Each cell of a map is the mean of ${rows} units and ${columns} steps.`,
    );
  }

  function step() {
    const { state, T, H } = context;
    const rank = order().indexOf(state.unit);
    for (const { symbol, column, row, value } of maps) {
      const shown = context.backward ? `d_${symbol}` : symbol;
      column.style.transform = `translateX(${100 * state.step}%)`;
      column.style.width = `${100 / T}%`;
      row.style.transform = `translateY(${100 * rank}%)`;
      row.style.height = `${100 / H}%`;
      setText(value, formatNumber(context.at(shown)));
    }
  }

  return { data, step };
}

function makeMap(symbol) {
  const canvas = make("canvas", {
    tabindex: 0,
    role: "application",
    "aria-roledescription": "heat map",
    "aria-describedby": "cell-summary",
  });
  const [column, row, value] = [
    make("div", { class: "column" }),
    make("div", { class: "row" }),
    make("output", { class: "number" }),
  ];
  const [name, words] = [make("span", { class: "name" }), make("span", { class: "words" })];
  const [low, bar, high] = [make("span"), make("span", { class: "ramp" }), make("span")];
  const legend = make("div", { class: "legend", "aria-hidden": "true" }, low, bar, high);
  const caption = make("figcaption", {}, name, words, value);
  const axis = make("div");
  const figure = make(
    "figure",
    { class: "map" },
    caption,
    make("div", { class: "plate" }, canvas, column, row),
    axis,
    legend,
  );
  return { symbol, figure, canvas, column, row, value, name, words, low, bar, high, axis };
}

/** Units and steps per cell of a map. */
function blocks({ H, T }) {
  return [Math.ceil(H / MOST_ROWS), Math.ceil(T / MOST_COLUMNS)];
}

/** Rows of a map: H units, or P rows of a projected h, which are not sorted. */
function rowsOf(values, T) {
  return values && Number.isInteger(values.length / T) ? values.length / T : 0;
}

function drawMap({ symbol, canvas, name, words, low, bar, high, figure, axis, row }, context, unitOrder) {
  const shown = context.backward ? `d_${symbol}` : symbol;
  const { T, theme } = context;
  const values = context.direction[shown];
  const H = rowsOf(values, T);
  figure.hidden = !H;
  if (figure.hidden) return;
  const ofUnits = H === context.H;
  const order = ofUnits ? unitOrder : Array.from({ length: H }, (_, k) => k);
  row.hidden = !ofUnits;
  canvas.dataset.symbol = shown;
  name.replaceChildren(labelled(shown));
  setText(words, ofUnits ? WORDS[shown] : `${WORDS[shown]}, projected`);
  const scale = context.scale(shown);
  axis.replaceChildren(stepAxis(context));
  setText(low, formatBrief(scale.low));
  setText(high, formatBrief(scale.high));
  bar.style.background = colorRamp(theme, scale.name);
  canvas.setAttribute(
    "aria-label",
    `${WORDS[shown]}. ${H} ${ofUnits ? "units" : "numbers"} from top to bottom, ${T} steps from left to right. ` +
      "The arrow keys choose a step and a unit.",
  );

  const [rows, columns] = blocks({ H, T });
  canvas.height = Math.ceil(H / rows);
  canvas.width = Math.ceil(T / columns);
  figure.style.setProperty("--rows", canvas.height);
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let y = 0, n = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, n += 4) {
      const [r, g, b] = colorOf(theme, scale, blockMean(values, order, H, T, y * rows, rows, x * columns, columns));
      pixels.data.set([r, g, b, 255], n);
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function blockMean(values, order, H, T, row, rows, column, columns) {
  if (rows * columns === 1) return values[column * H + order[row]];
  let [sum, count] = [0, 0];
  for (let t = column; t < Math.min(T, column + columns); t++) {
    for (let k = row; k < Math.min(H, row + rows); k++, count++) sum += values[t * H + order[k]];
  }
  return sum / count;
}

const MOVES = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  PageUp: [0, -8],
  PageDown: [0, 8],
};

function listen({ canvas, row }, context, choose, order) {
  const pick = (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const indexAt = (share, n) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));
    const unit = row.hidden ? context.state.unit : order()[indexAt(y, context.H)];
    choose({ step: indexAt(x, context.T), unit });
  };
  canvas.addEventListener("pointerdown", (event) => {
    pick(event);
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1 && event.pointerType !== "touch") pick(event);
  });
  canvas.addEventListener("keydown", (event) => {
    const { state, T, H } = context;
    if (event.key === "Home" || event.key === "End") choose({ step: event.key === "Home" ? 0 : T - 1 });
    else if (event.key in MOVES) {
      const [steps, units] = MOVES[event.key];
      const rank = Math.max(0, Math.min(H - 1, order().indexOf(state.unit) + units));
      choose({ step: Math.max(0, Math.min(T - 1, state.step + steps)), unit: order()[rank] });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
