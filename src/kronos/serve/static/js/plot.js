// plotly: loading it, the look of every chart, and how a chart is moved about.

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { overview } from "./overview.js";

let loading = null;

/** Load plotly.js once, from this server. */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    quietStyles();
    const script = document.createElement("script");
    script.src = "/static/plotly.min.js";
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error(t("error.plotly")));
    };
    document.head.append(script);
  });
  return loading;
}

/**
 * plotly adds style sheets of its own (one for its charts, which base.css replaces, one for a map library that is never
 * drawn here); the content policy refuses inline styles. Elements of these ids tell it that they are there already.
 */
function quietStyles() {
  const ids = ["plotly.js-style-global", "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53"];
  for (const id of ids) {
    const mark = document.createElement("meta");
    mark.id = id;
    mark.className = "no-inline-styles";
    document.head.append(mark);
  }
}

const COLOURS = [
  "up",
  "down",
  "ahead",
  "other",
  "ink",
  "soft",
  "grid",
  "fan-90",
  "fan-80",
  "fan-50",
  "other-fan",
  "path",
];

/** The colours of the present theme, from the style sheet: the one place where they are written. */
export function palette() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = Object.fromEntries(COLOURS.map((name) => [name, read(name)]));
  probe.remove();
  return colours;
}

const FONT = 'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';

/** What all charts share. Bars stand side by side whatever the time between them, so nights leave no holes. */
export function layout(labels, { volume, height, decimals, range }) {
  const colours = palette();
  const axis = { gridcolor: colours.grid, zeroline: false, tickfont: { color: colours.soft, size: 12 } };
  const right = { ...axis, side: "right", fixedrange: true };
  return {
    height,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: colours.soft },
    margin: { l: 4, r: 62, t: 8, b: labels[0]?.includes("<br>") ? 40 : 24 },
    showlegend: false,
    hovermode: "x",
    hoverdistance: 80,
    // A finger on the chart scrolls the page; the slider below moves the bars.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "pan",
    bargap: 0.3,
    xaxis: {
      ...axis,
      type: "category",
      categoryorder: "array",
      categoryarray: labels,
      range: range ?? [-0.5, labels.length - 0.5],
      tickangle: 0,
      ticklabeloverflow: "hide past div",
      showgrid: false,
      rangeslider: { visible: false },
      anchor: volume ? "y2" : "y",
      showspikes: true,
      spikemode: "across",
      spikesnap: "cursor",
      spikethickness: 1,
      spikedash: "dot",
      spikecolor: colours.soft,
    },
    yaxis: { ...right, domain: volume ? [0.23, 1] : [0, 1], tickformat: `,.${Math.min(decimals, 6)}~f`, nticks: 8 },
    yaxis2: { ...right, domain: [0, 0.18], showgrid: false, showticklabels: false },
  };
}

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: false, showTips: false };

/** Labels of the bars: the day for daily bars, else the clock above the day; always distinct. */
export function labelsOf(stamps, daily) {
  const seen = new Map();
  return stamps.map((stamp) => {
    const plain = daily ? stamp.slice(0, 10) : `${stamp.slice(11, 16)}<br>${stamp.slice(0, 10)}`;
    const times = (seen.get(plain) ?? 0) + 1; // the hour that a clock change repeats
    seen.set(plain, times);
    return times > 1 ? plain + "\u200b".repeat(times) : plain;
  });
}

/** As many ticks as fit; plotly spaces those of a category axis without looking at how wide their labels are. */
const tickCount = (width) => Math.max(2, Math.floor(width / 105));

/**
 * Draw, or redraw, and keep the chart in step with its frame: width, ticks, and a price axis that fits what is seen.
 *
 * label: the chart in words; envelope: {low, high} arrays by position, the extremes to be shown at each bar; volumes:
 * array or null; slider: numbers by position for the range slider, or null. Resolves to the chart, or to null where its
 * frame has gone meanwhile.
 */
export async function draw(frame, traces, chartLayout, { label, envelope, volumes, slider, onHover, onPick }) {
  const Plotly = await loadPlotly();
  if (!frame.isConnected) return null;
  const host = h("div", { role: "img", "aria-label": label });
  const labels = chartLayout.xaxis.categoryarray;
  const nameOf = (at) => labels[at].split("<br>").reverse().join(" ");
  const range = chartLayout.xaxis.range;
  const small = slider && overview(slider, { range, nameOf, onRange: (from, to) => show(host, from, to) });
  fill(frame, host, small?.element);
  chartLayout.width = frame.clientWidth;
  chartLayout.xaxis.nticks = tickCount(frame.clientWidth);
  Object.assign(chartLayout, fitted(range, envelope, volumes, chartLayout));
  await Plotly.newPlot(host, traces, chartLayout, CONFIG);

  let shown = range.join();
  host.on("plotly_relayout", () => {
    const now = host.layout.xaxis.range;
    if (now.join() === shown) return;
    shown = now.join();
    small?.set(now);
    const fit = fitted(now, envelope, volumes, host.layout);
    Plotly.relayout(host, { "yaxis.range": fit.yaxis.range, ...(fit.yaxis2 && { "yaxis2.range": fit.yaxis2.range }) });
  });
  const positions = new Map(labels.map((name, at) => [name, at]));
  const positionOf = (event) => positions.get(event.points[0].x);
  if (onHover) {
    host.on("plotly_hover", (event) => onHover(positionOf(event)));
    host.on("plotly_unhover", () => onHover(null));
  }
  if (onPick) host.on("plotly_click", (event) => onPick(positionOf(event)));
  const watcher = new ResizeObserver(() => {
    if (!frame.isConnected || !frame.contains(host)) return watcher.disconnect();
    const width = frame.clientWidth;
    if (!width || Math.abs(width - host.layout.width) < 2) return undefined;
    return Plotly.relayout(host, { width, "xaxis.nticks": tickCount(width) });
  });
  watcher.observe(frame);
  return host;
}

/** Axis ranges that fit the bars between two positions. */
function fitted(range, envelope, volumes, chartLayout) {
  const from = Math.max(0, Math.ceil(range[0]));
  const to = Math.min(envelope.low.length - 1, Math.floor(range[1]));
  let low = Infinity;
  let high = -Infinity;
  let most = 0;
  for (let at = from; at <= to; at += 1) {
    if (envelope.low[at] !== null) low = Math.min(low, envelope.low[at]);
    if (envelope.high[at] !== null) high = Math.max(high, envelope.high[at]);
    if (volumes) most = Math.max(most, volumes[at] ?? 0);
  }
  if (low > high) return { yaxis: chartLayout.yaxis };
  const room = (high - low || Math.abs(high) * 0.01 || 1) * 0.06;
  const fit = { yaxis: { ...chartLayout.yaxis, range: [low - room, high + room], autorange: false } };
  if (volumes) fit.yaxis2 = { ...chartLayout.yaxis2, range: [0, most * 1.08 || 1], autorange: false };
  return fit;
}

/** Show the bars between two positions. */
export async function show(host, from, to) {
  const Plotly = await loadPlotly();
  if (host) await Plotly.relayout(host, { "xaxis.range": [from, to] });
}
