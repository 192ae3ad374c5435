// The equations of one step of one unit, with the numbers put in: forward, and the chain rule back through them.

import { byId, gradientOf, make, setText, show, symbol } from "./dom.js";
import { GATES } from "./lstm.js";

const WORDS = { i: "what to write", f: "what to keep", o: "what to show", g: "what could be written" };

export function equationsView(context) {
  let written = null; // {mode, numbers: [[element, compute], …]}

  function step() {
    const key = `${context.state.mode} ${context.model.live} ${Boolean(context.way.d_y)}`;
    if (written?.key !== key) {
      const body = context.backward ? backwardLines(context) : forwardLines(context);
      byId("equations-note").hidden = context.model.live;
      byId("equations").replaceChildren(...body.children);
      written = { key, numbers: body.numbers };
    }
    for (const [element, compute] of written.numbers) setText(element, compute());
  }

  return { step };
}

/** Collects numbers while lines are written, so that a step later only their text changes. */
class Writer {
  constructor() {
    this.numbers = [];
    this.children = [];
  }

  number(compute, kind = "") {
    const element = make("span", { class: `number ${kind}` });
    this.numbers.push([element, () => show(compute())]);
    return element;
  }

  /** A number behind · or +: in brackets if it is negative. */
  factor(compute) {
    const element = make("span", { class: "number" });
    this.numbers.push([element, () => (compute() < 0 ? `(${show(compute())})` : show(compute()))]);
    return element;
  }

  /** left = formula / = the same with numbers = result. */
  line(left, formula, numbers, result, words) {
    const line = make("div", { class: "equation" });
    line.append(
      make("div", { class: "formula" }, left, " = ", ...formula, words ? make("span", { class: "words" }, words) : ""),
      make("div", { class: "filled" }, "= ", ...numbers, " = ", this.number(result, "result")),
    );
    this.children.push(line);
  }

  table(caption, heads, rows) {
    const head = make("tr", {}, ...heads.map((cell) => make("th", { scope: "col" }, ...[cell].flat())));
    const body = rows.map(([title, ...cells]) =>
      make("tr", {}, make("th", { scope: "row" }, title), ...cells.map((cell) => make("td", {}, cell))),
    );
    this.children.push(
      make(
        "table",
        { class: "sums" },
        make("caption", {}, ...caption),
        make("thead", {}, head),
        make("tbody", {}, ...body),
      ),
    );
  }
}

function forwardLines(context) {
  const write = new Writer();
  const at = (name) => write.number(() => context.at(name));
  const by = (name) => write.factor(() => context.at(name));
  if (context.model.live) {
    const part = (gate, which) => write.number(() => contributions(context, gate)[which]);
    write.table(
      [
        symbol("z"),
        " = ",
        symbol("W"),
        " [",
        symbol("h_prev"),
        "; ",
        symbol("x"),
        "; 1], for each gate a sum of three parts",
      ],
      ["", ["from ", symbol("h_prev")], ["from ", symbol("x")], "bias", "sum"],
      GATES.map((gate) => [symbol(`z_${gate}`), part(gate, 0), part(gate, 1), part(gate, 2), at(`z_${gate}`)]),
    );
  }
  for (const gate of GATES) {
    const name = gate === "g" ? "tanh" : "σ";
    write.line(
      symbol(gate),
      [name, "(", symbol(`z_${gate}`), ")"],
      [`${name}(`, at(`z_${gate}`), ")"],
      () => context.at(gate),
      WORDS[gate],
    );
  }
  write.line(
    symbol("c"),
    [symbol("f"), " ", symbol("c_prev"), " + ", symbol("i"), " ", symbol("g")],
    [at("f"), " · ", by("c_prev"), " + ", at("i"), " · ", by("g")],
    () => context.at("c"),
    "what is remembered",
  );
  write.line(
    symbol("h"),
    [symbol("o"), " tanh ", symbol("c")],
    [at("o"), " · ", by("tanh_c")],
    () => context.at("h"),
    "what is said",
  );
  return write;
}

/** What h_{t-1}, x_t and the bias each add to a gate's z. */
function contributions(context, gate) {
  const { way, weights, H, state } = context;
  const { I, W } = weights;
  const [t, row] = [state.step, (GATES.indexOf(gate) * H + state.unit) * (H + I + 1)];
  let [fromH, fromX] = [0, 0];
  for (let k = 0; k < H; k++) fromH += W[row + k] * way.h_prev[t * H + k];
  for (let k = 0; k < I; k++) fromX += W[row + H + k] * way.x[t * I + k];
  return [fromH, fromX, W[row + H + I]];
}

function backwardLines(context) {
  const write = new Writer();
  const at = (name) => write.number(() => context.at(name));
  const by = (name) => write.factor(() => context.at(name));
  const d = gradientOf;
  const next = (name) => () => ofNext(context, name);
  if (context.way.d_y) {
    write.line(
      d("h"),
      ["from outside + ", transposed(), " ", d("z_next")],
      [at("d_y"), " + ", write.factor(() => minus(context.at("d_h"), context.at("d_y")))],
      () => context.at("d_h"),
    );
  }
  write.line(d("o"), [d("h"), " tanh ", symbol("c")], [at("d_h"), " · ", by("tanh_c")], () => context.at("d_o"));
  write.line(
    d("c"),
    [d("h"), " ", symbol("o"), " (1 − tanh² ", symbol("c"), ") + ", d("c_next"), " ", symbol("f_next")],
    [
      at("d_h"),
      " · ",
      at("o"),
      " · ",
      write.number(() => 1 - context.at("tanh_c") ** 2),
      " + ",
      write.factor(next("d_c")),
      " · ",
      write.number(next("f")),
    ],
    () => context.at("d_c"),
  );
  for (const [gate, factor] of [
    ["i", "g"],
    ["f", "c_prev"],
    ["g", "i"],
  ]) {
    write.line(d(gate), [d("c"), " ", symbol(factor)], [at("d_c"), " · ", by(factor)], () => context.at(`d_${gate}`));
  }
  write.table(
    ["through σ and tanh, to ", symbol("z")],
    ["", "gradient", "slope", "product"],
    GATES.map((gate) => [
      d(`z_${gate}`),
      at(`d_${gate}`),
      write.number(() => (gate === "g" ? 1 - context.at("g") ** 2 : context.at(gate) * (1 - context.at(gate)))),
      at(`d_z_${gate}`),
    ]),
  );
  write.line(
    d("c_prev"),
    [d("c"), " ", symbol("f")],
    [at("d_c"), " · ", at("f")],
    () => context.at("d_c") * context.at("f"),
    "what the step before gets",
  );
  return write;
}

/** A number of the next step; behind the last one there is nothing, and where steps were left out it is not known. */
function ofNext(context, name) {
  const t = context.state.step;
  const next = context.after(t);
  if (!context.has(next)) return 0;
  return context.adjacent(t, next) ? context.at(name, next) : undefined;
}

/** The part of W that multiplies h, transposed. */
function transposed() {
  const element = symbol("W");
  element.append(make("sub", {}, "h"), make("sup", {}, "⊤"));
  return element;
}

function minus(a, b) {
  return a === undefined || b === undefined ? undefined : a - b;
}
