// The settings of the section "Break it", as interventions and in words.

import { formatNumber, formatPercent } from "./number_text.js";
import { nameOf } from "./quantity_names.js";
import { listed } from "./story.js";

const CONSTANT = 0.1; // largest share of inputs with the rarer value of an output that is nearly constant
const INVERTED = 0.45; // of right bits, below which an output is the opposite of its bit

/** No intervention. */
export function untouched() {
  return { factor: 1, clamp: null, shut: [], cut: false };
}

/** The list for the model: gates and W_h in all layers, units that are shut in theirs. */
export function interventionsOf({ factor, clamp, shut, cut }) {
  const list = [];
  if (factor !== 1) list.push({ symbol: "f", operation: "scale", value: factor });
  if (clamp) list.push({ symbol: clamp.gate, operation: "clamp", low: clamp.low, high: clamp.high });
  for (const { symbol, unit, layer, direction } of shut) {
    list.push({ symbol, operation: "set", value: 0, units: [unit], layer, direction });
  }
  if (cut) list.push({ symbol: "W_h", operation: "cut" });
  return list;
}

/** Each intervention as {text, without: the change of the settings that removes it}. */
export function describe({ factor, clamp, shut, cut }) {
  const list = [];
  if (factor !== 1) list.push({ text: `all forget gates × ${factor}`, without: { factor: 1 } });
  if (clamp) {
    const text = `${nameOf(clamp.gate)} ${clamp.gate} between ${clamp.low} and ${clamp.high}`;
    list.push({ text: text.replaceAll("-", "−"), without: { clamp: null } });
  }
  for (const one of shut) {
    const without = { shut: shut.filter((other) => other !== one) };
    list.push({ text: `unit ${one.unit}${one.place} has ${one.symbol} = 0`, without });
  }
  if (cut) list.push({ text: "no unit reads h", without: { cut: false } });
  return list;
}

/** An effect, as of ablation.js. */
export function inWords(effect) {
  if (effect.kind === "bits") return `${formatPercent(effect.all, 1)} of the bits are right`;
  if (effect.kind === "loss") return `the loss is ${formatNumber(effect.loss)}`;
  return `the outputs change by ${formatNumber(effect.change)} on average`;
}

/** The settings and their effect, next to the untouched model. */
export function sentence(settings, now, base) {
  const over = base.kind === "bits" ? ` Measured over ${base.complete ? "all" : "a sample of"} ${base.count} inputs; guessing gives 50 %.` : "";
  const names = describe(settings).map(({ text }) => text);
  if (!names.length) return `The untouched model: ${inWords(base)}.${over}`;
  const changes = names.join(", ");
  return `${changes[0].toUpperCase()}${changes.slice(1)}: ${inWords(now)}. The untouched model: ${inWords(base)}.${over}`;
}

/** Why bits are wrong: the outputs that are nearly constant, and those that are the opposite of their bits. */
export function reason({ byPosition, ones, all }) {
  if (!ones) return "";
  const positions = Array.from(ones, (_, k) => k);
  const isConstant = (k) => Math.min(ones[k], 1 - ones[k]) <= CONSTANT;
  const constant = positions.filter(isConstant);
  const inverted = positions.filter((k) => !isConstant(k) && byPosition[k] < INVERTED);
  const shares = (values, some) => {
    const [low, high] = [Math.min, Math.max].map((extreme) => formatPercent(extreme(...some.map((k) => values[k]))));
    return low === high ? low : `${low} to ${high}`;
  };
  const output = (some) => `the output${some.length > 1 ? "s" : ""} of ${listed(some, "bit")} ${some.length > 1 ? "are" : "is"}`;
  const parts = [];
  if (inverted.length) parts.push(`${output(inverted)} more often the opposite of the bit than the bit (right for ${shares(byPosition, inverted)} of the inputs)`);
  const rate = shares(ones, constant);
  if (constant.length) parts.push(`${output(constant)} ${constant.every((k) => ones[k] % 1 === 0) ? "" : "nearly "}constant (1 for ${rate} of the inputs), and so right for about half`);
  if (!parts.length) return "";
  return `${all < 0.5 ? "Fewer are right than by guessing" : "Why bits are wrong"}: ${parts.join("; ")}.`;
}
