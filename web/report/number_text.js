// Numbers as text, with a true minus sign.

/** A number with four significant digits; a dash for a missing value. */
export function formatNumber(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = needsExponent(value) ? value.toExponential(3) : value.toPrecision(4);
  return withMinusSign(value === 0 ? "0" : text);
}

/** A number with two significant digits, for sentences. */
export function formatBrief(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return formatNumber(value);
  return withMinusSign(needsExponent(value) ? value.toExponential(1) : String(Number(value.toPrecision(2))));
}

function needsExponent(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5);
}

function withMinusSign(text) {
  return text.replaceAll("-", "−").replace("e+", "e");
}

/** A number with two significant digits and its sign, + included. */
export function formatSigned(value) {
  return value > 0 ? `+${formatBrief(value)}` : formatBrief(value);
}

export function formatPercent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "–";
}
