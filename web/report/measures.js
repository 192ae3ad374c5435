// Measures of units, and the orders of units. Definitions: glasscell/trace/diagnostics.py.

/** The half-life of each unit, the steps after which half of the cell state is forgotten: T ln ½ / Σ ln f. */
export function halfLives({ f, H, half_life: recorded }, T) {
  if (recorded) return recorded; // of a static page, which may omit steps
  return Float64Array.from({ length: H }, (_, k) => {
    let sum = 0;
    for (let t = 0; t < T; t++) sum += Math.log(f[t * H + k]);
    return sum === 0 ? Infinity : Math.abs((T * Math.log(0.5)) / sum);
  });
}

/** The step of the largest absolute cell state of each unit. */
export function peaks({ c, H }, T) {
  return Float64Array.from({ length: H }, (_, k) => {
    let best = 0;
    for (let t = 1; t < T; t++) if (Math.abs(c[t * H + k]) > Math.abs(c[best * H + k])) best = t;
    return best;
  });
}

/** Pearson's correlation of each cell state with one input over the steps; 0 where either is constant. */
export function correlations({ c, H }, x, I, channel, T) {
  const input = Float64Array.from({ length: T }, (_, t) => x[t * I + channel]);
  return Float64Array.from({ length: H }, (_, k) =>
    pearson(
      Float64Array.from({ length: T }, (_, t) => c[t * H + k]),
      input,
    ),
  );
}

function pearson(a, b) {
  const [meanA, meanB] = [a, b].map((v) => v.reduce((sum, n) => sum + n, 0) / v.length);
  let [ab, aa, bb] = [0, 0, 0];
  for (let t = 0; t < a.length; t++) {
    ab += (a[t] - meanA) * (b[t] - meanB);
    aa += (a[t] - meanA) ** 2;
    bb += (b[t] - meanB) ** 2;
  }
  return aa > 1e-24 && bb > 1e-24 ? ab / Math.sqrt(aa * bb) : 0;
}

/** The Euclidean norm of each of T rows. */
export function rowNorms(values, T) {
  const size = values.length / T;
  const norms = new Float64Array(T);
  for (let t = 0; t < T; t++) {
    let sum = 0;
    for (let k = t * size; k < (t + 1) * size; k++) sum += values[k] * values[k];
    norms[t] = Math.sqrt(sum);
  }
  return norms;
}

/** The units in the chosen order, from the top. */
export function unitOrder(context) {
  const { direction, T, state, model } = context;
  const units = Array.from({ length: direction.H }, (_, k) => k);
  if (state.sort === "half-life") return sortedBy(units, halfLives(direction, T), -1);
  if (state.sort === "peak") return sortedBy(units, peaks(direction, T), 1);
  if (state.sort === "correlation") {
    return sortedBy(units, correlations(direction, model.x, model.I, state.channel, T), -1);
  }
  return units;
}

function sortedBy(units, keys, sign) {
  return units.sort((a, b) => (keys[a] === keys[b] ? a - b : sign * (keys[a] < keys[b] ? -1 : 1)));
}
