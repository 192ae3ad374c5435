// The diagram of the cell: pipes coloured by the values in them.

import { byId, makeSvg, on, setText } from "../shared/elements.js";
import { colorOf, colorRamp } from "./colors.js";
import { formatNumber, formatPercent } from "./number_text.js";
import { drawingAsSvg } from "./panel_svg.js";
import { saveButton } from "./save_panel.js";

const BUS = 392; // heights of the drawing that the pipes share
const BELT = 86;
const GATES_AT = 290;
const NARROW = "(max-width: 640px)";

const WIDE_PLACES = { width: 776, left: 18, f: 144, i: 263, g: 382, o: 501, tail: 624, box: 104, join: 58, strips: 84 };
const NARROW_PLACES = { width: 420, left: 4, f: 36, i: 123, g: 210, o: 297, tail: 386, box: 64, join: 14, strips: 30 };

const BOXES = { f: ["σ", "forget"], i: ["σ", "input"], g: ["tanh", "candidate"], o: ["σ", "output"] };
const MOST_STRIPES = 48;

export function cellDiagramView(context) {
  const narrow = window.matchMedia(NARROW);
  const isNarrow = () => narrow.matches || context.projected;
  let drawn = isNarrow();
  let drawing = draw(drawn);
  on(narrow, "change", () => {
    data();
    step();
  });
  byId("cell-save").replaceChildren(saveButton(() => "cell", () => drawingAsSvg(drawing.svg)));

  function data() {
    if (isNarrow() !== drawn) {
      drawn = isNarrow();
      drawing = draw(drawn);
    }
    for (const bar of document.querySelectorAll("[data-ramp]"))
      bar.style.background = colorRamp(context.theme, bar.dataset.ramp);
  }

  function step() {
    const { backward } = context;
    drawing.svg.classList.toggle("backward", backward);
    for (const pipe of drawing.pipes) fillPipe(context, pipe, backward);
    fillStripes(context, drawing.h, backward ? "d_h_prev" : "h_prev");
    fillStripes(context, drawing.x, backward ? "d_x" : "x");
    setText(byId("cell-summary"), backward ? backwardSentence(context) : forwardSentence(context));
  }

  return { data, step };
}

// ---- values of the pipes

/** The value of a pipe: that of a symbol, or a product of two. */
function valueOf(context, name) {
  if (name === "kept") return product(context.at("f"), context.at("c_prev"));
  if (name === "written") return product(context.at("i"), context.at("g"));
  if (name === "d_c_prev") return product(context.at("d_c"), context.at("f"));
  if (name === "d_kept" || name === "d_written") return context.at("d_c");
  return context.at(name);
}

function product(a, b) {
  return a === undefined || b === undefined ? undefined : a * b;
}

const SCALE_LIKE = { kept: "c", written: "c", c_prev: "c", d_c_prev: "d_c", d_kept: "d_c", d_written: "d_c" };

function fillPipe(context, { name, core, arrows, label, number, parts, narrow }, backward) {
  const shown = backward ? `d_${name}` : name;
  const value = valueOf(context, shown);
  core.style.stroke =
    value === undefined ? "" : colorOf(context.theme, context.scale(SCALE_LIKE[shown] ?? shown), value)[3];
  if (label && label.dataset.shown !== shown) {
    label.dataset.shown = shown;
    number.setAttribute("data-value", shown);
    const sameAsNext = backward && narrow && name === "kept"; // dL/d(f c) is dL/dc, drawn next to it
    for (const part of [label, number]) part.style.display = sameAsNext ? "none" : "";
    label.replaceChildren(...(backward ? ["d", italic("L"), "/d", ...inBrackets(parts())] : parts()));
    for (const { element, x, y, angle } of arrows) {
      element.setAttribute("transform", `translate(${x} ${y}) rotate(${backward ? angle + 180 : angle})`);
    }
  }
  if (number) setText(number, formatNumber(value));
}

/** h_{t-1} or x_t as a row of stripes: one stripe per element, or per block of elements (their mean). */
function fillStripes(context, { rects, scale }, name) {
  const values = vectorOf(context, name);
  const each = Math.ceil((values?.length ?? 1) / MOST_STRIPES);
  const count = values ? Math.ceil(values.length / each) : 0;
  const symbol = name in context.direction ? name : "h_prev";
  const colors = context.scale(name === "d_h_prev" ? "d_h" : symbol);
  rects.forEach((rect, n) => {
    rect.style.display = n < count ? "" : "none";
    if (n >= count) return;
    const some = values.subarray(n * each, (n + 1) * each);
    const mean = some.reduce((sum, v) => sum + v, 0) / some.length;
    rect.style.fill = colorOf(context.theme, colors, mean)[3];
    const width = scale.width / count;
    rect.setAttribute("x", scale.x + n * width);
    rect.setAttribute("width", Math.max(0.5, width - (count > 24 ? 0.4 : 1)));
  });
}

