// The text of a trace whose steps have names, such as characters: each has the colour of the selected unit.

import { byId, make, on, setText } from "../shared/elements.js";
import { colorOf, colorRamp } from "./colors.js";
import { formatBrief, formatNumber } from "./number_text.js";
import { nameOf } from "./quantity_names.js";

const SYMBOLS = ["tanh_c", "c", "h", "f", "i", "o", "g"];
const BRIGHT = 0.22; // relative luminance from which text on a colour is dark

export function textView(context, { choose }) {
  const names = context.payload.step_names;
  byId("text-view").hidden = !names.length;
  if (!names.length) return {};
  const list = byId("text-symbol");
  list.replaceChildren(...SYMBOLS.map((symbol) => make("option", { value: symbol }, nameOf(symbol))));
  on(list, "change", unit);
  const text = byId("text");
  let spans = [];
  let now = null;

  on(text, "click", (event) => {
    const t = event.target.dataset?.step;
    if (t !== undefined) choose({ step: Number(t) });
  });

  function data() {
    if (spans.length === context.T) return;
    const space = isOfWords(names) ? " " : "";
    spans = Array.from({ length: context.T }, (_, t) => make("span", { "data-step": t }, shown(names[t])));
    text.replaceChildren(...spans.flatMap((span, t) => [span, names[t] === "↵" || names[t] === "\n" ? make("br") : space]));
  }

  function unit() {
    const symbol = context.backward ? `d_${list.value}` : list.value;
    const values = context.row(symbol);
    const scale = context.scale(symbol);
    spans.forEach((span, t) => {
      const [r, g, b, css] = colorOf(context.theme, scale, values[t]);
      span.style.background = css;
      span.style.color = luminance([r, g, b]) > BRIGHT ? "#1c2733" : "#ffffff";
    });
    setText(byId("text-unit"), context.unitName(context.state.unit));
    setText(byId("text-low"), formatBrief(scale.low));
    setText(byId("text-high"), formatBrief(scale.high));
    byId("text-ramp").style.background = colorRamp(context.theme, scale.name);
    step();
  }

  function step() {
    now?.classList.remove("now");
    now = spans[context.state.step];
    now?.classList.add("now");
    const symbol = context.backward ? `d_${list.value}` : list.value;
    setText(byId("text-value"), `step ${context.stepName(context.state.step)}: ${formatNumber(context.at(symbol))}`);
  }

  return { data, unit, step };
}

/** Whether the names of steps are words rather than characters. */
function isOfWords(names) {
  return names.some((name) => [...name].length > 2);
}

/** The text of a step: names of spaces and line ends are visible characters. */
function shown(name) {
  return name === "␣" ? " " : name === "\n" ? "↵" : name;
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
