// Everything that goes over the wire. Errors arrive as ApiError with the server's own code and sentence.

export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

let gate = null; // asks the reader for the token; set by the page

/** Say how a token is asked for: a function that returns a promise, resolved once the session is open. */
export function setGate(ask) {
  gate = ask;
}

async function request(method, path, { json, form, guarded = true } = {}) {
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (json !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(json);
  }
  if (form !== undefined) options.body = form;
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError(0, "unreachable", "");
  }
  if (response.status === 401 && guarded && gate) {
    await gate();
    return request(method, path, { json, form });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const retry = Number(response.headers.get("Retry-After")) || null;
  throw new ApiError(response.status, body?.error?.code ?? "unknown", body?.error?.message ?? "", retry);
}

function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

const one = (kind, id) => `/api/${kind}/${encodeURIComponent(id)}`;

export const api = {
  session: (token) => request("POST", "/api/session", { json: { token }, guarded: false }),
  settings: () => request("GET", "/api/settings"),
  models: () => request("GET", "/api/models"),
  model: (id) => request("GET", one("models", id)),
  card: (id) => request("GET", `${one("models", id)}/card`),
  load: (id, device) => request("POST", `${one("models", id)}/load`, { json: { device: device || null } }),
  unload: (id) => request("POST", `${one("models", id)}/unload`),
  barsList: () => request("GET", "/api/bars"),
  bars: (id, symbol) => request("GET", one("bars", id) + query({ symbol })),
  candles: (id, symbol, limit, before) =>
    request("GET", `${one("bars", id)}/candles${query({ symbol, limit, before })}`),
  upload: (file, options) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(options)) if (value !== "" && value !== false) form.set(name, value);
    form.set("file", file);
    return request("POST", "/api/bars", { form });
  },
  removeBars: (id) => request("DELETE", one("bars", id)),
  forecast: (wanted) => request("POST", "/api/forecasts", { json: wanted }),
  forecasts: (page, size, q, status) => request("GET", `/api/forecasts${query({ page, size, q, status })}`),
  status: (id) => request("GET", one("forecasts", id)),
  result: (id, paths = 0) => request("GET", `${one("forecasts", id)}/result${query({ paths })}`),
  touch: async (id, price) => (await request("GET", `${one("forecasts", id)}/result${query({ touch: price })}`)).touch[0],
  cancel: (id) => request("POST", `${one("forecasts", id)}/cancel`),
  remove: (id) => request("DELETE", one("forecasts", id)),
  downloadUrl: (id, format) => `${one("forecasts", id)}/download?format=${format}`,
};

export const FINAL = ["done", "failed", "cancelled", "interrupted"];

/**
 * Follow a forecast to its end: by server-sent events, and by asking again and again where those do not come through.
 *
 * onProgress({done, total, eta_seconds, queue_position}), onEnd(item), onLost(whether the line is down).
 * Returns a function that stops.
 */
export function follow(id, { onProgress, onEnd, onLost }) {
  let stopped = false;
  let timer = null;
  const source = new EventSource(`${one("forecasts", id)}/events`);

  function stop() {
    stopped = true;
    source.close();
    clearTimeout(timer);
  }
  function end(item) {
    if (stopped) return;
    stop();
    onEnd(item);
  }
  async function poll(wait) {
    if (stopped) return;
    let next = 1000;
    try {
      const item = await api.status(id);
      if (stopped) return;
      onLost(false);
      if (FINAL.includes(item.status)) return end(item);
      onProgress({ ...item.progress, queue_position: item.queue_position });
    } catch (error) {
      if (stopped) return;
      if (error.status >= 400 && error.status < 500) return end({ id, status: "failed", error: error.message });
      onLost(true);
      next = Math.min(wait * 2, 8000);
    }
    timer = setTimeout(() => poll(next), next);
  }

  source.addEventListener("progress", (event) => !stopped && onProgress(JSON.parse(event.data)));
  for (const name of FINAL) source.addEventListener(name, (event) => end(JSON.parse(event.data)));
  source.onerror = () => {
    source.close();
    poll(1000);
  };
  return stop;
}
