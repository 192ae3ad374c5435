// The sticky bar: play, step, forward or backward, unit, layer and speed.

import { byId, make, on, setText } from "../shared/elements.js";
import { checkField } from "./field_error.js";

/** Tell the style sheet the real height of the bar, below which a jump ends. */
function followHeight(bar) {
  new ResizeObserver(() => {
    const { style } = document.documentElement;
    const height = `${bar.offsetHeight}px`;
    if (style.getPropertyValue("--bar") !== height) style.setProperty("--bar", height);
  }).observe(bar);
}

export function controlsView(context, { choose, setMode, setDirection, playing, togglePlay, order }) {
  const slider = byId("step");
  const unitField = byId("unit");
  const directionList = byId("direction");

  on(slider, "input", () => choose({ step: slider.valueAsNumber }));
  on(byId("play"), "click", togglePlay);
  for (const mode of ["forward", "backward"]) on(byId(mode), "click", () => setMode(mode));
  on(unitField, "change", () => {
    const units = context.direction.units ? Array.from(context.direction.units) : null;
    const wanted = unitField.valueAsNumber;
    const k = units ? units.indexOf(wanted) : wanted;
    if (checkField(unitField, Number.isInteger(k) && k >= 0 && k < context.H, `unit must be ${units ? "one of the selection" : `0 to ${context.H - 1}`}`)) choose({ unit: k });
    else unit();
  });
  for (const [id, by] of [
    ["unit-before", -1],
    ["unit-after", 1],
  ]) {
    on(byId(id), "click", () => {
      const rank = order().indexOf(context.state.unit) + by;
      choose({ unit: order()[(rank + context.H) % context.H] });
    });
  }
  directionList.replaceChildren(...context.directions.map(({ name }, n) => make("option", { value: n }, name)));
  directionList.value = context.directions.findIndex(({ layer }) => layer === context.state.layer);
  on(directionList, "change", () => setDirection(context.directions[Number(directionList.value)]));
  byId("direction-field").hidden = context.directions.length === 1;
  byId("version-field").hidden = !context.model.live;
  followHeight(document.querySelector(".bar"));
  on(document, "keydown", (event) => {
    if (event.target.closest?.("input, select, textarea, summary") || event.altKey || event.ctrlKey || event.metaKey)
      return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    choose({ step: Math.max(0, Math.min(context.T - 1, context.state.step + by)) });
    event.preventDefault();
  });

  function data() {
    slider.max = context.T - 1;
    byId("backward").disabled = !context.hasGradients;
    for (const mode of ["forward", "backward"])
      byId(mode).setAttribute("aria-pressed", String(context.state.mode === mode));
    document.documentElement.dataset.mode = context.state.mode;
    byId("reverse-note").hidden = !context.direction.reverse;
    byId("version-field").classList.toggle("idle", !context.comparable);
    for (const version of ["new", "old", "difference"])
      byId(`version-${version}`).setAttribute("aria-pressed", String(context.state.version === version));
  }

  function unit() {
    unitField.value = context.unitName(context.state.unit);
  }

  function step() {
    const t = context.state.step;
    slider.value = t;
    slider.setAttribute("aria-valuetext", `step ${context.stepName(t)}`);
    slider.style.setProperty("--share", context.T > 1 ? t / (context.T - 1) : 0);
    setText(byId("step-label"), context.stepName(t));
    setText(byId("step-last"), String(context.model.steps ? context.model.steps[context.T - 1] : context.T - 1));
    const button = byId("play");
    button.setAttribute("aria-label", playing() ? "Pause" : "Play, forward and then backward");
    button.classList.toggle("playing", playing());
    byId("cell-summary").setAttribute("aria-live", playing() ? "off" : "polite"); // do not read every step
  }

  return { data, unit, step };
}