function vectorOf(context, name) {
  const { direction, T, H, state } = context;
  const t = state.step;
  if (name === "d_h_prev") {
    const before = context.before(t);
    if (!context.adjacent(t, before) || direction.d_h?.length !== T * H || !direction.d_y) return null;
    return direction.d_h.subarray(before * H, (before + 1) * H).map((d, k) => d - direction.d_y[before * H + k]);
  }
  if (name === "h_prev" && !direction.h_prev) {
    const before = context.before(t);
    if (!context.adjacent(t, before) || direction.h?.length !== T * H) return null;
    return direction.h.subarray(before * H, (before + 1) * H);
  }
  const values = name === "x" && !direction.x && state.layer === 0 ? context.model.x : direction[name];
  if (!values) return null;
  const size = values.length / T;
  return values.subarray(t * size, (t + 1) * size);
}

// ---- the summary in words

// By version of the values. The diagram has no differences: it then shows the new values.
const STARTS = { new: "", old: "Before the changes", difference: "After the changes (the maps show the differences)" };

/** "Step 4, unit 5: " */
function placeOf(context) {
  const { step, unit, version } = context.state;
  const start = STARTS[version];
  return `${start ? `${start}, step` : "Step"} ${context.stepName(step)}, unit ${context.unitName(unit)}: `;
}

function forwardSentence(context) {
  const [f, i, g, c, o, h] = ["f", "i", "g", "c", "o", "h"].map((name) => context.at(name));
  const amount = i === undefined ? undefined : i * g;
  return (
    `${placeOf(context)}the forget gate keeps ${formatPercent(f)} of the cell state, the input gate adds ${formatNumber(amount)}, ` +
    `the cell state is ${formatNumber(c)}, and the output gate passes ${formatPercent(o)} of tanh c` +
    `${h === undefined ? "" : `: h\u00a0=\u00a0${formatNumber(h)}`}.`
  );
}

function backwardSentence(context) {
  const [d, output, cell, recurrent] = ["d_c", "output", "cell", "recurrent"].map((name) => context.at(name));
  const where = placeOf(context);
  if (Math.abs(d) < 1e-12) return `${where}to first order, the loss does not depend on this cell state.`;
  const effect = d > 0 ? "raises" : "lowers";
  const split =
    cell === undefined
      ? ""
      : ` Its parts: ${formatNumber(output)} from the output of this step, ` +
        `${formatNumber(cell)} along the cell from the next step, ` +
        `and ${formatNumber(recurrent)} through h and the recurrent weights.`;
  return `${where}an increase of this cell state ${effect} the loss, at a rate of ${formatNumber(d)}.${split}`;
}

// ---- the drawing

function draw(isNarrow) {
  const p = isNarrow ? NARROW_PLACES : WIDE_PLACES;
  const svg = makeSvg("svg", {
    viewBox: `0 0 ${p.width} 468`,
    role: "img",
    "aria-labelledby": "cell-title cell-summary",
  });
  const below = makeSvg("g");
  const above = makeSvg("g");
  svg.append(below, above);
  const pipes = plan(p, isNarrow).map((pipe) => ({ ...drawPipe(below, above, pipe), narrow: isNarrow }));
  drawBus(below, p);
  for (const [gate, words] of Object.entries(BOXES)) drawBox(above, p[gate], GATES_AT, p.box, 44, words);
  drawBox(above, p.tail, 128, 56, 32, ["tanh"]);
  const middle = (p.i + p.g) / 2;
  for (const [x, y, operator] of [
    [p.f, BELT, "×"],
    [middle, BELT, "+"],
    [middle, 178, "×"],
    [p.tail, 232, "×"],
  ]) {
    above.append(
      makeSvg("circle", { class: "joint", cx: x, cy: y, r: 13 }),
      text(x, y + 6, "operator", operator, "middle"),
    );
  }
  const h = drawStripes(above, p, 410, "h", "t−1");
  const x = drawStripes(above, p, 440, "x", "t");
  above.append(bracket(p));
  byId("cell-drawing").replaceChildren(svg);
  return { svg, pipes, h, x };
}

