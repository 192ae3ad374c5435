// From the JSON that Python wrote (glasscell/trace/payload.py) to the numbers that the page computes with.

export const VERSION = 1;

/**
 * The model of a page. Everything in it may be changed, and run() called again; decode() once more is the way back.
 *
 * model = {T, I, O, layers, readout, loss, x, targets, weights, d_outputs, live, static, payload}
 *   layers: [{name, merge, ways: [{name, reverse, H, I, W, h0, c0}]}]   W (4H, H + I + 1), row by row
 *   readout: {weight (O, H), bias (O), O, H} or null
 *   x (T, I); targets (T, O), or (T) class numbers; weights (T) or (T, O); share; d_outputs (T, O): of the loss on the outputs
 *
 * If it is not live, there are no W, h0, c0; T counts the steps that are kept, which are those of model.steps; outputs
 * are what was recorded, (T, O), or null if they are too many.
 */
export function decode(payload) {
  if (payload.version !== VERSION) {
    throw new Error(`the payload is of version ${payload.version}; this page reads version ${VERSION}`);
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
  if (payload.outputs?.shape.length === 1) answerAtTheEnd(model);
  return model;
}

/** What a model says once, of a whole sequence, is put at the last step; at all others there is no number. */
function answerAtTheEnd(model) {
  for (const name of ["outputs", "targets", "d_outputs"]) {
    const values = model[name];
    if (!values) continue;
    model[name] = new Float64Array(model.T * values.length).fill(NaN);
    model[name].set(values, (model.T - 1) * values.length);
  }
  model.weights = new Float64Array(model.T);
  model.weights[model.T - 1] = 1;
}

/** {shape, type, data} → Float64Array; null stays null. */
export function numbers(array) {
  if (!array) return null;
  const text = atob(array.data);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const [size, read] = array.type === "float32" ? [4, "getFloat32"] : [8, "getFloat64"];
  const count = array.shape.reduce((product, n) => product * n, 1);
  if (bytes.length !== count * size) {
    throw new Error(`${bytes.length} bytes of ${array.type}; expected ${count * size} for shape (${array.shape.join(", ")})`);
  }
  return Float64Array.from({ length: count }, (_, k) => view[read](k * size, true));
}

/** The size of what the ways of a layer say together. */
export function mergedSize(layer) {
  const [{ H }] = layer.ways;
  return layer.merge === "concat" ? H * layer.ways.length : H;
}

function layerOf({ name, merge, input_size: I, hidden_size: H, ways }) {
  return {
    name,
    merge,
    ways: ways.map((way) => ({
      name: way.name,
      reverse: way.reverse,
      H,
      I,
      W: numbers(way.kernel),
      h0: numbers(way.h0),
      c0: numbers(way.c0),
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

function storedOf({ steps, ways }) {
  const decoded = Object.entries(ways).map(([name, arrays]) => [
    name,
    Object.fromEntries(Object.entries(arrays).map(([symbol, array]) => [symbol, numbers(array)])),
  ]);
  return { steps: numbers(steps), ways: Object.fromEntries(decoded) };
}
