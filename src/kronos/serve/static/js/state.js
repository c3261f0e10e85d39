// What the reader has chosen and what is known so far. The panels read it; the workspace changes it.

export const state = {
  models: null, // the answer of /api/models
  bars: null, // items of /api/bars
  chosen: null, // {id, symbol, symbols, item, report, preview, candles}
  ask: {
    mode: "forecast", // or "replay"
    cutoff: null, // a replay's last seen bar, as the API writes it
    model: null,
    device: "",
    horizon: 24,
    num_samples: 100,
    context_length: null,
    temperature: null,
    top_p: null,
    top_k: null,
    seed: 0,
    calendar: "",
  },
};

/** Bounds of the settings; the server holds the same ones. */
export const LIMITS = {
  horizon: { min: 1, max: 512, step: 1, whole: true },
  num_samples: { min: 1, max: 1000, step: 1, whole: true },
  context_length: { min: 2, max: 100000, step: 1, whole: true },
  temperature: { min: 0, max: 10, step: 0.05 },
  top_p: { min: 0.01, max: 1, step: 0.01 },
  top_k: { min: 0, max: 65536, step: 1, whole: true },
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, whole: true },
};

/** Bars of all paths together that one forecast may ask for. */
export const MOST_PATH_BARS = 100000;

export const MOST_UPLOAD = 20 * 2 ** 20;
export const MOST_CANDLES = 1500; // at a time

export function chosenModel() {
  return state.models?.items.find((item) => item.id === state.ask.model) ?? null;
}

/** Bounds of a setting as things stand: the model's own context, the work that one forecast may ask for. */
export function limitsOf(name) {
  const limits = LIMITS[name];
  if (name === "context_length") return { ...limits, max: chosenModel()?.context ?? limits.max };
  if (name === "num_samples")
    return { ...limits, max: Math.min(limits.max, Math.floor(MOST_PATH_BARS / state.ask.horizon)) };
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
    horizon: ask.horizon,
    num_samples: ask.num_samples,
    context_length: ask.context_length,
    temperature: ask.temperature,
    top_p: ask.top_p,
    top_k: ask.top_k,
    seed: ask.seed,
    calendar: ask.calendar || null,
    cutoff: ask.mode === "replay" ? ask.cutoff : null,
  };
}

/** Take over the settings of an earlier forecast. */
export function adopt(parameters) {
  const { ask } = state;
  for (const name of Object.keys(LIMITS)) if (name in parameters) ask[name] = parameters[name];
  ask.model = parameters.model ?? ask.model;
  ask.calendar = parameters.calendar ?? "";
  ask.mode = parameters.cutoff ? "replay" : "forecast";
  ask.cutoff = parameters.cutoff ?? null;
}
