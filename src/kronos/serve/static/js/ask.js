// What to ask of the model: now or a replay, how far, how many paths, and the finer settings.

import { h, icon, fill, uniqueId } from "./dom.js";
import { bytes, compact, frequency, integer, isDaily, wall } from "./format.js";
import { t } from "./i18n.js";
import { chosenModel, cutoffPosition, defaultCutoff, limitsOf, LIMITS, SAMPLING, state } from "./state.js";

const ADJUST = ["splits", "volume", "splits,volume", "cut"];
const DIRECTIONS = ["model", "none"];
const CALENDARS = ["XNYS", "XSHG", "XHKG", "XTKS", "XLON", "FX", "24/7", "observed", "step"];

/** The panel; onSubmit() runs a forecast, onCutoff() tells that the cutoff or the mode changed. */
export function askPanel({ onSubmit, onCutoff }) {
  const fields = new Map();
  const cutoffBlock = h("div", { hidden: true });
  let cutoff = null; // the field of the chosen series
  let cutoffOf = null;
  const span = h("p", { class: "hint" });
  const submit = h("button", { type: "submit", class: "primary big", id: "run" });
  const trouble = h("div", { "aria-live": "polite" });
  const modelHint = h("p", { class: "hint", id: "model-hint" });
  const deviceHint = h("p", { class: "hint", id: "device-hint" }, t("ask.device.hint"));
  const model = h("select", { id: "model", "aria-describedby": "model-hint", onchange: () => pickModel(model.value) });
  const device = h("select", {
    id: "device",
    "aria-describedby": "device-hint",
    onchange: () => {
      state.ask.device = device.value;
    },
  });

  function pickModel(id) {
    state.ask.model = id;
    updateModel();
    fields.get("context_length")?.check();
  }

  function number(name, { optional = false, slider = false } = {}) {
    const made = numberField(name, { optional, slider, onChange: () => changed(name) });
    fields.set(name, made);
    return made.element;
  }

  function changed(name) {
    if (name === "horizon") {
      updateSpan();
      fields.get("num_samples").check();
    }
    updateCutoff();
  }

  function updateSpan() {
    const unit = state.chosen?.report?.frequency;
    const n = state.ask.horizon;
    span.textContent = unit && n ? t("ask.horizon.span", { n, unit: frequency(unit) }) : t("ask.horizon.hint");
  }

  function updateModel() {
    const items = state.models?.items ?? [];
    fill(
      model,
      items.map((item) => h("option", { value: item.id, selected: item.id === state.ask.model }, modelName(item))),
    );
    fill(
      device,
      h("option", { value: "" }, t("ask.device.auto")),
      (state.models?.devices ?? []).map((name) =>
        h("option", { value: name, selected: name === state.ask.device }, name),
      ),
    );
    const item = chosenModel();
    modelHint.textContent = item ? modelSentence(item) : t("ask.model.hint");
  }

  function setCutoff(stamp) {
    state.ask.cutoff = stamp;
    onCutoff();
    updateCutoff();
  }

  function updateCutoff() {
    const replay = state.ask.mode === "replay";
    submit.replaceChildren(replay ? t("ask.run.replay") : t("ask.run.forecast"));
    cutoffBlock.hidden = !replay;
    if (!replay || !state.chosen) return;
    const series = `${state.chosen.id} ${state.chosen.symbol}`;
    if (series !== cutoffOf) {
      cutoff = cutoffField(setCutoff);
      cutoffOf = series;
      fill(cutoffBlock, cutoff.element);
    }
    cutoff.show();
    element.querySelector("#cutoff-consequence").textContent = consequence();
  }

  function check() {
    const wrong = [...fields.values()].filter((field) => !field.check());
    if (wrong.length) {
      const details = wrong[0].element.closest("details");
      if (details) details.open = true;
      wrong[0].input.focus();
    }
    return wrong.length === 0;
  }

  const calendarId = uniqueId("calendar");
  const calendar = h(
    "select",
    { id: calendarId, "aria-describedby": "calendar-hint", onchange: () => (state.ask.calendar = calendar.value) },
    h("option", { value: "" }, t("ask.calendar.auto")),
    CALENDARS.map((name) => h("option", { value: name, selected: name === state.ask.calendar }, t(`calendar.${name}`))),
  );

  const adjust = h(
    "select",
    { id: "adjust", "aria-describedby": "adjust-hint", onchange: () => (state.ask.adjust = adjust.value) },
    h("option", { value: "" }, t("ask.adjust.none")),
    ADJUST.map((name) => h("option", { value: name, selected: name === state.ask.adjust }, t(`adjust.${name}`))),
  );

  const direction = h(
    "select",
    { id: "direction", "aria-describedby": "direction-hint", onchange: () => (state.ask.direction = direction.value) },
    h("option", { value: "" }, t("ask.direction.auto")),
    DIRECTIONS.map((name) => h("option", { value: name, selected: name === state.ask.direction }, t(`direction.${name}`))),
  );

  const element = h(
    "form",
    {
      class: "card ask-panel",
      "aria-labelledby": "ask-title",
      noValidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        if (check()) onSubmit();
      },
    },
    h("h2", { id: "ask-title" }, h("span", { class: "step", "aria-hidden": "true" }, "2"), t("ask.title")),
    modeChoice((mode) => {
      state.ask.mode = mode;
      if (mode === "replay" && state.chosen && cutoffPosition(state.chosen.candles, state.ask.cutoff) === null) {
        state.ask.cutoff = defaultCutoff(state.chosen.candles, state.ask.horizon);
      }
      onCutoff();
      updateCutoff();
    }),
    cutoffBlock,
    number("horizon", { slider: true }),
    span,
    number("num_samples", { slider: true }),
    h("div", { class: "field" }, h("label", { for: "model" }, t("ask.model")), model, modelHint),
    h(
      "details",
      { class: "options", id: "finer" },
      h("summary", {}, icon("sliders"), t("ask.finer")),
      h(
        "div",
        { class: "finer" },
        h("div", { class: "field" }, h("label", { for: "device" }, t("ask.device")), device, deviceHint),
        h(
          "div",
          { class: "field" },
          h("label", { for: calendarId }, t("ask.calendar")),
          calendar,
          h("p", { class: "hint", id: "calendar-hint" }, t("ask.calendar.hint")),
        ),
        h(
          "div",
          { class: "field" },
          h("label", { for: "adjust" }, t("ask.adjust")),
          adjust,
          h("p", { class: "hint", id: "adjust-hint" }, t("ask.adjust.hint")),
        ),
        number("context_length", { optional: true }),
        SAMPLING.filter((name) => name in LIMITS).map((name) => number(name, { optional: true })),
        h(
          "div",
          { class: "field" },
          h("label", { for: "direction" }, t("ask.direction")),
          direction,
          h("p", { class: "hint", id: "direction-hint" }, t("ask.direction.hint")),
        ),
        number("seed"),
      ),
    ),
    h("div", { class: "submit" }, submit, trouble),
  );

  function update() {
    for (const field of fields.values()) field.refresh();
    for (const radio of element.querySelectorAll('input[name="mode"]')) radio.checked = radio.value === state.ask.mode;
    adjust.value = ADJUST.includes(state.ask.adjust) ? state.ask.adjust : "";
    direction.value = DIRECTIONS.includes(state.ask.direction) ? state.ask.direction : "";
    calendar.value = CALENDARS.includes(state.ask.calendar) ? state.ask.calendar : "";
    updateModel();
    updateSpan();
    updateCutoff();
    submit.disabled = !state.chosen || !state.ask.model;
  }

  update();
  return {
    element,
    update,
    updateCutoff,
    busy: (is) => (submit.disabled = is),
    trouble: (...nodes) => fill(trouble, ...nodes),
  };
}

