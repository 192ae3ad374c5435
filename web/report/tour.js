// The guided tour: eight stops, each a state of the page with its own address, #tour=3.

import { byId, on, setText } from "../shared/elements.js";

/**
 * The stops: {title, text, section, state(context) → {step, unit, bit, mode, factor of all forget gates}}.
 * A stop that needs the section before its own begins there, `from`, if the window has space for both; in a narrow window,
 * the card leaves space for a part of the section, `narrow`. Stops whose section is hidden are skipped.
 */
const STOPS = [
  {
    title: "The task",
    section: "input-output",
    text: () =>
      "The network reads bits, one per step. Then a delimiter comes, and the network must give the bits in the same order. Until then they exist only in its cell state c and its hidden state h.",
    task: "Press a bit and watch its answer.",
    state: ({ delimiter }) => ({ step: Math.max(0, delimiter), mode: "forward" }),
  },
  {
    title: "Where each bit is",
    section: "what",
    text: () =>
      "A row is a bit, a column a step. The stronger the colour, the better a linear readout finds the bit in the cells. Each bit appears when it is the input, and is needed until its answer.",
    task: "Press a cell of the map to choose its bit and step.",
    state: ({ bits }) => ({ step: (bits.length >> 1) - 1, bit: (bits.length >> 1) - 1 }),
  },
  {
    title: "Where one bit is held",
    section: "map-held",
    text: (sentence) => `${sentence} The map shows which units differ between inputs where the bit is 1 and where it is 0.`,
    task: "Choose another bit from the list above the map.",
    state: ({ bits, story }) => ({ bit: (bits.length >> 1) - 1, unit: story?.written[0] }),
  },
  {
    title: "One step of one unit",
    section: "cell",
    text: () =>
      "The diagram and the equations show one unit at one step: the forget gate scales the old cell state, the input gate scales the candidate, and their sum is the new cell state.",
    task: "Follow c = f c + i g with its numbers.",
    state: ({ bits, story }) => ({ step: (bits.length >> 1) - 1, unit: story?.written[0], mode: "forward" }),
  },
  {
    title: "The delimiter",
    section: "every-unit",
    narrow: "maps",
    text: (_, finding) => finding || "The gates of every unit at every step, from shut to open.",
    task: "Compare the columns before and after the delimiter.",
    state: ({ delimiter }) => ({ step: Math.max(0, delimiter), mode: "forward" }),
  },
  {
    title: "Backwards",
    section: "backwards",
    narrow: "gradients",
    text: () =>
      "The gradient of the loss takes the same connections in the opposite direction. From one cell state to the one before it is multiplied by the forget gate alone; its other parts cross the recurrent weights.",
    task: "Choose the gradient of the last output, and compare its parts.",
    state: () => ({ step: 0, mode: "backward" }),
  },
  {
    title: "Memory",
    section: "memory",
    from: "unit-states",
    text: () =>
      `The half-life of a unit, the time after which half of its cell state is left, follows from its forget gates. ${byId("memory-finding").textContent}`,
    task: "Press a dot, and look at the unit over time, above the dots.",
    state: () => ({ mode: "forward" }),
  },
  {
    title: "Break it",
    section: "break-it",
    instead: "weight-slider",
    text: () => "All forget gates are now multiplied by 0.9: each cell keeps a tenth less at every step. The table shows how many answers of each bit are still right.",
    task: "Move the slider to its left end. The end of the tour sets it to 1 again.",
    state: () => ({ mode: "forward", factor: 0.9 }),
  },
];

const MARGIN = 24; // pixels around the card
const NARROW = 640; // width of the window, as in style.css

