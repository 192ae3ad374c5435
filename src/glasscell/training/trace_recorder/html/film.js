// The film of a training: one moment of it at a time, in heat maps that share a cursor.
"use strict";
(() => {
  const film = JSON.parse(document.getElementById("payload").textContent);
  const at = (id) => document.getElementById(id);
  const last = film.updates.length - 1;
  const state = { moment: 0, row: null, step: null, map: 0, timer: null };
  const maps = film.maps.map(prepare);

  function prepare(map, k) {
    const data = Uint8Array.from(atob(map.data), (c) => c.charCodeAt(0));
    return { ...map, k, data, palette: paletteOf(film.colors[map.kind]), canvas: null };
  }

  // 256 colours, with straight lines between the stops.
  function paletteOf(stops) {
    const rgb = stops.map((stop) => [1, 3, 5].map((k) => parseInt(stop.slice(k, k + 2), 16)));
    return Array.from({ length: 256 }, (_, k) => {
      const place = (k / 255) * (rgb.length - 1), low = Math.min(Math.floor(place), rgb.length - 2);
      return rgb[low].map((v, channel) => Math.round(v + (place - low) * (rgb[low + 1][channel] - v)));
    });
  }

  const number = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

  function valueAt(map, moment, row, step) {
    const byte = map.data[(moment * map.rows + row) * map.steps + step];
    return between(map, moment, byte / 255);
  }

  function between(map, moment, share) {
    const [low, high] = map.ranges[moment];
    return low + share * (high - low);
  }

  // Making what is on the page.

  function element(name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  function makeMap(map) {
    const figure = element("figure"), caption = element("figcaption");
    caption.append(element("b", {}, map.name), " ", element("i", {}, map.symbol), ` · ${map.of_units ? `${film.units.length} units` : `${map.rows * film.block} rows`} × ${film.steps} steps`);
    map.canvas = element("canvas", { tabindex: 0, role: "img", "data-symbol": map.symbol, width: map.steps, height: map.rows });
    map.canvas.addEventListener("pointermove", (event) => choose(map, ...under(map, event)));
    map.canvas.addEventListener("pointerdown", (event) => choose(map, ...under(map, event)));
    map.canvas.addEventListener("keydown", (event) => move(map, event));
    const ramp = map.palette.filter((_, k) => k % 15 === 0).map((c) => `rgb(${c})`).join(", ");
    const legend = element("div", { class: "legend" });
    map.ends = [element("span"), element("span")];
    legend.append(map.ends[0], element("span", { style: `background: linear-gradient(to right, ${ramp})` }), map.ends[1]);
    figure.append(caption, map.canvas, legend);
    at("maps").append(figure);
  }

  function under(map, event) {
    const box = map.canvas.getBoundingClientRect();
    const place = (part, size, count) => Math.max(0, Math.min(count - 1, Math.floor((part / size) * count)));
    return [place(event.clientY - box.top, box.height, map.rows), place(event.clientX - box.left, box.width, map.steps)];
  }

  function move(map, event) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const place = (now, change, count) => Math.max(0, Math.min(count - 1, now === null ? 0 : now + change));
    choose(map, place(state.row, by[0], map.rows), place(state.step, by[1], map.steps));
  }

  function choose(map, row, step) {
    Object.assign(state, { map: map.k, row, step });
    say();
  }

  // Drawing a moment.

  function paint(map) {
    const context = map.canvas.getContext("2d");
    const image = context.createImageData(map.steps, map.rows);
    const start = state.moment * map.rows * map.steps;
    let sum = 0;
    for (let k = 0; k < map.rows * map.steps; k++) {
      const byte = map.data[start + k], color = map.palette[byte];
      sum += byte;
      image.data.set(color, 4 * k);
      image.data[4 * k + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    map.ends.forEach((end, k) => { end.textContent = number(map.ranges[state.moment][k]); });
    const mean = between(map, state.moment, sum / (255 * map.rows * map.steps));
    map.canvas.setAttribute("aria-label", `${map.name} ${map.symbol} at update ${film.updates[state.moment]}: mean ${number(mean)}. Arrow keys read its numbers.`);
  }

  function say() {
    if (state.row === null) return;
    const map = maps[state.map], row = Math.min(state.row, map.rows - 1), b = film.block;
    const unit = map.of_units && b === 1 ? `unit ${film.units[row]}` : b === 1 ? `row ${row}` : `block ${row} of ${b} ${map.of_units ? "units" : "rows"}`;
    const step = b === 1 ? `step ${state.step}` : `steps ${state.step * b} to ${Math.min(film.steps, (state.step + 1) * b) - 1}`;
    at("chosen").textContent = `${map.name} ${map.symbol} of ${unit} at ${step}: ${number(valueAt(map, state.moment, row, state.step))}`;
  }

  function line(points, width, height, top) {
    return points.map((y, k) => `${(k / Math.max(1, points.length - 1)) * width},${height - (y / (top || 1)) * height}`).join(" ");
  }

  const SVG = "http://www.w3.org/2000/svg";
  function drawn(svg, name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    svg.append(made);
    return made;
  }

  function makeLosses() {
    const svg = at("losses"), known = film.losses.filter((loss) => loss !== null);
    if (!known.length) return at("loss-figure").remove();
    const span = Math.max(1, film.updates[last] - film.updates[0]), top = Math.max(...known) || 1;
    const x = (k) => ((film.updates[k] - film.updates[0]) / span) * 1000;
    svg.setAttribute("viewBox", "0 0 1000 100");
    svg.setAttribute("aria-label", `The loss falls from ${number(known[0])} to ${number(known[known.length - 1])}.`.replace("falls", known[0] >= known[known.length - 1] ? "falls" : "rises"));
    drawn(svg, "line", { class: "base", x1: 0, x2: 1000, y1: 100, y2: 100 });
    drawn(svg, "polyline", { class: "line", points: film.losses.map((loss, k) => (loss === null ? "" : `${x(k)},${100 - (loss / top) * 100}`)).join(" ") });
    const now = drawn(svg, "line", { class: "now", y1: 0, y2: 100 });
    return () => { now.setAttribute("x1", x(state.moment)); now.setAttribute("x2", x(state.moment)); };
  }

  function makeNorms() {
    const names = ["c", "output", "cell", "recurrent"].filter((name) => film.norms[name]), svg = at("norms");
    if (!names.length) return at("norm-figure").remove();
    svg.setAttribute("viewBox", "0 0 1000 100");
    drawn(svg, "line", { class: "base", x1: 0, x2: 1000, y1: 100, y2: 100 });
    const lines = names.map((name) => [name, drawn(svg, "polyline", { class: `line ${name}`, points: "" })]);
    return () => {
      const now = film.norms.c[state.moment], top = Math.max(...now);
      for (const [name, made] of lines) made.setAttribute("points", line(film.norms[name][state.moment], 1000, 100, top));
      const words = `From step 0 to step ${now.length - 1}; the top of the picture is ${number(top)}, reached at step ${now.indexOf(top)}.`;
      at("norm-words").textContent = words;
      svg.setAttribute("aria-label", `Norm of the gradient on the cells. ${words}`);
    };
  }

  function show(moment) {
    state.moment = moment;
    at("moment").value = moment;
    at("moment").setAttribute("aria-valuetext", `update ${film.updates[moment]}`);
    at("update").textContent = film.updates[moment];
    const loss = film.losses[moment];
    at("loss").textContent = loss === null ? "" : `loss ${number(loss)}`;
    maps.forEach(paint);
    updates.forEach((update) => update());
    say();
  }

  function play(on) {
    clearInterval(state.timer);
    state.timer = on ? setInterval(() => (state.moment < last ? show(state.moment + 1) : play(false)), 120) : null;
    at("play").textContent = on ? "Pause" : "Play";
    at("play").setAttribute("aria-pressed", String(on));
  }

  for (const note of film.notes) at("notes").append(element("p", {}, note));
  maps.forEach(makeMap);
  const updates = [makeLosses(), makeNorms()].filter(Boolean);
  at("moment").max = last;
  at("moment").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
  at("play").addEventListener("click", () => {
    const on = state.timer === null;
    if (on && state.moment === last) show(0);
    play(on);
  });
  show(0);
  window.film = { state, show, maps, valueAt };
})();
