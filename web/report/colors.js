// Colour scales, distinguishable with colour blindness. Gates: sequential, light is shut and dark is open in both themes;
// on a dark page an open gate is dark, but has a contrast of 3 to the page.
// Shares, such as R²: as gates on a light page; on a dark one, 0 has the colour of the page.
// All other quantities: diverging, blue below zero and orange above, where zero has the colour of the page.

const GATE = ["#f1efe8", "#cde2de", "#8cc0bc", "#45919a", "#1b6072", "#0b3346"];
const GATE_ON_DARK = ["#d6ddd8", "#b2d0cd", "#80b8ba", "#4c9da9", "#2c8699", "#1d738a"];
const SHARE_ON_DARK = ["#1c232b", "#1d3f4a", "#1d5f70", "#2c8699", "#80b8ba", "#d6ddd8"];
const LIGHT = ["#103a75", "#2c6bb2", "#7aacd8", "#c4d9ea", "#f1efe8", "#f3d2b6", "#e59a61", "#c65d25", "#7f2b0a"];
const DARK = ["#a2d2ff", "#5ea8f2", "#3377bf", "#21466d", "#1c232b", "#5e361b", "#ad5e25", "#ee8b42", "#ffbf85"];
const STOPS = {
  light: { gate: GATE, share: GATE, state: LIGHT, gradient: LIGHT },
  dark: { gate: GATE_ON_DARK, share: SHARE_ON_DARK, state: DARK, gradient: DARK },
};

const SIZE = 257; // odd: zero is in the middle
const tables = new Map();

/** The colours of a scale, from low to high: each [r, g, b, css]. */
function tableOf(theme, scale) {
  const key = `${theme} ${scale}`;
  if (!tables.has(key)) tables.set(key, interpolated(STOPS[theme][scale].map(channels)));
  return tables.get(key);
}

function channels(hex) {
  return [1, 3, 5].map((from) => parseInt(hex.slice(from, from + 2), 16));
}

function interpolated(stops) {
  return Array.from({ length: SIZE }, (_, n) => {
    const place = (n / (SIZE - 1)) * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    const rgb = stops[left].map((low, k) => Math.round(low + (place - left) * (stops[left + 1][k] - low)));
    return [...rgb, `rgb(${rgb.join(" ")})`];
  });
}

/** {name, low, high}: the colour scale of a symbol, and its range in all of these arrays. */
export function scaleOf(symbol, ...arrays) {
  if ("ifo".includes(symbol)) return { name: "gate", low: 0, high: 1 };
  if (["g", "h", "tanh_c", "h_prev"].includes(symbol)) return { name: "state", low: -1, high: 1 };
  const most = largest(...arrays);
  if (symbol.startsWith("d_")) return { name: "gradient", low: -(most || 1), high: most || 1 };
  return { name: "state", low: -Math.max(1, most), high: Math.max(1, most) };
}

/** The colour scale of differences: diverging, up to the largest one. */
export function differenceScale(values) {
  const most = largest(values) || 1;
  return { name: "state", low: -most, high: most };
}

function largest(...arrays) {
  let most = 0;
  for (const values of arrays) for (const value of values ?? []) most = Math.max(most, Math.abs(value) || 0);
  return most;
}

/** [r, g, b, css] of a value. The scale of gradients is the square root, so that small gradients are visible. */
export function colorOf(theme, { name, low, high }, value) {
  let share = (value - low) / (high - low);
  if (name === "gradient") share = 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value) / high);
  if (Number.isNaN(share)) share = ["gate", "share"].includes(name) ? 0 : 0.5; // missing values look like 0
  return tableOf(theme, name)[Math.max(0, Math.min(SIZE - 1, Math.round(share * (SIZE - 1))))];
}

/** The scale as a CSS background, for a legend. */
export function colorRamp(theme, name) {
  return `linear-gradient(to right, ${STOPS[theme][name].join(", ")})`;
}
