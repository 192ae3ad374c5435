// The page: the selected step, unit and layer, and the views that display them.

import { byId, make, on, setText } from "../shared/elements.js";
import { Address, parseAddress } from "./address.js";
import { breakItView } from "./break_it.js";
import { cellDiagramView } from "./cell_diagram.js";
import { comparisonView } from "./comparison.js";
import { Context } from "./context.js";
import { controlsView } from "./controls.js";
import { memoryView, unitView } from "./curves.js";
import { equationsView } from "./equations.js";
import { gradientView } from "./gradient_view.js";
import { heatMapsView } from "./heat_maps.js";
import { ioView } from "./io_view.js";
import { liveTrainingView } from "./live_training.js";
import { unitOrder } from "./measures.js";
import { Player } from "./player.js";
import { Projector } from "./projector.js";
import { tableView } from "./table.js";
import { textView } from "./text_view.js";
import { Tour } from "./tour.js";
import { weightSliderView } from "./weight_slider.js";
import { whatView } from "./what_view.js";
import { servesAsWorker } from "./worker.js";

// After a change of the model or its input, these views are drawn first, and the others in the next frame.
const FIRST_VIEWS = [controlsView, ioView, textView, cellDiagramView, equationsView, heatMapsView];
const VIEWS = [
  ...FIRST_VIEWS,
  whatView,
  breakItView,
  gradientView,
  unitView,
  memoryView,
  weightSliderView,
  tableView,
  liveTrainingView,
  comparisonView,
];

// Levels of change, from the smallest: each view redraws the parts that depend on it.
// "data": values, or the order of units.
const LEVELS = ["step", "unit", "data"];

export function start(payload) {
  const context = new Context(payload);
  const { state } = context;
  const views = [];
  let order = [];

  let waiting = 0; // for the next frame

  function refresh(level, some = views) {
    if (waiting) drawOthers();
    for (const name of LEVELS.slice(0, LEVELS.indexOf(level) + 1).reverse()) for (const view of some) view[name]?.();
    if (!player.on) address.changed();
  }

  function drawOthers() {
    cancelAnimationFrame(waiting);
    waiting = 0;
    refresh("data", views.slice(FIRST_VIEWS.length));
  }

  function reorder() {
    order = unitOrder(context);
    byId("sort-again").disabled = true;
    refresh("data");
  }

  const actions = {
    order: () => order,
    choose({ step = state.step, unit = state.unit }) {
      const level = unit === state.unit ? "step" : "unit";
      if (level === "step" && step === state.step) return;
      Object.assign(state, { step, unit });
      refresh(level);
    },
    chooseBit(bit) {
      if (bit === state.bit) return;
      state.bit = bit;
      refresh("data");
    },
    setMode(mode) {
      if (mode === state.mode || (mode === "backward" && !context.hasGradients)) return;
      state.mode = mode;
      refresh("data");
    },
    /** Show the new values, the old ones, or their difference. */
    setVersion(version) {
      if (version === state.version || (version !== "new" && !context.comparable)) return;
      state.version = version;
      refresh("data");
    },
    setDirection({ layer, direction }) {
      Object.assign(state, { layer, direction });
      state.unit = Math.min(state.unit, context.H - 1);
      reorder();
    },
    /** After a change of the model or its input. The order of units changes only when the user sorts them again. */
    recompute() {
      context.edited = context.differs();
      context.compute();
      byId("restore").disabled = !context.edited;
      byId("sort-again").disabled = false;
      cancelAnimationFrame(waiting);
      waiting = 0;
      refresh("data", views.slice(0, FIRST_VIEWS.length));
      waiting = requestAnimationFrame(() => {
        waiting = requestAnimationFrame(drawOthers);
      });
    },
    /** After a computation over many inputs, from which sentences come; those of the tour when all are known. */
    surveyed(isComplete) {
      for (const view of views) view.surveyed?.();
      if (isComplete) tour.refresh();
    },
    announce: (text) => setText(byId("announcement"), text),
    playing: () => player.on,
    togglePlay: () => player.toggle(),
  };
  const player = new Player(context, { ...actions, changed: () => refresh("step") });
  const address = new Address(
    () => ({
      tour: tour.stop || undefined,
      t: state.step,
      u: state.unit,
      k: context.bits ? state.bit : undefined,
      layer: context.directions.length > 1 ? layerNumber(context) : undefined,
      mode: context.backward ? "backward" : undefined,
      f: context.model.interventions?.find(({ symbol, operation, units }) => symbol === "f" && operation === "scale" && !units)?.value,
    }),
    (target) => {
      applyAddress(target);
      tour.go(target.tour ?? 0, false);
    },
  );

  /** Multiply all forget gates, as the slider of the section "Break it" does. */
  function setFactor(factor) {
    const slider = byId("break-scale");
    if (!slider || slider.valueAsNumber === factor) return;
    slider.value = factor;
    for (const name of ["input", "change"]) slider.dispatchEvent(new Event(name));
  }

  function applyAddress({ t, u, k, layer, mode, f = 1 }) {
    setFactor(f);
    const place = context.directions[layer];
    if (place && layer !== layerNumber(context)) actions.setDirection(place);
    actions.setMode(mode ?? "forward");
    if (k < context.bits.length) actions.chooseBit(k);
    actions.choose({ step: t < context.T ? t : state.step, unit: u < context.H ? u : state.unit });
  }

  const projector = new Projector(context, () => refresh("data"));
  const tour = new Tour({
    context,
    story: () => views.map((view) => view.story?.()).find(Boolean) ?? { written: [] },
    apply({ mode, bit, step = state.step, unit = state.unit, factor }) {
      if (factor) setFactor(factor);
      if (mode) actions.setMode(mode);
      if (bit >= 0) actions.chooseBit(bit);
      actions.choose({ step, unit });
    },
    changed: () => address.changed(true),
  });
  tour.onReveal = (place) => projector.show(place);

  writeHead(context);
  followTheme(context, () => refresh("data"));
  bindSort(context, reorder);
  on(byId("sort-again"), "click", reorder);
  for (const version of ["new", "old", "difference"]) {
    on(byId(`version-${version}`), "click", () => actions.setVersion(version));
  }
  on(byId("restore"), "click", () => {
    context.restore();
    byId("restore").disabled = true;
    reorder();
    actions.announce("The model and its input are restored.");
  });
  selectLargestCell(context);
  const target = parseAddress(location.hash);
  order = unitOrder(context);
  const add = (makers) => {
    const added = makers.map((maker) => maker(context, actions));
    views.push(...added);
    for (const name of [...LEVELS].reverse()) for (const view of added) view[name]?.();
  };
  const count = FIRST_VIEWS.length - 1; // the heat maps are below the first screen
  add(VIEWS.slice(0, count));
  afterFirstFrame(() => {
    add(VIEWS.slice(count));
    if (Object.keys(target).length) {
      applyAddress(target);
      if (target.tour) tour.go(target.tour, false);
    }
    document.documentElement.classList.add("ready");
  });

  window.glasscell = {
    state,
    get trace() {
      return context.trace;
    },
    get model() {
      return context.model;
    },
    choose: actions.choose,
    backward: (is) => actions.setMode(is ? "backward" : "forward"),
  };
}

