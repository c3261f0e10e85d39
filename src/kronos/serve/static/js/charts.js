// The charts: bars as they are, a forecast with its fan, two forecasts side by side.

import { t } from "./i18n.js";
import { draw, labelsOf, layout, palette } from "./plot.js";
import { decimalsOf, isDaily } from "./format.js";

const LEAST_PAST = 60;
const MOST_PAST = 240;
export const FAN = [
  { share: 90, low: "0.05", high: "0.95" },
  { share: 80, low: "0.1", high: "0.9" },
  { share: 50, low: "0.25", high: "0.75" },
];

/** Whether enough distinct paths were drawn for ranges, chances and risk; else the median is all there is. */
export const hasSpread = (result) => result.quantiles.close["0.05"][0] !== null;
/** Whether the paths go one way rather than the other; results of older servers all do. */
export const hasDirection = (result) => !result.risk.direction;

const heightOf = (frame) => (frame.clientWidth < 560 ? 340 : frame.clientWidth < 1000 ? 460 : 540);

function candlestick(x, bars, name, colours, faint = false) {
  const side = (colour) => ({ line: { color: colour, width: 1 }, fillcolor: faint ? "rgba(0,0,0,0)" : colour });
  return {
    type: "candlestick",
    x,
    open: bars.open,
    high: bars.high,
    low: bars.low,
    close: bars.close,
    name,
    increasing: side(faint ? colours.ahead : colours.up),
    decreasing: faint ? { line: { color: colours.ahead, width: 1 }, fillcolor: colours.ahead } : side(colours.down),
    hoverinfo: "none",
    whiskerwidth: 0,
  };
}

function volumeBars(x, bars, colours) {
  const paint = bars.close.map((close, at) => (close >= bars.open[at] ? colours.up : colours.down));
  return {
    type: "bar",
    x,
    y: bars.volume,
    yaxis: "y2",
    name: t("col.volume"),
    marker: { color: paint, opacity: 0.5, line: { width: 0 } },
    hoverinfo: "none",
  };
}

const traded = (volume) => Boolean(volume?.some((value) => value > 0));

/** Candles and volume with the range slider. cutoff: position of the last bar that a replay may see, or null. */
export async function drawBars(frame, candles, { label, cutoff, onHover, onPick }) {
  const daily = isDaily(candles.timestamp);
  const labels = labelsOf(candles.timestamp, daily);
  const colours = palette();
  const withVolume = traded(candles.volume);
  const chart = layout(labels, {
    volume: withVolume,
    height: heightOf(frame),
    decimals: decimalsOf(candles.close),
    range: [Math.max(0, labels.length - (frame.clientWidth < 560 ? 70 : 180)) - 0.5, labels.length - 0.5],
  });
  if (cutoff !== null) chart.shapes = cutoffShapes(cutoff, labels.length, colours);
  const traces = [candlestick(labels, candles, t("chart.bars"), colours)];
  if (withVolume) traces.push(volumeBars(labels, candles, colours));
  return draw(frame, traces, chart, {
    label,
    envelope: candles,
    volumes: withVolume ? candles.volume : null,
    slider: candles.close,
    onHover,
    onPick,
  });
}

/** The line behind the last bar that is seen, and the veil over what is kept back. */
export function cutoffShapes(cutoff, count, colours = palette()) {
  const across = { xref: "x", yref: "paper", y0: 0, y1: 1 };
  return [
    {
      ...across,
      type: "rect",
      x0: cutoff + 0.5,
      x1: count - 0.5,
      fillcolor: colours["fan-90"],
      line: { width: 0 },
      layer: "below",
    },
    { ...across, type: "line", x0: cutoff + 0.5, x1: cutoff + 0.5, line: { color: colours.ahead, width: 2 } },
  ];
}