function modelName(item) {
  const state = item.state === "loaded" ? ` · ${t("model.state.loaded")}` : "";
  return `${item.name}${state}`;
}

function modelSentence(item) {
  if (item.state === "failed") return `${t("model.state.failed")}: ${item.error ?? ""}`;
  const size = item.parameters ? t("model.size", { n: compact(item.parameters) }) : "";
  if (item.kind === "family" && item.state === "unloaded") {
    return [size, t("ask.model.download", { size: item.bytes ? `(${bytes(item.bytes)})` : "" })]
      .filter(Boolean)
      .join(" · ");
  }
  return [size, item.context ? t("model.reads", { n: item.context }) : "", item.device].filter(Boolean).join(" · ");
}

function modeChoice(onMode) {
  const option = (mode) => {
    const id = `mode-${mode}`;
    return [
      h("input", {
        type: "radio",
        name: "mode",
        id,
        value: mode,
        checked: state.ask.mode === mode,
        onchange: () => onMode(mode),
      }),
      h("label", { for: id }, h("strong", {}, t(`mode.${mode}`)), h("small", {}, t(`mode.${mode}.hint`))),
    ];
  };
  return h(
    "fieldset",
    { class: "segments" },
    h("legend", { class: "unseen" }, t("ask.mode")),
    option("forecast"),
    option("replay"),
  );
}

