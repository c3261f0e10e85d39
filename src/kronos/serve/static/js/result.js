// A finished forecast: what it says in one sentence, the chart, the risk, the bars, and the ways out.

import { api } from "./api.js";
import { FAN, drawForecast, hasDirection, hasSpread, sceneOf } from "./charts.js";
import { fact, fill, h, icon, notice, toast } from "./dom.js";
import {
  between,
  chance,
  compact,
  digits,
  frequency,
  integer,
  move,
  moment,
  price,
  priceAbout,
  wall,
} from "./format.js";
import { known, t } from "./i18n.js";
import { noteText } from "./report.js";
import { comparisonCard, riskCard } from "./risk.js";
import { SAMPLING } from "./state.js";
import { seriesTitle } from "./titles.js";

const SHOWN_PATHS = 30;
const FORMATS = ["csv", "json", "parquet", "html"];
const FIRST_ROWS = 12;

/** The whole view. actions: {onBack, onAdopt, onDelete}. draw() paints the chart once the view is on the page. */
export function resultView(item, result, actions) {
  const scene = sceneOf(result);
  const replay = result.truth !== null;
  const layers = { 90: true, 80: true, 50: true, candles: !replay, paths: false, volume: true };
  const label = `${seriesTitle(item)}. ${sentence(result, scene)}`;
  const frame = h("div", { class: "plot" });
  const readout = h("p", { class: "readout", "aria-hidden": "true" });
  let host = null;

  async function draw() {
    const range = host?.layout?.xaxis.range;
    try {
      const onHover = (at) => fill(readout, reading(result, scene, at));
      host = await drawForecast(frame, result, scene, layers, { label, range, onHover });
    } catch (error) {
      fill(frame, notice(error.message, "error"));
    }
  }

  async function toggle(name, on) {
    layers[name] = on;
    if (name === "paths" && on && !result.paths) {
      try {
        result.paths = (await api.result(item.id, SHOWN_PATHS)).paths;
      } catch (error) {
        toast(error.message || t("error.unknown"), "error");
      }
    }
    await draw();
  }

  fill(readout, reading(result, scene, null));
  const element = h(
    "div",
    { class: "result" },
    h(
      "header",
      { class: "result-head" },
      h("button", { type: "button", class: "back", onclick: actions.onBack }, icon("back"), t("result.back")),
      h("h1", {}, seriesTitle(item)),
      h("p", { class: "lead" }, sentence(result, scene)),
    ),
    notes(result),
    tiles(result, scene),
    h(
      "div",
      { class: "result-body" },
      h(
        "section",
        { class: "card chart-card", "aria-label": t("chart.title") },
        readout,
        frame,
        layerChoice(layers, result, toggle),
      ),
      h(
        "div",
        { class: "result-side" },
        replay && comparisonCard(result, scene),
        riskCard(result, scene),
        exportCard(item, actions),
        settingsCard(item, result),
      ),
      barsTable(result, scene),
    ),
  );
  return { element, draw };
}

/** What the forecast says, in one sentence. */
function sentence(result, scene) {
  const end = result.timestamps.length - 1;
  const close = result.quantiles.close;
  if (!hasSpread(result)) {
    return t("result.sentence.few", {
      median: price(result.median.close[end], scene.decimals),
      stamp: wall(result.timestamps[end], scene.daily),
    });
  }
  return t(hasDirection(result) ? "result.sentence" : "result.sentence.undirected", {
    n: result.timestamps.length,
    low: price(close["0.25"][end], scene.decimals),
    high: price(close["0.75"][end], scene.decimals),
    up: chance(result.risk.prob_up[end], result.risk.prob_up_error?.[end]),
    stamp: wall(result.timestamps[end], scene.daily),
  });
}

function notes(result) {
  const all = hasSpread(result) ? [] : [noteText(result.warnings[0])];
  if (result.estimated_timestamps) all.push(t("result.estimated"));
  if (result.truth && result.truth.close.length < result.timestamps.length) {
    all.push(t("result.partial", { n: result.truth.close.length, all: result.timestamps.length }));
  }
  return all.map((text) => notice(text, "warn"));
}

