// Names of the quantities of a cell, for texts next to their symbols.

export const GATE_NAMES = { i: "input gate", f: "forget gate", o: "output gate", g: "candidate" };

const NAMES = {
  ...GATE_NAMES,
  c: "cell state",
  tanh_c: "tanh of the cell state",
  h: "hidden state",
  r: "reset gate", // r, z and n: of a GRU
  z: "update gate",
  n: "candidate",
};

/** The name of a quantity, or of the gradient on it: "forget gate", "gradient on the forget gate". */
export function nameOf(symbol) {
  return symbol.startsWith("d_") ? `gradient on the ${NAMES[symbol.slice(2)]}` : NAMES[symbol];
}