/** The pipes: name, path d, arrows [x, y, angle], and label [x, y, spelling, right-aligned]. */
function plan(p, isNarrow) {
  const middle = (p.i + p.g) / 2;
  const end = p.width - p.left;
  const gates = ["f", "i", "g", "o"].map((gate) => ({
    name: `z_${gate}`,
    d: `M${p[gate]},${BUS} V${GATES_AT + 22}`,
    arrows: [[p[gate], 376, -90]],
    label: [p[gate] + 11, 338, ["z", gate]],
  }));
  return [
    ...gates,
    {
      name: "c_prev",
      d: `M${p.left},${BELT} H${p.f - 13}`,
      arrows: isNarrow ? [] : [[100, BELT, 0]],
      label: [p.left, 42, ["c", "t−1"]],
    },
    {
      name: "kept",
      d: `M${p.f + 13},${BELT} H${middle - 13}`,
      arrows: [[middle - 34, BELT, 0]],
      label: [isNarrow ? 84 : p.f + 24, 42, ["f", "", "·", "c", "t−1"]],
    },
    { name: "f", d: `M${p.f},268 V${BELT + 13}`, arrows: [[p.f, 126, -90]], label: [p.f + 11, 178, ["f"]] },
    { name: "i", d: `M${p.i},268 V178 H${middle - 13}`, arrows: [[p.i, 206, -90]], label: [p.i + 11, 224, ["i"]] },
    { name: "g", d: `M${p.g},268 V178 H${middle + 13}`, arrows: [[p.g, 206, -90]], label: [p.g + 11, 224, ["g"]] },
    {
      name: "written",
      d: `M${middle},165 V${BELT + 13}`,
      arrows: [[middle, 118, -90]],
      label: [middle + 11, 126, ["i", "", "·", "g"]],
    },
    {
      name: "tanh_c",
      d: `M${p.tail},144 V219`,
      arrows: [[p.tail, 182, 90]],
      label: [p.tail + (isNarrow ? -11 : 11), 162, ["tanh ", "", "", "c", "t"], isNarrow],
    },
    {
      name: "o",
      d: `M${p.o},268 V232 H${p.tail - 13}`,
      arrows: [[p.tail - 36, 232, 0]],
      label: [p.o + (isNarrow ? -2 : 4), 201, ["o"]],
    },
    {
      name: "h",
      d: `M${p.tail},245 V${BUS} H${end}`,
      arrows: [[p.tail, 330, 90]],
      label: isNarrow ? [end, 414, ["h", "t"], true] : [p.tail + 11, 300, ["h", "t"]],
    },
    {
      name: "c",
      d: `M${middle + 13},${BELT} H${end} M${p.tail},${BELT} V112`,
      arrows: [[p.tail - 40, BELT, 0]],
      label: [middle + 20, 42, ["c", "t"]],
    },
  ];
}

function drawPipe(below, above, { name, d, arrows, label }) {
  const core = makeSvg("path", { class: "core", d });
  below.append(
    makeSvg("path", { class: "glass", d }),
    core,
    makeSvg("path", { class: "shine", d }),
    makeSvg("path", { class: "flow", d }),
  );
  const drawn = arrows.map(([x, y, angle]) => {
    const element = makeSvg("path", {
      class: "arrow",
      d: "M-4.5,-5.5 L5,0 L-4.5,5.5 Z",
      transform: `translate(${x} ${y}) rotate(${angle})`,
    });
    above.append(element);
    return { element, x, y, angle };
  });
  const [x, y, spelling, atEnd] = label;
  const anchor = atEnd ? "end" : "start";
  const written = text(x, y, "name", "", anchor);
  const number = text(x, y + 20, "number", "–", anchor);
  above.append(written, number);
  return { name, core, arrows: drawn, label: written, number, parts: () => spelled(spelling) };
}

/** [letter, index, operator, letter, index] as italics with indices. */
function spelled([letter, index, between, letter2, index2]) {
  const parts = [letter.length > 1 ? letter : italic(letter), ...(index ? lowered(index) : [])];
  if (letter2) parts.push(`${between}`, italic(letter2), ...(index2 ? lowered(index2) : []));
  return parts;
}

/** Put words and products, which contain text outside tspans, in brackets. */
function inBrackets(parts) {
  return parts.some((part) => typeof part === "string") ? ["(", ...parts, ")"] : parts;
}

function italic(letter) {
  return makeSvg("tspan", { class: "symbol" }, letter);
}

function lowered(index) {
  return [makeSvg("tspan", { class: "index", dy: 3 }, index), makeSvg("tspan", { dy: -3 }, "\u200b")];
}

function drawBus(group, p) {
  const d = `M${p.left},${BUS} H${p.o} M${p.join},462 V${BUS}`;
  group.prepend(makeSvg("path", { class: "glass", d }), makeSvg("path", { class: "bus", d }));
}

function drawBox(group, x, y, width, height, [function_, words]) {
  group.append(makeSvg("rect", { class: "box", x: x - width / 2, y: y - height / 2, width, height, rx: 10 }));
  group.append(text(x, words ? y - 2 : y + 5, "function", function_, "middle"));
  if (words) group.append(text(x, y + 14, "words", words, "middle"));
}

function drawStripes(group, p, y, letter, index) {
  const label = text(p.strips, y + 11, "name", "", "start");
  label.append(italic(letter), ...lowered(index));
  const scale = { x: p.strips + 42, width: p.f < 100 ? 130 : 170 };
  const rects = Array.from({ length: MOST_STRIPES }, () => makeSvg("rect", { y, height: 14, class: "stripe" }));
  group.append(label, ...rects);
  return { rects, scale };
}

function bracket(p) {
  const [x, y] = p.f < 100 ? [218, 454] : [320, 430]; // if narrow, below the number of h
  const label = text(x, y, "name", "", "start");
  label.append(
    italic("z"),
    " = ",
    italic("W"),
    " [",
    italic("h"),
    ...lowered("t−1"),
    "; ",
    italic("x"),
    ...lowered("t"),
    "; 1]",
  );
  return label;
}

function text(x, y, kind, content, anchor) {
  return makeSvg("text", { x, y, class: kind, "text-anchor": anchor }, content);
}
