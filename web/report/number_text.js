// Numbers as text, with a true minus sign.

let digits = 4;

/** Significant digits of numbers: four, or two on a projector. */
export function setDigits(count) {
  digits = count;
}

/** A number with four significant digits, or those of setDigits(); a dash for a missing value. */
export function formatNumber(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = needsExponent(value) ? value.toExponential(digits - 1) : fixed(value);
  return withMinusSign(value === 0 ? "0" : text);
}

/** A number with two significant digits, for sentences. */
export function formatBrief(value) {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return formatNumber(value);
  return withMinusSign(needsExponent(value) ? value.toExponential(1) : String(Number(value.toPrecision(2))));
}

function fixed(value) {
  return Math.abs(value) < 10 ** digits ? value.toPrecision(digits) : value.toFixed(0);
}

function needsExponent(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5);
}

function withMinusSign(text) {
  return text.replaceAll("-", "−").replace("e+", "e");
}

/** A rounded share in percent. It is 0 % or 100 % only if it is 0 or 1; next to these it has a decimal. */
export function formatPercent(share, decimals = 0) {
  if (!Number.isFinite(share)) return "–";
  const percent = 100 * share;
  const distance = Math.min(Math.abs(percent), Math.abs(percent - 100)); // to 0 or to 100
  if (distance > 0 && distance < 0.05) return percent < 50 ? "under 0.1 %" : "over 99.9 %";
  return `${withMinusSign(percent.toFixed(distance > 0 && distance <= 0.5 ? 1 : distance ? decimals : 0))} %`;
}

/** A power of ten, such as 0.01 or 1e−12. */
export function formatPower(exponent) {
  return Math.abs(exponent) < 4 ? formatBrief(10 ** exponent) : withMinusSign(`1e${exponent}`);
}
