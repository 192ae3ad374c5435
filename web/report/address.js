// The state of the page in its address: #t=8&u=13. The back button restores an earlier state.

const WAIT_MS = 500; // after the last change, so that dragging writes one entry

/** The state of an address, {} if it has none: {t, u, k, layer, mode, tour, f}. */
export function parseAddress(hash) {
  if (!hash.includes("=")) return {};
  const entries = new URLSearchParams(hash.replace(/^#/, ""));
  const state = {};
  for (const name of ["t", "u", "k", "layer", "tour"]) {
    const text = entries.get(name);
    if (text !== null && /^\d{1,6}$/.test(text)) state[name] = Number(text);
  }
  if (/^\d(\.\d{1,2})?$/.test(entries.get("f") ?? "")) state.f = Number(entries.get("f"));
  if (["forward", "backward"].includes(entries.get("mode"))) state.mode = entries.get("mode");
  return state;
}

/** The address of a state: "#t=8&u=13". */
export function formatAddress(state) {
  const parts = Object.entries(state).filter(([, value]) => value !== undefined && value !== null);
  return `#${parts.map(([name, value]) => `${name}=${value}`).join("&")}`;
}

/** Keeps the address up to date: read() returns the state, apply(state) restores one. */
export class Address {
  constructor(read, apply) {
    this.read = read;
    this.timer = 0;
    this.isUsable = window.parent === window; // the address of a frame in a notebook is not visible
    if (!this.isUsable) return;
    window.addEventListener("popstate", () => {
      clearTimeout(this.timer);
      apply(parseAddress(location.hash));
    });
  }

  /** Write the state after a change; at once where it is a step of the tour. */
  changed(now = false) {
    if (!this.isUsable) return;
    clearTimeout(this.timer);
    if (now) this.write();
    else this.timer = setTimeout(() => this.write(), WAIT_MS);
  }

  write() {
    const hash = formatAddress(this.read());
    if (hash !== location.hash) history.pushState(null, "", hash);
  }
}