/** Call a function when the browser has shown the page for the first time, or soon if it does not show it. */
function afterFirstFrame(run) {
  let timer = 0;
  const once = () => {
    clearTimeout(timer);
    if (timer !== null) run();
    timer = null;
  };
  timer = setTimeout(once, 500);
  requestAnimationFrame(() => setTimeout(once));
}

function layerNumber({ directions, state }) {
  return directions.findIndex(({ layer, direction }) => layer === state.layer && direction === state.direction);
}

function writeHead(context) {
  const { payload, model, directions } = context;
  setText(byId("title"), payload.title);
  const sizes = model.layers.map((layer) => layer.directions.map(({ H }) => H).join(" + "));
  const count = model.layers.length;
  const stack = `${count} layer${count > 1 ? "s" : ""}${directions.length > count ? ", both directions" : ""}`;
  const parts = [
    directions.length === 1 ? "one LSTM layer" : stack,
    `${sizes.join(", ")} units`,
    `${payload.x.shape[0]} steps`,
    payload.dtype,
  ];
  setText(byId("sizes"), parts.join(" · "));
  byId("notes").replaceChildren(...payload.notes.map((note) => make("p", {}, note)));
  byId("live-hint").hidden = !payload.live;
  byId("static-hint").hidden = payload.live;
  byId("restore").hidden = !payload.live;
  byId("sort-again").hidden = !payload.live;
}

/** Follow the colour scheme of the system until the button chooses one. */
function followTheme(context, redraw) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  let chosen = null;
  const apply = () => {
    context.theme = chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = context.theme;
    button.setAttribute("aria-label", context.theme === "dark" ? "Light colours" : "Dark colours");
  };
  apply();
  on(system, "change", () => {
    apply();
    redraw();
  });
  on(button, "click", () => {
    chosen = context.theme === "dark" ? "light" : "dark";
    apply();
    redraw();
  });
}

function bindSort(context, reorder) {
  const [sort, channel] = [byId("sort"), byId("channel")];
  channel.replaceChildren(...context.payload.input_names.map((name, k) => make("option", { value: k }, name)));
  const changed = () => {
    context.state.sort = sort.value;
    context.state.channel = Number(channel.value);
    byId("channel-field").hidden = sort.value !== "correlation";
    reorder();
  };
  on(sort, "change", changed);
  on(channel, "change", changed);
}

/** Select the unit and step of the largest cell state; of a text, the unit of the last layer that varies most. */
function selectLargestCell(context) {
  if (context.payload.step_names.length) return selectVaryingUnit(context);
  const { direction, T, H, state } = context;
  let best = 0;
  for (let n = 1; n < T * H; n++) if (Math.abs(direction.c[n]) > Math.abs(direction.c[best])) best = n;
  Object.assign(state, { step: Math.floor(best / H), unit: best % H, sort: "peak" });
  byId("sort").value = "peak";
}

function selectVaryingUnit(context) {
  const { state } = context;
  state.layer = context.model.layers.length - 1;
  const variance = (k) => {
    const values = context.row("tanh_c", k);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  };
  const variances = Array.from({ length: context.H }, (_, k) => variance(k));
  Object.assign(state, { step: 0, unit: variances.indexOf(Math.max(...variances)), sort: "peak" });
  byId("sort").value = "peak";
}

if (!servesAsWorker()) start(JSON.parse(byId("payload").textContent));