/** Everything that a result's chart shows, by position: the past first, then the bars ahead. */
export function sceneOf(result) {
  const past = result.history;
  const stamps = [...past.timestamp, ...result.timestamps];
  const daily = isDaily(stamps);
  const close = result.quantiles.close;
  const from = past.timestamp.length;
  const start = past.close.at(-1);
  const truth = result.truth;
  const [lowest, highest] = hasSpread(result)
    ? [close["0.05"], close["0.95"]]
    : [result.median.low, result.median.high];
  const extreme = (pick, ahead, real) =>
    result.timestamps.map((_, step) => (real?.[step] === undefined ? ahead[step] : pick(ahead[step], real[step])));
  return {
    daily,
    stamps,
    labels: labelsOf(stamps, daily),
    from,
    start,
    decimals: decimalsOf(past.close),
    envelope: {
      low: [...past.low, ...extreme(Math.min, lowest, truth?.low)],
      high: [...past.high, ...extreme(Math.max, highest, truth?.high)],
    },
    volumes: traded(past.volume) && result.median.volume ? [...past.volume, ...result.median.volume] : null,
  };
}

/** A forecast over its history. layers: which parts are shown. */
export async function drawForecast(frame, result, scene, layers, { label, range, onHover }) {
  const colours = palette();
  const { labels, from } = scene;
  const past = labels.slice(0, from);
  const ahead = labels.slice(from);
  const joined = labels.slice(from - 1);
  const narrow = frame.clientWidth < 560;
  const before = Math.min(Math.max((narrow ? 1.5 : 3) * ahead.length, narrow ? 40 : LEAST_PAST), MOST_PAST);
  const withVolume = scene.volumes !== null && layers.volume;
  const chart = layout(labels, {
    volume: withVolume,
    height: heightOf(frame),
    decimals: scene.decimals,
    range: range ?? [Math.max(0, from - before) - 0.5, labels.length - 0.5],
  });
  chart.shapes = [
    {
      type: "line",
      xref: "x",
      yref: "paper",
      x0: from - 0.5,
      x1: from - 0.5,
      y0: 0,
      y1: 1,
      line: { color: colours.soft, width: 1, dash: "dot" },
    },
  ];
  const traces = [candlestick(past, result.history, t("chart.bars"), colours)];
  for (const { share, low, high } of FAN.filter((band) => layers[band.share] && hasSpread(result))) {
    const close = result.quantiles.close;
    traces.push(
      area(joined, [scene.start, ...close[low]], [scene.start, ...close[high]], colours[`fan-${share}`], `${share}%`),
    );
  }
  if (layers.paths && result.paths) traces.push(spaghetti(joined, scene.start, result.paths.close, colours));
  traces.push(
    line(joined, [scene.start, ...result.median.close], colours.ahead, t("chart.median"), {
      width: layers.candles ? 1 : 2,
    }),
  );
  if (layers.candles) traces.push(candlestick(ahead, result.median, t("chart.median_candles"), colours, true));
  if (result.truth)
    traces.push(candlestick(ahead.slice(0, result.truth.close.length), result.truth, t("chart.truth"), colours));
  if (withVolume) traces.push(...volumeTraces(result, past, ahead, colours));
  const slider = [...result.history.close, ...result.median.close];
  const volumes = withVolume ? scene.volumes : null;
  return draw(frame, traces, chart, { label, envelope: scene.envelope, volumes, slider, onHover });
}

function volumeTraces(result, past, ahead, colours) {
  const expected = {
    type: "bar",
    x: ahead,
    y: result.median.volume,
    yaxis: "y2",
    name: t("chart.median_volume"),
    marker: { color: colours.ahead, opacity: 0.5, line: { width: 0 } },
    hoverinfo: "none",
  };
  const traces = [volumeBars(past, result.history, colours), expected];
  if (traded(result.truth?.volume)) {
    traces.push({
      type: "scatter",
      mode: "markers",
      x: ahead.slice(0, result.truth.volume.length),
      y: result.truth.volume,
      yaxis: "y2",
      name: t("chart.true_volume"),
      marker: { symbol: "line-ew", size: 7, line: { color: colours.ink, width: 1.5 } },
      hoverinfo: "none",
    });
  }
  return traces;
}