/** The date of the last bar that the model may see, with a step back and forth. */
function cutoffField(onChange) {
  const { candles, report } = state.chosen;
  const daily = isDaily(candles.timestamp);
  const written = (stamp) => stamp?.slice(0, daily ? 10 : 16) ?? "";
  const field = h("input", {
    type: daily ? "date" : "datetime-local",
    id: "cutoff",
    min: written(report.first),
    max: written(report.last),
    "aria-describedby": "cutoff-consequence",
    onchange: () => {
      // A date that is being typed passes through years such as 0002.
      if (!field.value || !field.validity.valid) return;
      const { timestamp } = state.chosen.candles;
      const at = timestamp.findLastIndex((stamp) => written(stamp) <= field.value);
      onChange(at < 0 || at === timestamp.length - 1 ? field.value : timestamp[at]);
    },
    onblur: show,
  });
  function show() {
    field.value = written(state.ask.cutoff);
  }
  const step = (by, name, label) =>
    h(
      "button",
      {
        type: "button",
        "aria-label": label,
        onclick: () => {
          const { timestamp } = state.chosen.candles;
          const at = cutoffPosition(state.chosen.candles, state.ask.cutoff);
          if (at !== null) onChange(timestamp[Math.min(Math.max(at + by, 0), timestamp.length - 1)]);
        },
      },
      icon(name),
    );
  const element = h(
    "div",
    { class: "cutoff" },
    h("label", { for: "cutoff" }, t("ask.cutoff")),
    h(
      "div",
      { class: "stepper" },
      step(-1, "back", t("ask.cutoff.back")),
      field,
      step(1, "next", t("ask.cutoff.forth")),
    ),
    h("p", { class: "hint", id: "cutoff-consequence" }),
  );
  return { element, show };
}

function consequence() {
  const { candles } = state.chosen;
  const at = cutoffPosition(candles, state.ask.cutoff);
  if (at === null) return t("ask.cutoff.hint");
  const stamp = wall(state.ask.cutoff, isDaily(candles.timestamp));
  const later = candles.timestamp.length - 1 - at;
  if (later === 0) return t("ask.cutoff.none", { stamp });
  if (later < state.ask.horizon) return t("ask.cutoff.few", { stamp, n: later });
  return t("ask.cutoff.enough", { stamp });
}

/** A number with its sentence, its bounds and, when wrong, what to do. */
function numberField(name, { optional, slider, onChange }) {
  const id = `set-${name}`;
  const error = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const hint = h("p", { class: "hint", id: `${id}-hint` }, t(`ask.${name}.hint`));
  const input = h("input", {
    type: "number",
    id,
    inputMode: LIMITS[name].whole ? "numeric" : "decimal",
    placeholder: optional ? t("ask.auto") : "",
    "aria-describedby": `${id}-hint ${id}-wrong`,
    autocomplete: "off",
    oninput: () => read(),
    onchange: () => check(),
  });
  // The slider is for the pointer; the number beside it is the same control for keyboard and screen reader.
  const top = Math.min(LIMITS[name].max, name === "horizon" ? 120 : 300);
  const range = slider
    ? h("input", {
        type: "range",
        min: LIMITS[name].min,
        max: top,
        tabindex: "-1",
        "aria-hidden": "true",
        oninput: () => {
          input.value = range.value;
          read();
          check();
        },
      })
    : null;

  function problemOf(text) {
    const { min, max, whole } = limitsOf(name);
    if (input.validity.badInput) return t("ask.wrong.number");
    if (text === "") return optional ? null : t("ask.wrong.empty");
    const value = Number(text);
    if (!Number.isFinite(value)) return t("ask.wrong.number");
    if (whole && !Number.isInteger(value)) return t("ask.wrong.whole");
    if (value > max && max < LIMITS[name].max) return t(`ask.wrong.${name}`, { max: integer(max) });
    if (value < min || value > max) return t("ask.wrong.range", { min: integer(min), max: integer(max) });
    return null;
  }
  function read() {
    const text = input.value.trim();
    if (problemOf(text)) return;
    state.ask[name] = text === "" ? null : Number(text);
    if (range) range.value = state.ask[name];
    if (!error.hidden) check();
    onChange();
  }
  function check() {
    const problem = problemOf(input.value.trim());
    error.hidden = !problem;
    error.textContent = problem ?? "";
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    return !problem;
  }
  function refresh() {
    const { min, max, step } = limitsOf(name);
    Object.assign(input, { min, max, step });
    input.value = state.ask[name] ?? "";
    if (range) range.value = state.ask[name];
    check();
  }
  const control = h("div", { class: slider ? "with-range" : "" }, range, input);
  const label = h("label", { for: id }, t(`ask.${name}`));
  const element = h("div", { class: "field" }, label, control, hint, error);
  return { element, input, check, refresh };
}
