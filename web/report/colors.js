// Colour scales, in a light and a dark form, distinguishable with colour blindness. Zero has the colour of the page.
// Gates: sequential, one hue from 0 to 1. States: diverging, blue below zero and orange above zero. Gradients:
// diverging, green and purple, so that the backward pass looks different from the forward pass.

const STOPS = {
  light: {
    gate: ["#f1efe8", "#cde2de", "#8cc0bc", "#45919a", "#1b6072", "#0b3346"],
    state: ["#103a75", "#2c6bb2", "#7aacd8", "#c4d9ea", "#f1efe8", "#f3d2b6", "#e59a61", "#c65d25", "#7f2b0a"],
    gradient: ["#0a4628", "#27814f", "#7fc096", "#cfe5d2", "#f1efe8", "#e2d1ea", "#b48ac8", "#7b459b", "#441c5d"],
  },
  dark: {
    gate: ["#1c232b", "#1d3a45", "#205f6a", "#319093", "#72c5b6", "#e0f7ea"],
    state: ["#a2d2ff", "#5ea8f2", "#3377bf", "#21466d", "#1c232b", "#5e361b", "#ad5e25", "#ee8b42", "#ffbf85"],
    gradient: ["#a5edbd", "#5cc483", "#2f8a57", "#204f39", "#1c232b", "#462c5f", "#7f53a6", "#b784e2", "#e0c0fb"],
  },
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

/** {name, low, high}: the colour scale of a symbol, and its range. */
export function scaleOf(symbol, values) {
  if ("ifo".includes(symbol)) return { name: "gate", low: 0, high: 1 };
  if (["g", "h", "tanh_c", "h_prev"].includes(symbol)) return { name: "state", low: -1, high: 1 };
  let most = 0;
  for (const value of values ?? []) most = Math.max(most, Math.abs(value) || 0);
  if (symbol.startsWith("d_")) return { name: "gradient", low: -(most || 1), high: most || 1 };
  return { name: "state", low: -Math.max(1, most), high: Math.max(1, most) };
}

/** [r, g, b, css] of a value. The scale of gradients is the square root, so that small gradients are visible. */
export function colorOf(theme, { name, low, high }, value) {
  let share = (value - low) / (high - low);
  if (name === "gradient") share = 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value) / high);
  if (Number.isNaN(share)) share = name === "gate" ? 0 : 0.5; // missing values look like 0
  return tableOf(theme, name)[Math.max(0, Math.min(SIZE - 1, Math.round(share * (SIZE - 1))))];
}

/** The scale as a CSS background, for a legend. */
export function colorRamp(theme, name) {
  return `linear-gradient(to right, ${STOPS[theme][name].join(", ")})`;
}
