// The values of the heat maps at the selected step, as a table for screen readers. Written only while it is open.

import { byId, make, on } from "../shared/elements.js";
import { formatNumber } from "./number_text.js";
import { labelled } from "./symbols.js";

const SYMBOLS = ["i", "f", "o", "g", "c", "h"];

export function tableView(context, { order }) {
  const details = byId("numbers-table");
  on(details, "toggle", step);

  function step() {
    if (!details.open) return;
    const symbols = SYMBOLS.map((symbol) => (context.backward ? `d_${symbol}` : symbol));
    const t = context.state.step;
    const head = make(
      "tr",
      {},
      make("th", { scope: "col" }, "unit"),
      ...symbols.map((name) => make("th", { scope: "col" }, labelled(name))),
    );
    const rows = order().map((k) =>
      make(
        "tr",
        k === context.state.unit ? { class: "now" } : {},
        make("th", { scope: "row" }, context.unitName(k)),
        ...symbols.map((name) => make("td", {}, formatNumber(context.at(name, t, k)))),
      ),
    );
    byId("all-units").replaceChildren(
      make("caption", {}, `Step ${context.stepName(t)}`),
      make("thead", {}, head),
      make("tbody", {}, ...rows),
    );
  }

  return { step };
}
