// What the reader has chosen and what is known so far. The panels read it; the workspace changes it.

import { known } from "./i18n.js";

export const state = {
  models: null, // the answer of /api/models
  bars: null, // items of /api/bars
  chosen: null, // {id, symbol, symbols, item, report, preview, candles}
  ask: {
    mode: "forecast", // or "replay"
    cutoff: null, // a replay's last seen bar, as the API writes it
    model: null,
    device: "",
    calendar: "",
    adjust: "",
    direction: "", // of the model's calibration; or "model", "none"
    // and the numbers in LIMITS
  },
};

/** Settings of the sampling, in the order in which they are shown; null leaves one to the model. */
export const SAMPLING = ["temperature", "top_p", "top_k", "direction", "har_weight"];

/** Bounds of the numbers that the page asks for, by name; takeSettings fills them. */
export const LIMITS = {};

/** What else the server says of itself: most_path_bars, most_upload_bytes. */
export const server = {};

export const MOST_CANDLES = 1500; // at a time
const STEPS = { temperature: 0.05, har_weight: 0.05 };

/** Take over defaults and bounds from the answer of /api/settings; a setting without words is not shown. */
export function takeSettings({ settings, ...rest }) {
  Object.assign(server, rest);
  for (const { name, kind, default: usual, low, high, above } of settings) {
    if (kind === "str" || !known(`ask.${name}`)) continue;
    const whole = kind === "int";
    const step = whole ? 1 : (STEPS[name] ?? 0.01);
    LIMITS[name] = { min: low ?? above + step, max: high, step, whole };
    state.ask[name] = usual;
  }
}

export function chosenModel() {
  return state.models?.items.find((item) => item.id === state.ask.model) ?? null;
}

/** Bounds of a setting as things stand: the model's own context, the work that one forecast may ask for. */
export function limitsOf(name) {
  const limits = LIMITS[name];
  if (name === "context_length") return { ...limits, max: chosenModel()?.context ?? limits.max };
  if (name === "num_samples")
    return { ...limits, max: Math.min(limits.max, Math.floor(server.most_path_bars / state.ask.horizon)) };
  return limits;
}

/** Position of the last bar that a replay sees; null when it lies outside the bars at hand. */
export function cutoffPosition(candles, cutoff) {
  if (!candles || !cutoff) return null;
  const at = candles.timestamp.indexOf(cutoff);
  return at < 0 ? null : at;
}

/** A cutoff that leaves the whole horizon to compare with. */
export function defaultCutoff(candles, horizon) {
  const count = candles.timestamp.length;
  return candles.timestamp[Math.max(Math.min(count - 2, 1), count - 1 - horizon)];
}

/** What is sent to the server. */
export function request() {
  const { ask, chosen } = state;
  return {
    bars: chosen.id,
    symbol: chosen.symbol,
    model: ask.model,
    ...Object.fromEntries(Object.keys(LIMITS).map((name) => [name, ask[name]])),
    calendar: ask.calendar || null,
    adjust: ask.adjust || null,
    direction: ask.direction || null,
    cutoff: ask.mode === "replay" ? ask.cutoff : null,
  };
}

/** Take over the settings of an earlier forecast. */
export function adopt(parameters) {
  const { ask } = state;
  for (const name of Object.keys(LIMITS)) if (name in parameters) ask[name] = parameters[name];
  ask.model = parameters.model ?? ask.model;
  ask.calendar = parameters.calendar ?? "";
  ask.adjust = parameters.adjust ?? "";
  ask.direction = parameters.direction ?? "";
  ask.mode = parameters.cutoff ? "replay" : "forecast";
  ask.cutoff = parameters.cutoff ?? null;
}