function tiles(result, scene) {
  const end = result.timestamps.length - 1;
  const close = result.quantiles.close;
  const middle = result.median.close[end];
  const shift = middle / scene.start - 1;
  const shown = [
    [t("tile.last"), price(scene.start, scene.decimals), wall(scene.stamps[scene.from - 1], scene.daily)],
    [
      t("tile.median", { n: end + 1 }),
      priceAbout(middle, hasDirection(result) ? result.median_error?.close[end] : null, scene.decimals),
      h("span", { class: shift >= 0 ? "up" : "down" }, move(shift)),
    ],
  ];
  if (hasSpread(result)) {
    const { prob_up: up, prob_up_error: error } = result.risk;
    shown.push(
      [t("tile.range"), between(close["0.05"][end], close["0.95"][end], scene.decimals), t("tile.range.hint")],
      hasDirection(result)
        ? [t("tile.up"), chance(up[end], error?.[end]), t("tile.up.hint")]
        : [t("tile.up"), t("tile.up.none"), t("tile.up.none.hint")],
    );
  }
  return h(
    "dl",
    { class: "tiles" },
    shown.map(([name, value, hint]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, hint)))),
  );
}

/** What stands above the chart for the bar under the pointer, or for the end of the forecast. */
function reading(result, scene, at) {
  const { decimals } = scene;
  const place = at ?? scene.stamps.length - 1;
  const pair = (name, value) => h("span", {}, h("b", {}, name), value);
  const stamp = h("span", { class: "when" }, wall(scene.stamps[place], scene.daily));
  if (place < scene.from)
    return [stamp, ...ohlc(result.history, place, decimals).map(([name, value]) => pair(name, value))];
  const step = place - scene.from;
  const close = result.quantiles.close;
  const parts = [
    stamp,
    h("span", { class: "ahead" }, h("b", {}, t("chart.median")), price(result.median.close[step], decimals)),
    ...FAN.toReversed()
      .filter(({ share }) => share !== 80 && hasSpread(result))
      .map(({ share, low, high }) =>
        pair(`${share}%`, between(close[low][step], close[high][step], decimals)),
      ),
  ];
  if (hasSpread(result) && hasDirection(result))
    parts.push(pair(t("tile.up"), chance(result.risk.prob_up[step], result.risk.prob_up_error?.[step])));
  if (result.truth?.close[step] !== undefined)
    parts.push(pair(t("chart.truth"), price(result.truth.close[step], decimals)));
  if (scene.volumes) parts.push(pair(t("col.volume"), compact(result.median.volume[step])));
  return parts;
}

/** [name, value] of a bar, as a readout shows them. */
export function ohlc(bars, at, decimals) {
  const shown = ["open", "high", "low", "close"].map((name) => [t(`short.${name}`), price(bars[name][at], decimals)]);
  if (at > 0) shown.push([t("short.change"), move(bars.close[at] / bars.close[at - 1] - 1)]);
  if (bars.volume?.[at]) shown.push([t("short.volume"), compact(bars.volume[at])]);
  return shown;
}

function layerChoice(layers, result, toggle) {
  const box = (name, label, mark) =>
    h(
      "label",
      { class: "layer" },
      h("input", {
        type: "checkbox",
        checked: layers[name],
        "data-layer": name,
        onchange: (event) => toggle(name, event.target.checked),
      }),
      h("span", { class: `mark ${mark}`, "aria-hidden": "true" }),
      label,
    );
  return h(
    "fieldset",
    { class: "layers" },
    h("legend", {}, t("chart.layers")),
    hasSpread(result) && [50, 80, 90].map((n) => box(`${n}`, t("chart.fan", { n }), `fan-${n}`)),
    box("candles", t("chart.median_candles"), "ahead"),
    box("paths", t("chart.paths"), "path"),
    result.median.volume && box("volume", t("col.volume"), "volume"),
  );
}

function barsTable(result, scene) {
  const { decimals, daily } = scene;
  const close = result.quantiles.close;
  const truth = result.truth;
  const names = ["time", "open", "high", "low", "close"];
  if (hasSpread(result)) names.push("range");
  if (hasSpread(result) && hasDirection(result)) names.push("up");
  if (result.median.volume) names.push("volume");
  if (truth) names.push("truth");
  const body = h("tbody");
  const cell = (name, step) => {
    if (name === "time") return wall(result.timestamps[step], daily);
    if (name === "range") return between(close["0.05"][step], close["0.95"][step], decimals);
    if (name === "up") return chance(result.risk.prob_up[step], result.risk.prob_up_error?.[step]);
    if (name === "volume") return compact(result.median.volume[step]);
    if (name === "truth") return price(truth.close[step], decimals);
    return price(result.median[name][step], decimals);
  };
  const row = (step) =>
    h(
      "tr",
      {},
      names.map((name, at) => h(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}, cell(name, step))),
    );
  const showRows = (count) =>
    fill(
      body,
      Array.from({ length: count }, (_, step) => row(step)),
    );
  const total = result.timestamps.length;
  showRows(Math.min(total, FIRST_ROWS));
  const more =
    total > FIRST_ROWS &&
    h(
      "button",
      { type: "button", class: "plain", onclick: () => (showRows(total), more.remove()) },
      t("table.all", { n: total }),
    );
  return h(
    "section",
    { class: "card" },
    h("h2", { id: "table-title" }, t("table.title")),
    h("p", { class: "hint" }, t(hasSpread(result) ? "table.hint" : "table.hint.few")),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "table-title" },
      h(
        "table",
        { class: "bars" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            names.map((name) => h("th", { scope: "col" }, t(`table.${name}`))),
          ),
        ),
        body,
      ),
    ),
    more,
  );
}

