// Heat maps: rows are units, columns are steps. Two frames mark the selection, so that another step moves only them.

import { byId, setText } from "../shared/elements.js";
import { blocksOf, listen, makeMap } from "./map_panel.js";
import { formatNumber } from "./number_text.js";
import { nameOf } from "./quantity_names.js";
import { saturationSentence, writesSentence } from "./story.js";
import { axisSpec, labelled } from "./symbols.js";

const SYMBOLS = ["i", "f", "o", "g", "c", "h"];
const VERSIONS = { new: "", old: ", before the changes", difference: ", new minus old" };

export function heatMapsView(context, { choose, order }) {
  const maps = SYMBOLS.map((symbol) => ({ symbol, panel: makeMap({ describedBy: "cell-summary", name: (spec) => spec.symbol }) }));
  byId("maps").replaceChildren(...maps.map(({ panel }) => panel.figure));
  for (const { panel } of maps) {
    const unitAt = (row) => (panel.spec.ofUnits ? order()[row] : context.state.unit);
    listen(
      panel,
      ({ row, column }) => choose({ step: column, unit: unitAt(row) }),
      (key) => moveByKey(key, context, choose, order),
    );
  }

  function data() {
    const note = byId("maps-note");
    const axis = axisSpec(context);
    for (const { symbol, panel } of maps) {
      const shown = context.backward ? `d_${symbol}` : symbol;
      const spec = specOf(shown, context, order(), axis);
      panel.figure.hidden = !spec;
      if (spec) panel.draw(spec);
    }
    const [rows, columns] = blocksOf(context.H, context.T);
    note.hidden = rows * columns === 1;
    setText(note, `Each cell of a map is the mean of ${rows} units and ${columns} steps.`);
    surveyed();
  }

  /** The sentences that say more once the computation over many inputs is done. */
  function surveyed() {
    setText(byId("maps-finding"), writesSentence(context));
    setText(byId("saturation-finding"), saturationSentence(context));
  }

  function step() {
    const { state } = context;
    const rank = order().indexOf(state.unit);
    for (const { symbol, panel } of maps) {
      if (!panel.spec) continue;
      panel.frame({ column: state.step, row: panel.spec.ofUnits ? rank : -1 });
      const shown = context.backward ? `d_${symbol}` : symbol;
      setText(panel.value, formatNumber(context.mapValue(shown)));
    }
  }

  return { data, step, surveyed };
}

/** The panel of a symbol, or null if the model does not have it. A projected h has P rows that are not units. */
function specOf(symbol, context, unitOrder, axis) {
  const { T, theme, state } = context;
  const values = context.valuesOf(symbol);
  const H = values && Number.isInteger(values.length / T) ? values.length / T : 0;
  if (!H) return null;
  const ofUnits = H === context.H;
  const order = ofUnits ? unitOrder : Array.from({ length: H }, (_, k) => k);
  const name = (row) => (ofUnits ? context.unitName(order[row]) : String(row));
  const words = `${nameOf(symbol)}${ofUnits ? "" : ", projected"}${VERSIONS[state.version]}`;
  return {
    ...axis,
    symbol,
    ofUnits,
    theme,
    title: [labelled(symbol)],
    words,
    rows: H,
    columns: T,
    at: (row, column) => values[column * H + order[row]],
    scale: context.mapScale(symbol),
    rowNames: order.map((_, row) => name(row)),
    rowTitle: ofUnits ? "unit" : "",
    label:
      `${words}. ${H} ${ofUnits ? "units" : "numbers"} from top to bottom, ${T} steps from left to right. ` +
      "The arrow keys choose a step and a unit.",
    read: (row, column) =>
      `unit ${name(row)}, step ${context.stepName(column)}: ${formatNumber(values[column * H + order[row]])}`,
  };
}

const MOVES = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  PageUp: [0, -8],
  PageDown: [0, 8],
};

/** Choose another step or unit by a key; returns whether the key does. */
export function moveByKey(key, { state, T, H }, choose, order) {
  if (key === "Home" || key === "End") choose({ step: key === "Home" ? 0 : T - 1 });
  else if (key in MOVES) {
    const [steps, units] = MOVES[key];
    const rank = Math.max(0, Math.min(H - 1, order().indexOf(state.unit) + units));
    choose({ step: Math.max(0, Math.min(T - 1, state.step + steps)), unit: order()[rank] });
  } else return false;
  return true;
}
