// The equations of one unit at one step with their values: forward, and the chain rule backward.

import { byId, make, setText } from "../shared/elements.js";
import { GATES } from "./lstm.js";
import { formatNumber } from "./number_text.js";
import { nameOf } from "./quantity_names.js";
import { gradientOf, symbol } from "./symbols.js";

export function equationsView(context) {
  let written = null; // {mode, numbers: [[element, compute], …]}

  function step() {
    const key = `${context.state.mode} ${context.model.live} ${Boolean(context.direction.d_y)}`;
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

/** Collects the elements of numbers, so that another step changes only their text. */
class Writer {
  constructor() {
    this.numbers = [];
    this.children = [];
  }

  number(compute, kind = "") {
    const element = make("span", { class: `number ${kind}` });
    this.numbers.push([element, () => formatNumber(compute())]);
    return element;
  }

  /** A number after · or +: in brackets if it is negative. */
  factor(compute) {
    const element = make("span", { class: "number" });
    this.numbers.push([element, () => (compute() < 0 ? `(${formatNumber(compute())})` : formatNumber(compute()))]);
    return element;
  }

  /** Two lines: left = formula, and = the formula with numbers = result. */
  line(left, formula, numbers, result, words) {
    const line = make("div", { class: "equation" });
    line.append(
      make("div", { class: "formula" }, left, " = ", ...formula, words ? make("span", { class: "words" }, words) : ""),
      make("div", { class: "filled" }, "= ", ...numbers, " = ", this.number(result, "result")),
    );
    this.children.push(line);
  }

  table(caption, heads, rows, kind = "") {
    const head = make("tr", {}, ...heads.map((cell) => make("th", { scope: "col" }, ...[cell].flat())));
    const body = rows.map(([title, ...cells]) =>
      make("tr", {}, make("th", { scope: "row" }, title), ...cells.map((cell) => make("td", {}, cell))),
    );
    this.children.push(
      make(
        "table",
        { class: `sums ${kind}` },
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
  const gateOf = (gate) => write.number(() => context.at(gate), "result");
  const head = (gate) => make("span", { title: nameOf(gate) }, symbol(gate), gate === "g" ? " = tanh z" : " = σ(z)");
  if (context.model.live) {
    const part = (gate, which) => write.number(() => contributions(context, gate)[which]);
    write.table(
      [symbol("z"), " = ", symbol("W"), " [", symbol("h_prev"), "; ", symbol("x"), "; 1], a sum of three terms"],
      ["gate", ["from ", symbol("h_prev")], ["from ", symbol("x")], "bias", symbol("z"), "value"],
      GATES.map((gate) => [head(gate), part(gate, 0), part(gate, 1), part(gate, 2), at(`z_${gate}`), gateOf(gate)]),
    );
  } else {
    write.table(["gates"], ["gate", symbol("z"), "value"], GATES.map((gate) => [head(gate), at(`z_${gate}`), gateOf(gate)]));
  }
  write.line(
    symbol("c"),
    [symbol("f"), " ", symbol("c_prev"), " + ", symbol("i"), " ", symbol("g")],
    [at("f"), " · ", by("c_prev"), " + ", at("i"), " · ", by("g")],
    () => context.at("c"),
    "cell state",
  );
  write.line(
    symbol("h"),
    [symbol("o"), " tanh ", symbol("c")],
    [at("o"), " · ", by("tanh_c")],
    () => context.at("h"),
    "hidden state",
  );
  return write;
}

/** The terms of a gate's z from h_{t-1}, x_t and the bias. */
function contributions(context, gate) {
  const { direction, weights, H, state } = context;
  const { I, W } = weights;
  const before = direction.h_prev.subarray(state.step * H, (state.step + 1) * H);
  const h = direction.edits?.withoutCut(before, state.step) ?? before; // 0 where W_h is cut
  const [t, row] = [state.step, (GATES.indexOf(gate) * H + state.unit) * (H + I + 1)];
  let [fromH, fromX] = [0, 0];
  for (let k = 0; k < H; k++) fromH += W[row + k] * h[k];
  for (let k = 0; k < I; k++) fromX += W[row + H + k] * direction.x[t * I + k];
  return [fromH, fromX, W[row + H + I]];
}

function backwardLines(context) {
  const write = new Writer();
  const at = (name) => write.number(() => context.at(name));
  const by = (name) => write.factor(() => context.at(name));
  const d = gradientOf;
  const next = (name) => () => ofNext(context, name);
  if (context.direction.d_y) {
    write.line(
      d("h"),
      [d("y"), " + ", transposed(), " ", d("z_next")],
      [at("d_y"), " + ", write.factor(() => minus(context.at("d_h"), context.at("d_y")))],
      () => context.at("d_h"),
    );
  }
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
  const FACTORS = { i: ["d_c", "g"], f: ["d_c", "c_prev"], o: ["d_h", "tanh_c"], g: ["d_c", "i"] };
  const slope = (gate) => (gate === "g" ? 1 - context.at("g") ** 2 : context.at(gate) * (1 - context.at(gate)));
  write.table(
    ["gradients on the gates, and through σ and tanh on ", symbol("z")],
    ["gate", "factors", "gradient", "slope", ["to ", symbol("z")]],
    GATES.map((gate) => {
      const [outer, factor] = FACTORS[gate];
      return [
        d(gate),
        make("span", {}, at(outer), " · ", by(factor)),
        at(`d_${gate}`),
        write.number(() => slope(gate)),
        at(`d_z_${gate}`),
      ];
    }),
    "chain",
  );
  write.line(
    d("c_prev"),
    [d("c"), " ", symbol("f")],
    [at("d_c"), " · ", at("f")],
    () => context.at("d_c") * context.at("f"),
    "to the previous step",
  );
  return write;
}

/** A value of the next step: 0 after the last step, undefined if the next step is omitted. */
function ofNext(context, name) {
  const t = context.state.step;
  const next = context.after(t);
  if (!context.has(next)) return 0;
  return context.adjacent(t, next) ? context.at(name, next) : undefined;
}

/** W_h transposed, as an element. */
function transposed() {
  const element = symbol("W");
  element.append(make("sub", {}, "h"), make("sup", {}, "⊤"));
  return element;
}

function minus(a, b) {
  return a === undefined || b === undefined ? undefined : a - b;
}
