// The film of a training run: one recorded frame at a time, as heat maps that share a cursor.

import { byId, make, makeSvg } from "../shared/elements.js";

const film = JSON.parse(byId("payload").textContent);
const last = film.updates.length - 1;
const FRAME_MS = 120; // between frames while the film plays
const [MAP_HEIGHT, LABEL_HEIGHT, MOST_TEXTS] = [192, 12, 24]; // in CSS pixels, at the smallest; steps with a text
const [WIDTH, HEIGHT] = [1000, 100]; // of the curves; they are stretched to the width of the page
const state = { frame: 0, row: null, step: null, map: 0, timer: null };
const maps = film.maps.map(makeMap);
const curves = [makeLosses(), makeNorms()].filter(Boolean);

function clamp(index, count) {
  return Math.max(0, Math.min(count - 1, index));
}

function formatNumber(value) {
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** 256 colours, interpolated linearly between stops. */
function paletteOf(stops) {
  const rgb = stops.map((stop) => [1, 3, 5].map((k) => parseInt(stop.slice(k, k + 2), 16)));
  return Array.from({ length: 256 }, (_, k) => {
    const position = (k / 255) * (rgb.length - 1);
    const low = Math.min(Math.floor(position), rgb.length - 2);
    return rgb[low].map((v, channel) => Math.round(v + (position - low) * (rgb[low + 1][channel] - v)));
  });
}

/** The value at a share of a map's range in a frame. */
function between(map, frame, share) {
  const [low, high] = map.ranges[frame];
  return low + share * (high - low);
}

function valueAt(map, frame, row, step) {
  return between(map, frame, map.data[(frame * map.rows + row) * map.steps + step] / 255);
}

// ---- heat maps

function makeMap(map, k) {
  const rows = map.of_units ? `${film.units.length} units` : `${map.rows * film.block} rows`;
  const shape = ` · ${rows} × ${film.steps} steps`;
  const palette = paletteOf(film.colors[map.kind]);
  const size = { width: map.steps, height: map.rows };
  const canvas = make("canvas", { tabindex: 0, role: "img", "data-symbol": map.symbol, ...size });
  const gradient = palette.filter((_, n) => n % 15 === 0).map((color) => `rgb(${color})`);
  const bar = make("span", { style: `background: linear-gradient(to right, ${gradient.join(", ")})` });
  const ends = [make("span"), make("span")];
  byId("maps").append(
    make(
      "figure",
      {},
      make("figcaption", {}, make("b", {}, map.name), " ", make("i", {}, map.symbol), shape),
      labelled(map, canvas),
      make("div", { class: "legend" }, ends[0], bar, ends[1]),
    ),
  );
  const data = Uint8Array.from(atob(map.data), (character) => character.charCodeAt(0));
  const heatMap = { ...map, k, data, palette, canvas, ends };
  for (const name of ["pointermove", "pointerdown"])
    canvas.addEventListener(name, (event) => choose(heatMap, ...cellUnder(heatMap, event)));
  canvas.addEventListener("keydown", (event) => moveByKey(heatMap, event));
  return heatMap;
}

/** The canvas, the numbers of the units on its left, and the bits or the numbers of the steps below it. */
function labelled(map, canvas) {
  const share = (index, count) => `${((index + 0.5) / count) * 100}%`;
  const units = make("div", { class: "units", "aria-hidden": "true" });
  const steps = make("div", { class: "steps", "aria-hidden": "true" });
  const plate = make("div", { class: "plate" }, canvas);
  if (film.block === 1) {
    const interval = Math.ceil((map.rows * LABEL_HEIGHT) / MAP_HEIGHT);
    for (let row = 0; map.of_units && row < map.rows; row += interval)
      units.append(make("span", { style: `top: ${share(row, map.rows)}` }, String(film.units[row])));
    const { texts, delimiters } = film.marks;
    const every = texts.length && map.steps <= MOST_TEXTS ? 1 : Math.ceil(map.steps / MOST_TEXTS);
    for (let t = 0; t < map.steps; t += every)
      steps.append(make("span", { style: `left: ${share(t, map.steps)}` }, every === 1 && texts.length ? texts[t] : String(t)));
    for (const t of delimiters) plate.append(make("span", { class: "delimiter", style: `left: ${share(t, map.steps)}` }));
  }
  return make("div", { class: "labelled" }, units, plate, steps);
}

/** The row and the step under the pointer. */
function cellUnder(map, event) {
  const box = map.canvas.getBoundingClientRect();
  const index = (offset, size, count) => clamp(Math.floor((offset / size) * count), count);
  return [index(event.clientY - box.top, box.height, map.rows), index(event.clientX - box.left, box.width, map.steps)];
}

function moveByKey(map, event) {
  const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!by) return;
  event.preventDefault();
  const moved = (index, change, count) => clamp(index === null ? 0 : index + change, count);
  choose(map, moved(state.row, by[0], map.rows), moved(state.step, by[1], map.steps));
}

function choose(map, row, step) {
  Object.assign(state, { map: map.k, row, step });
  writeChosen();
}