function area(x, low, high, colour, name) {
  return {
    type: "scatter",
    mode: "lines",
    x: [...x, ...x.toReversed()],
    y: [...high, ...low.toReversed()],
    fill: "toself",
    fillcolor: colour,
    line: { width: 0 },
    hoverinfo: "skip",
    name,
  };
}

function line(x, y, colour, name, { width = 2, dash = "solid" } = {}) {
  return { type: "scatter", mode: "lines", x, y, line: { color: colour, width, dash }, hoverinfo: "none", name };
}

/** All single paths as one trace, broken between them: one trace a path would be slow. */
function spaghetti(x, start, paths, colours) {
  return {
    type: "scatter",
    mode: "lines",
    x: paths.flatMap(() => [...x, null]),
    y: paths.flatMap((path) => [start, ...path, null]),
    line: { color: colours.path, width: 1 },
    hoverinfo: "skip",
    name: t("chart.paths"),
  };
}

/**
 * Two forecasts on one chart: medians and 80 % bands. Of one series they share its time and prices; of two, each is
 * counted in bars ahead and in per cent of its last close.
 */
export async function drawCompare(frame, [first, second], sameSeries, label) {
  const colours = palette();
  const paints = [
    { line: colours.ahead, fan: colours["fan-80"] },
    { line: colours.other, fan: colours["other-fan"] },
  ];
  const views = [first, second].map((result) => (sameSeries ? inPrices(result) : inPercent(result)));
  const stamps = [...new Set(views.flatMap((view) => view.x))];
  if (sameSeries) stamps.sort();
  const labels = sameSeries ? labelsOf(stamps, isDaily(stamps)) : stamps;
  const place = new Map(stamps.map((stamp, at) => [stamp, labels[at]]));
  const decimals = sameSeries ? decimalsOf(first.history.close) : 2;
  const chart = layout(labels, { volume: false, height: heightOf(frame) - 60, decimals });
  if (!sameSeries) chart.yaxis.ticksuffix = "%";
  const traces = [];
  const low = new Array(labels.length).fill(null);
  const high = new Array(labels.length).fill(null);
  views.forEach((view, index) => {
    const x = view.x.map((stamp) => place.get(stamp));
    const past = view.close.length - view.median.length;
    traces.push(area(x.slice(past), view.low, view.high, paints[index].fan, "80%"));
    traces.push(line(x.slice(0, past + 1), view.close.slice(0, past + 1), colours.soft, t("chart.bars")));
    traces.push(
      line(x.slice(past), view.median, paints[index].line, `${t("chart.median")} ${"AB"[index]}`, {
        dash: index ? "dash" : "solid",
      }),
    );
    view.x.forEach((stamp, at) => {
      const place = stamps.indexOf(stamp);
      const values = at < past ? [view.close[at]] : [view.low[at - past], view.high[at - past]];
      low[place] = Math.min(low[place] ?? Infinity, ...values);
      high[place] = Math.max(high[place] ?? -Infinity, ...values);
    });
  });
  return draw(frame, traces, chart, { label, envelope: { low, high }, volumes: null, slider: null });
}

/** The last bars and the forecast in prices; median, low and high begin at the last close. */
function inPrices(result) {
  const count = Math.min(result.history.close.length, Math.max(40, 2 * result.timestamps.length));
  const close = result.history.close.slice(-count);
  const start = close.at(-1);
  const known = (level) => result.quantiles.close[level].map((value, at) => value ?? result.median.close[at]);
  return {
    x: [...result.history.timestamp.slice(-count), ...result.timestamps],
    close: [...close, ...result.median.close],
    median: [start, ...result.median.close],
    low: [start, ...known("0.1")],
    high: [start, ...known("0.9")],
  };
}

function inPercent(result) {
  const view = inPrices(result);
  const start = view.median[0];
  const scaled = (values) => values.map((value) => (value / start - 1) * 100);
  const past = view.x.length - result.timestamps.length;
  return {
    x: view.x.map((_, at) => `${at - past + 1}`),
    close: scaled(view.close),
    median: scaled(view.median),
    low: scaled(view.low),
    high: scaled(view.high),
  };
}
