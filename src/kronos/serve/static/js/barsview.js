// The bars as they are, in the middle of the workspace: chart, range, cutoff of a replay, data report.

import { api } from "./api.js";
import { cutoffShapes, drawBars } from "./charts.js";
import { fill, h, toast } from "./dom.js";
import { decimalsOf, frequency, integer, isDaily, wall } from "./format.js";
import { t } from "./i18n.js";
import { loadPlotly, show as showRange } from "./plot.js";
import { problem } from "./problems.js";
import { reportCard } from "./report.js";
import { ohlc } from "./result.js";
import { cutoffPosition, MOST_CANDLES, state } from "./state.js";

/** A time about half a page of bars after another one, written as the series writes its times. */
function later(stamp, { report, candles }) {
  const clock = (text) => Date.parse(`${text.slice(0, 10)}T${text.slice(11, 16) || "00:00"}Z`);
  const step = (clock(report.last) - clock(report.first)) / Math.max(candles.total - 1, 1);
  const moment = new Date(clock(stamp) + step * (MOST_CANDLES / 2));
  return moment.toISOString().slice(0, 19) + report.last.slice(19);
}

/** The view fills ``centre``; onCutoff() is called when the reader picked another cutoff on the chart. */
export function barsView(centre, { onCutoff }) {
  let host = null; // the chart

  async function show(above = null) {
    if (!state.chosen) {
      fill(centre, above);
      return;
    }
    const { candles, report, item, symbol } = state.chosen;
    const daily = isDaily(candles.timestamp);
    const decimals = decimalsOf(candles.close);
    const readout = h("p", { class: "readout", "aria-hidden": "true" });
    const read = (at) => {
      const place = at ?? candles.timestamp.length - 1;
      fill(
        readout,
        h("span", { class: "when" }, wall(candles.timestamp[place], daily)),
        ohlc(candles, place, decimals).map(([name, value]) => h("span", {}, h("b", {}, name), value)),
      );
    };
    const title = symbol ?? report.symbol ?? item.name;
    const count = candles.timestamp.length;
    const [first, last] = [0, count - 1].map((at) => wall(candles.timestamp[at], daily));
    const frame = h("div", { class: "plot" });
    const hint = h("p", { class: "hint pick-hint" }, t("chart.pick"));
    read(null);
    fill(
      centre,
      above,
      h(
        "section",
        { class: "card chart-card", "aria-labelledby": "chart-title" },
        h("header", { class: "chart-head" }, heading(title, state.chosen, daily), zooms(state.chosen)),
        readout,
        frame,
        hint,
      ),
      reportCard(state.chosen),
    );
    hint.hidden = state.ask.mode !== "replay";
    try {
      host = await drawBars(frame, candles, {
        label: t("chart.label", { name: title, n: count, first, last }),
        cutoff: replayCutoff(),
        onHover: read,
        onPick: (at) => {
          if (state.ask.mode !== "replay") return;
          state.ask.cutoff = candles.timestamp[at];
          onCutoff();
          mark();
        },
      });
    } catch (error) {
      fill(
        frame,
        problem(error, t("error.plotly"), h("button", { type: "button", onclick: () => show(above) }, t("again"))),
      );
    }
  }

  function heading(title, { candles, report }, daily) {
    const facts = [
      frequency(report.frequency),
      t("bars.rows", { n: candles.total, count: integer(candles.total) }),
      `${wall(report.first, daily)} – ${wall(report.last, daily)}`,
    ];
    return h("div", {}, h("h1", { id: "chart-title" }, title), h("p", { class: "hint" }, facts.join(" · ")));
  }

  function zooms({ candles, report }) {
    const count = candles.timestamp.length;
    const button = (text, action, kind) => h("button", { type: "button", class: kind, onclick: action }, text);
    const zoom = (n) => showRange(host, Math.max(-0.5, count - n - 0.5), count - 0.5);
    return h(
      "div",
      { class: "zooms", role: "group", "aria-label": t("chart.zoom") },
      [60, 250].map((n) => button(t("chart.zoom.n", { n }), () => zoom(n))),
      button(t("chart.zoom.all"), () => zoom(count)),
      candles.timestamp[0] > report.first && button(t("chart.earlier"), loadEarlier, "plain"),
      candles.timestamp.at(-1) < report.last && button(t("chart.latest"), loadLatest, "plain"),
    );
  }

  const replayCutoff = () =>
    state.ask.mode === "replay" ? cutoffPosition(state.chosen?.candles, state.ask.cutoff) : null;

  async function loadEarlier() {
    const { chosen } = state;
    const older = await api
      .candles(chosen.id, chosen.symbol, MOST_CANDLES, chosen.candles.timestamp[0])
      .catch((error) => toast(error.message, "error"));
    if (!older || chosen !== state.chosen) return;
    const both = { ...chosen.candles };
    for (const name of ["timestamp", "open", "high", "low", "close", "volume"]) {
      both[name] = older[name] && both[name] ? [...older[name], ...both[name]] : null;
    }
    chosen.candles = both;
    await show();
  }

  /** Draw the line of the cutoff, and bring it into view. */
  async function mark() {
    const hint = centre.querySelector(".pick-hint");
    if (hint) hint.hidden = state.ask.mode !== "replay";
    if (!host) return;
    const at = replayCutoff();
    if (at === null && state.ask.mode === "replay" && state.ask.cutoff) return findCutoff();
    const Plotly = await loadPlotly();
    const count = state.chosen.candles.timestamp.length;
    const change = { shapes: at === null ? [] : cutoffShapes(at, count) };
    const [from, to] = host.layout.xaxis.range;
    if (at !== null && (at < from + 5 || at > to - 1)) {
      const half = (to - from) / 2;
      const left = Math.min(Math.max(-0.5, at - half), count - 0.5 - 2 * half);
      change["xaxis.range"] = [left, left + 2 * half];
    }
    await Plotly.relayout(host, change);
  }

  async function loadLatest() {
    const { chosen } = state;
    chosen.candles = await api.candles(chosen.id, chosen.symbol, MOST_CANDLES);
    await show();
  }

  /** A cutoff outside the bars at hand: show those around it, and take the last bar that is not later. */
  async function findCutoff() {
    const { chosen, ask: asked } = state;
    const wanted = asked.cutoff;
    const candles = await api
      .candles(chosen.id, chosen.symbol, MOST_CANDLES, later(wanted, chosen))
      .catch((error) => toast(error.message, "error"));
    if (!candles?.timestamp.length || chosen !== state.chosen) return;
    const at = candles.timestamp.findLastIndex((stamp) => stamp.slice(0, wanted.length) <= wanted);
    chosen.candles = candles;
    asked.cutoff = candles.timestamp[Math.max(at, 0)];
    onCutoff();
    await show();
    await mark();
  }

  return {
    show,
    mark,
    /** Is the chart of the bars on the page, or something else? */
    isShown: () => host !== null && centre.contains(host),
  };
}
