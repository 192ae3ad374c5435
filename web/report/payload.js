// Decode the JSON that glasscell/trace/html_report/payload.py writes.

export const VERSION = 1;

/**
 * Return the model of a page. Its arrays may be changed before another run(); decode() restores them.
 *
 * model = {T, I, O, layers, readout, loss, x, targets, weights, d_outputs, live, static, payload}
 *   layers: [{name, merge, directions: [{name, reverse, H, I, W, h0, c0}]}]   W (4H, H + I + 1), row by row
 *   readout: {weight (O, H), bias (O), O, H} or null
 *   x (T, I); targets (T, O), or (T) class numbers; weights (T) or (T, O); share; d_outputs (T, O): gradient on outputs
 *
 * A static model has no W, h0 and c0; T counts the selected steps, model.steps; outputs are recorded, (T, O), or null
 * if they are too many.
 */
export function decode(payload) {
  if (payload.version !== VERSION) {
    throw new Error(`the payload version must be ${VERSION}, got ${payload.version}`);
  }
  const layers = payload.layers.map(layerOf);
  const readout = payload.readout && readoutOf(payload.readout);
  const stored = payload.live ? null : storedOf(payload.static);
  const [T, I] = payload.x.shape;
  const model = {
    T,
    I,
    O: outputSize(payload, layers, readout),
    layers,
    readout,
    loss: payload.loss,
    share: payload.share,
    x: numbers(payload.x),
    targets: numbers(payload.targets),
    weights: numbers(payload.weights),
    d_outputs: numbers(payload.d_outputs),
    outputs: numbers(payload.outputs),
    live: payload.live,
    steps: stored && stored.steps,
    static: stored,
    payload,
  };
  if (payload.outputs?.shape.length === 1) moveToLastStep(model);
  return model;
}

/** Put outputs without a time axis at the last step; the other steps get NaN. */
function moveToLastStep(model) {
  for (const name of ["outputs", "targets", "d_outputs"]) {
    const values = model[name];
    if (!values) continue;
    model[name] = new Float64Array(model.T * values.length).fill(NaN);
    model[name].set(values, (model.T - 1) * values.length);
  }
  model.weights = new Float64Array(model.T);
  model.weights[model.T - 1] = 1;
}

/** {shape, type, data} → Float64Array; null → null. */
export function numbers(array) {
  if (!array) return null;
  const text = atob(array.data);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const [size, read] = array.type === "float32" ? [4, "getFloat32"] : [8, "getFloat64"];
  const count = array.shape.reduce((product, n) => product * n, 1);
  if (bytes.length !== count * size) {
    const shape = array.shape.join(", ");
    throw new Error(`${array.type} of shape (${shape}) must have ${count * size} bytes, got ${bytes.length}`);
  }
  return Float64Array.from({ length: count }, (_, k) => view[read](k * size, true));
}

/** The number of outputs of a layer with merged directions. */
export function mergedSize(layer) {
  const [{ H }] = layer.directions;
  return layer.merge === "concat" ? H * layer.directions.length : H;
}

function layerOf({ name, merge, input_size: I, hidden_size: H, directions }) {
  return {
    name,
    merge,
    directions: directions.map((direction) => ({
      name: direction.name,
      reverse: direction.reverse,
      H,
      I,
      W: numbers(direction.kernel),
      h0: numbers(direction.h0),
      c0: numbers(direction.c0),
    })),
  };
}

function readoutOf({ weight, bias }) {
  const [O, H] = weight.shape;
  return { weight: numbers(weight), bias: numbers(bias), O, H };
}

function outputSize({ live, outputs }, layers, readout) {
  if (live) return readout ? readout.O : mergedSize(layers[layers.length - 1]);
  return outputs ? outputs.shape[outputs.shape.length - 1] : 0;
}

function storedOf({ steps, directions }) {
  const decoded = Object.entries(directions).map(([name, arrays]) => [
    name,
    Object.fromEntries(Object.entries(arrays).map(([symbol, array]) => [symbol, numbers(array)])),
  ]);
  return { steps: numbers(steps), directions: Object.fromEntries(decoded) };
}