function writeChosen() {
  if (state.row === null) return;
  const map = maps[state.map];
  const row = Math.min(state.row, map.rows - 1);
  const b = film.block;
  const oneRow = map.of_units ? `unit ${film.units[row]}` : `row ${row}`;
  const unit = b === 1 ? oneRow : `block ${row} of ${b} ${map.of_units ? "units" : "rows"}`;
  const lastStep = Math.min(film.steps, (state.step + 1) * b) - 1;
  const step = b === 1 ? `step ${state.step}` : `steps ${state.step * b} to ${lastStep}`;
  const value = formatNumber(valueAt(map, state.frame, row, state.step));
  byId("chosen").textContent = `${map.name} ${map.symbol} of ${unit} at ${step}: ${value}`;
}

function paint(map) {
  const context = map.canvas.getContext("2d");
  const image = context.createImageData(map.steps, map.rows);
  const size = map.rows * map.steps;
  let sum = 0;
  for (let k = 0; k < size; k++) {
    const byte = map.data[state.frame * size + k];
    sum += byte;
    image.data.set(map.palette[byte], 4 * k);
    image.data[4 * k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  map.ends.forEach((end, k) => {
    end.textContent = formatNumber(map.ranges[state.frame][k]);
  });
  const mean = formatNumber(between(map, state.frame, sum / (255 * size)));
  const title = `${map.name} ${map.symbol} after update ${film.updates[state.frame]}`;
  map.canvas.setAttribute("aria-label", `${title}: mean ${mean}. The arrow keys read its values.`);
}

// ---- curves

/** A curve's SVG with its base line, and a function that adds an element to it. */
function prepareCurve(id) {
  const svg = byId(id);
  const add = (tag, attributes) => svg.appendChild(makeSvg(tag, attributes));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  add("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
  return { svg, add };
}

function makeLosses() {
  const losses = film.losses.filter((loss) => loss !== null);
  if (!losses.length) return byId("loss-figure").remove();
  const { svg, add } = prepareCurve("losses");
  const [first, final] = [losses[0], losses[losses.length - 1]];
  const span = Math.max(1, film.updates[last] - film.updates[0]);
  const top = Math.max(...losses) || 1;
  const x = (k) => ((film.updates[k] - film.updates[0]) / span) * WIDTH;
  const points = film.losses.map((loss, k) => (loss === null ? "" : `${x(k)},${HEIGHT - (loss / top) * HEIGHT}`));
  const change = first >= final ? "falls" : "rises";
  svg.setAttribute("aria-label", `The loss ${change} from ${formatNumber(first)} to ${formatNumber(final)}.`);
  add("polyline", { class: "line", points: points.join(" ") });
  const cursor = add("line", { class: "now", y1: 0, y2: HEIGHT });
  return () => {
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, x(state.frame));
  };
}

function makeNorms() {
  const names = ["c", "output", "cell", "recurrent"].filter((name) => film.norms[name]);
  if (!names.length) return byId("norm-figure").remove();
  const { svg, add } = prepareCurve("norms");
  const lines = names.map((name) => [name, add("polyline", { class: `line ${name}`, points: "" })]);
  return () => {
    const norms = film.norms.c[state.frame];
    const top = Math.max(...names.flatMap((name) => film.norms[name][state.frame]));
    const x = (t) => (t / Math.max(1, norms.length - 1)) * WIDTH;
    for (const [name, line] of lines) {
      const points = film.norms[name][state.frame].map((norm, t) => `${x(t)},${HEIGHT - (norm / (top || 1)) * HEIGHT}`);
      line.setAttribute("points", points.join(" "));
    }
    const range = `Horizontal axis: steps 0 to ${norms.length - 1}.`;
    const largest = Math.max(...norms);
    const peak = `${formatNumber(largest)} at step ${norms.indexOf(largest)}`;
    const words = `${range} The top is ${formatNumber(top)}; the gradient on the cell states has its maximum ${peak}.`;
    byId("norm-words").textContent = words;
    svg.setAttribute("aria-label", `Norm of the gradient on the cell states. ${words}`);
  };
}

// ---- the slider

function show(frame) {
  state.frame = frame;
  byId("frame").value = frame;
  byId("frame").setAttribute("aria-valuetext", `update ${film.updates[frame]}`);
  byId("update").textContent = film.updates[frame];
  const loss = film.losses[frame];
  byId("loss").textContent = loss === null ? "" : `loss ${formatNumber(loss)}`;
  maps.forEach(paint);
  curves.forEach((update) => update());
  writeChosen();
}

function play(on) {
  clearInterval(state.timer);
  const advance = () => (state.frame < last ? show(state.frame + 1) : play(false));
  state.timer = on ? setInterval(advance, FRAME_MS) : null;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(on));
}

byId("notes").append(...film.notes.map((note) => make("p", {}, note)));
byId("frame").max = last;
byId("frame").addEventListener("input", (event) => {
  play(false);
  show(event.target.valueAsNumber);
});
byId("play").addEventListener("click", () => {
  const on = state.timer === null;
  if (on && state.frame === last) show(0);
  play(on);
});
show(0);
window.film = { state, show, maps, valueAt };