export class Tour {
  constructor({ context, apply, changed, story }) {
    Object.assign(this, { context, apply, changed, story });
    this.stop = 0; // 0: closed
    on(byId("tour-start"), "click", () => this.go(1));
    on(byId("tour-close"), "click", () => this.go(0));
    on(byId("tour-back"), "click", () => this.go(this.neighbour(-1)));
    on(byId("tour-next"), "click", () => this.go(this.neighbour(1)));
    on(byId("tour"), "keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.go(0);
    });
    byId("tour-start").hidden = !context.bits;
    addEventListener("resize", () => {
      const place = document.querySelector(".toured");
      if (this.stop && place) this.placeCard(place);
    });
  }

  get count() {
    return STOPS.length;
  }

  neighbour(by) {
    return Math.max(1, Math.min(STOPS.length, this.stop + by));
  }

  /** Show a stop, or close the tour with 0. `write`: whether the address changes. */
  go(stop, write = true) {
    const isOpen = stop > 0 && stop <= STOPS.length && Boolean(this.context.bits);
    const wasOpen = this.stop > 0;
    if (isOpen && !wasOpen) this.before = { ...this.context.state, top: window.scrollY };
    this.stop = isOpen ? stop : 0;
    byId("tour").hidden = !isOpen;
    byId("cell").style.paddingBottom = "";
    document.documentElement.classList.toggle("touring", isOpen);
    if (isOpen) this.show(STOPS[stop - 1]);
    else if (wasOpen) this.leave(write);
    if (write) this.changed();
  }

  /** Restore the selection of before the tour and its place on the page, unless an address sets them. */
  leave(isClosed) {
    const { step, unit, bit, mode, top } = this.before;
    const { T, H, bits } = this.context; // which may be others now
    this.changeModel(isClosed ? { step: Math.min(step, T - 1), unit: Math.min(unit, H - 1), bit: Math.min(bit, bits.length - 1), mode } : {});
    if (!isClosed) return;
    byId("tour-start").focus({ preventScroll: true });
    window.scrollTo({ top, behavior: "instant" });
  }

  /** Write the stop again when the sentences about all inputs are first known. */
  refresh() {
    if (this.stop && !this.isComplete) this.show(STOPS[this.stop - 1]);
    this.isComplete = true;
  }

  show({ title, text, task, section, instead, narrow, from, state }) {
    const { written } = this.story();
    this.changeModel(state({ bits: this.context.bits, delimiter: this.context.delimiter, story: { written } }));
    setText(byId("tour-title"), title);
    setText(byId("tour-text"), text(byId("story").textContent, byId("maps-finding").textContent.split(". ").slice(-1)[0]));
    setText(byId("tour-try"), task);
    setText(byId("tour-count"), `${this.stop} of ${STOPS.length}`);
    byId("tour-back").disabled = this.stop === 1;
    byId("tour-next").disabled = this.stop === STOPS.length;
    const place = byId(section);
    this.reveal(place.hidden && instead ? byId(instead) : place, innerWidth <= NARROW ? byId(narrow) : byId(from));
    byId("tour-title").focus({ preventScroll: true });
  }

  /** Apply the state of a stop. A factor that the stop before set is 1 again. */
  changeModel(state) {
    this.apply(this.isBroken ? { factor: 1, ...state } : state);
    this.isBroken = Boolean(state.factor);
  }

  reveal(place, start) {
    for (const old of document.querySelectorAll(".toured")) old.classList.remove("toured");
    place.classList.add("toured");
    if (this.onReveal) this.onReveal(place);
    for (const section of [place, start].map((part) => part?.closest("main > section"))) section?.style.setProperty("content-visibility", "visible"); // its height is the real one
    const height = place.getBoundingClientRect().bottom - start?.getBoundingClientRect().top;
    const fits = place.contains(start) || height < innerHeight - document.querySelector(".bar").offsetHeight;
    (start && fits ? start : place).scrollIntoView({ block: "start", behavior: "instant" });
    this.placeCard(place);
  }

  /**
   * Put the card at the left of a section where that leaves it uncovered, else at the right, as the style says. The
   * equations of the cell can then be scrolled above it, and are where it would cover them at their own stop.
   */
  placeCard(place) {
    const card = byId("tour");
    Object.assign(card.style, { left: "", right: "" });
    const cell = byId("cell");
    const { left } = place.getBoundingClientRect();
    const isLeft = left >= card.offsetWidth + 2 * MARGIN;
    if (isLeft) Object.assign(card.style, { left: `${MARGIN}px`, right: "auto" });
    cell.style.paddingBottom = isLeft ? `${card.offsetHeight + 2 * MARGIN}px` : "";
    if (place !== cell) return;
    const equations = byId("equations").getBoundingClientRect();
    const { top, left: from } = card.getBoundingClientRect();
    if (equations.right > from && equations.bottom > top) window.scrollBy(0, equations.bottom - top + MARGIN / 2);
  }
}
