// Projector mode: one panel next to the cell on one screen, large text, numbers of two digits.

import { byId, make, on } from "../shared/elements.js";
import { setDigits } from "./number_text.js";

// By section: its name in the list of panels.
const PANELS = {
  "map-decodability": "where each bit is",
  "map-held": "where a bit is held",
  "map-dependency": "what an output depends on",
  "input-output": "input and output",
  "text-view": "the text",
  "every-unit": "every unit, every step",
  "break-it": "break it",
  backwards: "backwards",
  "unit-over-time": "one unit over time",
  memory: "memory",
  "weight-slider": "change a weight",
  "live-training": "live training",
  comparison: "comparison",
};

export class Projector {
  constructor(context, redraw) {
    this.context = context;
    this.redraw = redraw;
    this.on = false;
    on(byId("projector"), "click", () => this.toggle());
    on(document, "keydown", (event) => {
      if (event.key === "Escape" && this.on && !event.defaultPrevented) this.toggle();
    });
    on(byId("panel"), "change", () => this.show(byId(byId("panel").value)));
  }

  toggle() {
    this.on = !this.on;
    document.documentElement.classList.toggle("projected", this.on);
    byId("projector").setAttribute("aria-pressed", String(this.on));
    byId("panel-field").hidden = !this.on;
    this.context.projected = this.on;
    setDigits(this.on ? 2 : 4);
    if (this.on) {
      const names = Object.entries(PANELS).filter(([id]) => !byId(id).hidden && !byId(id).parentElement.hidden && byId(id).childElementCount);
      byId("panel").replaceChildren(...names.map(([id, name]) => make("option", { value: id }, name)));
      this.show(byId(names[0][0]));
      window.scrollTo(0, 0);
    } else this.show(null);
    this.redraw();
  }

  /** The panel that is on the screen: a section, or a part of one. */
  show(place) {
    for (const element of document.querySelectorAll(".on-screen")) element.classList.remove("on-screen");
    if (!this.on || !place) return;
    const section = place.closest("main > section");
    if (section.id === "cell") return;
    section.classList.add("on-screen");
    section.classList.toggle("part-only", place !== section);
    for (const part of section.querySelectorAll(".on-screen-part")) part.classList.remove("on-screen-part");
    if (place !== section) place.classList.add("on-screen-part");
    if ([...byId("panel").options].some(({ value }) => value === place.id)) byId("panel").value = place.id;
  }
}
