// Welch's t test, and the false discovery rate: glasscell/explain/statistics.py.

const MOST_TERMS = 10_000;
const TINY = 1e-300; // replaces a denominator of 0
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** log Γ(a) for a ≥ 0.5: Lanczos' approximation with g = 7. */
function logGamma(a) {
  const x = a - 1;
  let sum = LANCZOS[0];
  for (let n = 1; n < LANCZOS.length; n++) sum += LANCZOS[n] / (x + n);
  const t = x + LANCZOS.length - 1.5;
  return 0.5 * Math.log(2 * Math.PI) + (x + 0.5) * Math.log(t) - t + Math.log(sum);
}

/** The regularised incomplete beta function I_x(a, b): the continued fraction of DLMF 8.17.22. */
export function regularizedBeta(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - regularizedBeta(1 - x, b, a);
  const logBeta = logGamma(a) + logGamma(b) - logGamma(a + b);
  return (Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logBeta) / a) * betaFraction(x, a, b);
}

function betaFraction(x, a, b) {
  const nonzero = (value) => (Math.abs(value) < TINY ? TINY : value);
  let [c, d] = [1, 1 / nonzero(1 - ((a + b) * x) / (a + 1))];
  let value = d;
  for (let m = 1; m < MOST_TERMS; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    let factor = 1;
    for (const term of [even, odd]) {
      d = 1 / nonzero(1 + term * d);
      c = nonzero(1 + term / c);
      factor *= d * c;
    }
    value *= factor;
    if (Math.abs(factor - 1) < 1e-15) break;
  }
  return value;
}

/** The two-sided p-value of Student's t. */
export function tTestP(t, degrees) {
  return regularizedBeta(degrees / (degrees + t * t), degrees / 2, 0.5);
}

/** Which p-values are significant at a level of the false discovery rate: Benjamini & Hochberg (1995). NaN is no test. */
export function significant(p, level = 0.05) {
  const sorted = p.filter((value) => !Number.isNaN(value)).sort();
  let largest = -1;
  sorted.forEach((value, n) => {
    if ((value * sorted.length) / (n + 1) <= level) largest = value;
  });
  return Uint8Array.from(p, (value) => Number(value <= largest));
}