function exportCard(item, { onAdopt, onDelete }) {
  return h(
    "section",
    { class: "card", "aria-labelledby": "export-title" },
    h("h2", { id: "export-title" }, t("export.title")),
    h(
      "div",
      { class: "exports" },
      FORMATS.map((format) =>
        h(
          "a",
          { class: "button", href: api.downloadUrl(item.id, format), download: "" },
          icon("download"),
          t(`export.${format}`),
        ),
      ),
    ),
    h(
      "div",
      { class: "exports" },
      h(
        "button",
        { type: "button", id: "copy-link", onclick: () => copyLink(item.id) },
        icon("link"),
        t("export.link"),
      ),
      h("button", { type: "button", onclick: () => onAdopt(item) }, icon("reset"), t("export.adopt")),
      h("button", { type: "button", class: "quiet-danger", onclick: () => onDelete(item) }, icon("trash"), t("delete")),
    ),
  );
}

async function copyLink(id) {
  const link = `${location.origin}/#/forecasts/${encodeURIComponent(id)}`;
  try {
    await navigator.clipboard.writeText(link);
    toast(t("export.copied"));
  } catch {
    // Only pages on https or this very machine may write to the clipboard; the address bar holds the same link.
    toast(link);
  }
}

/** A number, or the words of a choice. */
const setting = (name, value) => (typeof value === "string" ? t(`${name}.${value}`) : digits(value));

function settingsCard(item, result) {
  const { parameters, metadata, input } = result;
  const facts = [
    [t("set.series"), [input.symbol, input.name].filter(Boolean).join(" · ")],
    [t("report.frequency"), frequency(input.frequency)],
    [t("report.calendar"), metadata.calendar ?? input.calendar ?? "–"],
    [t("set.context"), integer(metadata.context_length ?? parameters.context_length ?? null)],
    [t("ask.model"), parameters.model],
    [t("ask.num_samples"), integer(parameters.num_samples)],
    ...SAMPLING.map((name) => [t(`ask.${name}`), setting(name, metadata.settings?.[name] ?? parameters[name])]),
    [t("ask.seed"), String(parameters.seed)],
    [t("set.created"), moment(item.created)],
    [t("set.seconds"), metadata.seconds ? `${Number(metadata.seconds).toFixed(1)} s` : "–"],
  ];
  return h(
    "section",
    { class: "card", "aria-labelledby": "settings-title" },
    h("h2", { id: "settings-title" }, t("set.title")),
    h(
      "dl",
      { class: "facts narrow" },
      facts.map(([name, value]) => fact(name, value)),
    ),
    result.warnings?.length > 0 &&
      h(
        "ul",
        { class: "hint notes" },
        result.warnings.map((text) => h("li", {}, noteText(text))),
      ),
  );
}

/** The end of a forecast that gave no result. */
export function endedView(item, { onBack, onAgain }) {
  const failed = item.status === "failed";
  const error = item.error ?? {};
  const text = typeof error === "string" ? error : error.message;
  const code = error.code && known(`error.${error.code}`) ? t(`error.${error.code}`) : null;
  return h(
    "section",
    { class: `card ended ${item.status}` },
    icon(failed ? "warning" : "info"),
    h("h1", {}, seriesTitle(item)),
    h("p", { class: "lead" }, t(`ended.${item.status}`)),
    (code || text) && h("p", {}, [code, text].filter(Boolean).join(": ")),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "primary", onclick: () => onAgain(item) }, t("ended.again")),
      h("button", { type: "button", onclick: onBack }, t("result.back")),
    ),
  );
}
