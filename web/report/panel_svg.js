// Panels as independent SVG pictures: with titles, axes and keys, and all styles inside.

import { colorOf } from "./colors.js";
import { formatBrief } from "./number_text.js";
import { axisOf } from "./symbols.js";

const FONT = "system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
const MOST_RECTANGLES = 20_000;
const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "display"];
const STYLED_TEXT = ["font-family", "font-size", "font-style", "font-weight", "text-anchor", "letter-spacing"];

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const escaped = (text) =>
  String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function picture(width, height, parts) {
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="${escaped(FONT)}" font-size="11"><rect width="100%" height="100%" fill="${style("--paper")}"/>${parts.join("")}</svg>`;
  return { svg, width, height };
}

function label(x, y, text, { anchor = "start", fill = style("--ink"), size = 11, weight = "normal" } = {}) {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" font-size="${size}" font-weight="${weight}" fill="${fill}">${text}</text>`;
}

function round(number) {
  return Number(number.toFixed(2));
}

/** The text of nodes, with subscripts. */
const textOf = (nodes) =>
  Array.from(nodes, (node) =>
    node.nodeName === "SUB"
      ? `<tspan dy="3" font-size="8">${escaped(node.textContent)}</tspan><tspan dy="-3">\u200a</tspan>`
      : node.childNodes?.length
        ? textOf(node.childNodes)
        : escaped(node.textContent ?? node),
  ).join("");

/** A map of map_panel.js. */
export function mapAsSvg(spec) {
  const { rows, columns, at, scale, theme, marks = [], delimiter = -1 } = spec;
  const [left, top, width] = [58, 56, 640];
  const height = Math.max(96, Math.min(520, rows * Math.max(2, Math.min(22, 420 / rows))));
  const [w, h] = [width / columns, height / rows];
  const muted = { fill: style("--muted") };
  const parts = [label(left, 20, textOf(spec.title), { size: 14, weight: 600 }), label(left, 37, escaped(spec.words), muted)];
  const down = Math.ceil((rows * columns) / MOST_RECTANGLES);
  for (let row = 0; row < rows; row += down) {
    for (let column = 0; column < columns; column++) {
      const color = colorOf(theme, scale, at(row, column))[3];
      parts.push(`<rect x="${round(left + column * w)}" y="${round(top + row * h)}" width="${round(w + 0.3)}" height="${round(down * h + 0.3)}" fill="${color}"/>`);
    }
  }
  if (delimiter >= 0) {
    for (const x of [delimiter, delimiter + 1].map((column) => left + column * w))
      parts.push(`<path d="M${round(x)},${top}v${height}" stroke="${style("--ink")}" stroke-dasharray="2 3" fill="none"/>`);
  }
  for (const { row, column, kind } of marks) {
    const [x, y] = [left + (column + 0.5) * w, top + (row + 0.5) * h];
    const shape = kind === "enters" ? `<circle cx="${round(x)}" cy="${round(y)}" r="4"` : `<rect x="${round(x - 5)}" y="${round(y - 5)}" width="10" height="10"`;
    parts.push(`${shape} fill="none" stroke="#fff" stroke-width="4"/>${shape} fill="none" stroke="#8a1f0a" stroke-width="2"/>`);
  }
  const every = Math.ceil(rows / Math.max(1, Math.floor(height / 12)));
  spec.rowNames.forEach((name, row) => {
    if (row % every === 0) parts.push(label(left - 6, top + (row + 0.5) * h + 4, escaped(name), { anchor: "end", ...muted }));
  });
  parts.push(label(4, top - 4, escaped(spec.rowTitle), muted));
  const bottom = top + height;
  for (const { column, text, line } of axisOf(spec))
    parts.push(label(left + (column + 0.5) * w, bottom + 14 + 13 * line, escaped(text), { anchor: "middle", ...muted }));
  const key = bottom + 50;
  for (let n = 0; n < 64; n++) {
    const value = scale.low + ((n + 0.5) / 64) * (scale.high - scale.low);
    parts.push(`<rect x="${left + 40 + 2 * n}" y="${key - 9}" width="2.3" height="9" fill="${colorOf(theme, scale, value)[3]}"/>`);
  }
  parts.push(label(left + 34, key, formatBrief(scale.low), { anchor: "end" }), label(left + 174, key, formatBrief(scale.high)));
  let x = left + 230;
  for (const [kind, words] of new Map(marks.map((mark) => [mark.kind, mark.words]))) {
    const shape = kind === "enters" ? `<circle cx="${x}" cy="${key - 4}" r="4"` : `<rect x="${x - 5}" y="${key - 9}" width="10" height="10"`;
    parts.push(`${shape} fill="none" stroke="#8a1f0a" stroke-width="2"/>`, label(x + 10, key, escaped(words)));
    x += 180;
  }
  return picture(left + width + 20, key + 14, parts);
}

/** A chart of chart.js: its curves, the numbers of its axis, and its key of {node, color, dash}. */
export function chartAsSvg(plate, { title, legend, numbers, axis, T }) {
  const [left, top, width, height] = [64, 40, 600, 220];
  const clone = plate.cloneNode(true);
  inlineStyles(plate, clone, STYLED);
  const parts = [label(left, 20, escaped(title), { size: 14, weight: 600 })];
  parts.push(`<svg x="${left}" y="${top}" width="${width}" height="${height}" viewBox="${plate.getAttribute("viewBox")}" preserveAspectRatio="none">${inside(clone)}</svg>`);
  for (const { text, share } of numbers) parts.push(label(left - 6, top + height * (1 - share) + 4, text, { anchor: "end", fill: style("--muted") }));
  for (const { column, text, line } of axis)
    parts.push(label(left + ((column + 0.5) * width) / T, top + height + 16 + 13 * line, escaped(text), { anchor: "middle", fill: style("--muted") }));
  let [x, y] = [left, top + height + 56];
  for (const { node, color, dash } of legend) {
    const size = 40 + 6.6 * node.textContent.length;
    if (x + size > left + width && x > left) [x, y] = [left, y + 18];
    parts.push(`<path d="M${x},${y - 4}h24" stroke="${color}" stroke-width="2" stroke-dasharray="${dash}" fill="none"/>`, label(x + 30, y, textOf([node])));
    x += size;
  }
  return picture(left + width + 20, y + 16, parts);
}

/** A drawing with text, such as the diagram of the cell. */
export function drawingAsSvg(svg) {
  const clone = svg.cloneNode(true);
  inlineStyles(svg, clone, [...STYLED, ...STYLED_TEXT]);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  return picture(width, height, [`<svg viewBox="0 0 ${width} ${height}">${inside(clone)}</svg>`]);
}

function inside(svg) {
  const serializer = new XMLSerializer();
  return [...svg.children].map((child) => serializer.serializeToString(child)).join("");
}

function inlineStyles(source, copy, names) {
  const pairs = [[source, copy]];
  while (pairs.length) {
    const [from, to] = pairs.pop();
    const computed = getComputedStyle(from);
    const kept = names.filter((name) => !STYLED_TEXT.includes(name) || /^(text|tspan)$/.test(from.tagName));
    to.setAttribute("style", kept.map((name) => `${name}: ${computed.getPropertyValue(name)}`).join("; "));
    to.removeAttribute("class");
    [...from.children].forEach((child, n) => pairs.push([child, to.children[n]]));
  }
}
