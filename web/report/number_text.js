// Numbers as text, with a true minus sign.

/** A number with four significant digits; a dash for a missing value. */
export function formatNumber(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(3) : value.toPrecision(4);
  return (value === 0 ? "0" : text).replaceAll("-", "−").replace("e+", "e");
}

/** A number with two significant digits, for sentences. */
export function formatBrief(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return formatNumber(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replaceAll("-", "−").replace("e+", "e");
  return String(Number(value.toPrecision(2))).replace("-", "−");
}

/** A number with two significant digits and its sign, + included. */
export function formatSigned(value) {
  return value > 0 ? `+${formatBrief(value)}` : formatBrief(value);
}

export function formatPercent(share) {
  return Number.isFinite(share) ? `${Math.round(100 * share)} %` : "–";
}
