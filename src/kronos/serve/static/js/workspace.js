// The room where one works: bars and settings at the side, the chart or a result in the middle.

import { api, FINAL } from "./api.js";
import { acceptDrops, barsPanel } from "./bars.js";
import { askPanel } from "./ask.js";
import { cutoffShapes, drawBars } from "./charts.js";
import { announce, confirmed, emptyState, fill, h, toast } from "./dom.js";
import { decimalsOf, frequency, integer, isDaily, wall } from "./format.js";
import { t } from "./i18n.js";
import { loadPlotly, show } from "./plot.js";
import { problem } from "./problems.js";
import { progressCard } from "./progress.js";
import { reportCard } from "./report.js";
import { endedView, ohlc, resultView } from "./result.js";
import { adopt, chosenModel, cutoffPosition, defaultCutoff, MOST_CANDLES, request, state } from "./state.js";

export function workspace() {
  const centre = h("div", { class: "centre", id: "centre" });
  let shownForecast = null; // id of the forecast in the middle
  let progress = null;
  let host = null; // the chart of the bars
  let turn = 0; // tells answers that come too late

  const bars = barsPanel({ onChoose: choose, onRemoved: chooseFirst });
  const ask = askPanel({ onSubmit: run, onCutoff: markCutoff });
  const element = h("div", { class: "workspace" }, bars.element, centre, ask.element);
  const stopDrops = acceptDrops((file) => bars.send(file));

  // -- bars -----------------------------------------------------------------------------------------------------------

  async function choose(id, symbol) {
    const mine = (turn += 1);
    const found = await series(id, symbol);
    if (mine !== turn) return;
    state.chosen = found;
    const { candles, item } = found;
    state.bars = state.bars.map((other) => (other.id === id ? { ...other, rows: item.rows ?? other.rows } : other));
    state.ask.cutoff = state.ask.mode === "replay" ? defaultCutoff(candles, state.ask.horizon) : null;
    ask.update();
    leaveForecast();
    announce(t("bars.shown", { name: item.name, n: integer(candles.total) }));
    await showBars();
  }

  /** A series with its report and last bars; the first of several where none is named. */
  async function series(id, symbol) {
    let item = await api.bars(id, symbol);
    const symbols = state.chosen?.id === id ? state.chosen.symbols : (item.symbols ?? []);
    let name = symbol;
    if (!symbol && symbols.length > 1) {
      name = symbols[0];
      item = await api.bars(id, name);
    }
    const candles = await api.candles(id, name, MOST_CANDLES);
    return { id, symbol: name, symbols, item, report: item.report, preview: item.preview, candles };
  }

  async function chooseFirst() {
    state.chosen = null;
    // A daily index is what most readers know.
    const samples = state.bars?.filter((item) => item.source === "sample") ?? [];
    const first = samples.find((item) => item.name === "sp500") ?? samples[0] ?? state.bars?.[0];
    if (first) {
      try {
        await choose(first.id, null);
      } catch (error) {
        fill(centre, problem(error, t("bars.unreadable", { name: first.name }), h("button", { type: "button", onclick: chooseFirst }, t("again"))));
      }
      return bars.update();
    }
    ask.update();
    fill(centre, h("section", { class: "card" }, emptyState("candles", t("bars.empty"), t("bars.empty.text"))));
  }

  function leaveForecast() {
    turn += 1;
    progress?.stop();
    progress = null;
    shownForecast = null;
    if (location.hash !== "#/" && location.hash !== "") history.pushState(null, "", "#/");
  }

  async function showBars(above = null) {
    element.classList.toggle("centre-first", above !== null);
    if (!state.chosen) return;
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
    const label = t("chart.label", {
      name: title,
      n: candles.timestamp.length,
      first: wall(candles.timestamp[0], daily),
      last: wall(candles.timestamp.at(-1), daily),
    });
    const frame = h("div", { class: "plot" });
    const hint = h("p", { class: "hint pick-hint" }, t("chart.pick"));
    const zoom = (count) => show(host, Math.max(-0.5, candles.timestamp.length - count - 0.5), candles.timestamp.length - 0.5);
    const earlier = candles.total > candles.timestamp.length && h("button", { type: "button", class: "plain", onclick: loadEarlier }, t("chart.earlier"));
    read(null);
    fill(
      centre,
      above,
      h(
        "section",
        { class: "card chart-card", "aria-labelledby": "chart-title" },
        h(
          "header",
          { class: "chart-head" },
          h("div", {}, h("h1", { id: "chart-title" }, title), h("p", { class: "hint" }, [frequency(report.frequency), t("bars.rows", { n: candles.total, count: integer(candles.total) }), `${wall(report.first, daily)} – ${wall(report.last, daily)}`].join(" · "))),
          h("div", { class: "zooms", role: "group", "aria-label": t("chart.zoom") }, [60, 250].map((n) => h("button", { type: "button", onclick: () => zoom(n) }, t("chart.zoom.n", { n }))), h("button", { type: "button", onclick: () => zoom(candles.timestamp.length) }, t("chart.zoom.all")), earlier),
        ),
        readout,
        frame,
        hint,
      ),
      reportCard(state.chosen),
    );
    hint.hidden = state.ask.mode !== "replay";
    try {
      host = await drawBars(frame, candles, {
        label,
        cutoff: replayCutoff(),
        onHover: read,
        onPick: (at) => {
          if (state.ask.mode !== "replay") return;
          state.ask.cutoff = candles.timestamp[at];
          ask.update();
          markCutoff();
        },
      });
    } catch (error) {
      fill(frame, problem(error, t("error.plotly"), h("button", { type: "button", onclick: () => showBars(above) }, t("again"))));
    }
  }

  const replayCutoff = () => (state.ask.mode === "replay" ? cutoffPosition(state.chosen?.candles, state.ask.cutoff) : null);

  async function loadEarlier() {
    const { chosen } = state;
    const older = await api.candles(chosen.id, chosen.symbol, MOST_CANDLES, chosen.candles.timestamp[0]).catch((error) => toast(error.message, "error"));
    if (!older || chosen !== state.chosen) return;
    const both = { ...chosen.candles };
    for (const name of ["timestamp", "open", "high", "low", "close", "volume"]) {
      both[name] = older[name] && both[name] ? [...older[name], ...both[name]] : null;
    }
    chosen.candles = both;
    await showBars();
  }

  /** Draw the line of the cutoff, and bring it into view. */
  async function markCutoff() {
    const hint = centre.querySelector(".pick-hint");
    if (hint) hint.hidden = state.ask.mode !== "replay";
    if (!host?.isConnected || !centre.contains(host)) {
      if (state.ask.mode === "replay" && shownForecast) {
        leaveForecast();
        await showBars();
      }
      return;
    }
    const at = replayCutoff();
    if (at === null && state.ask.mode === "replay" && state.ask.cutoff && state.chosen.candles.total > state.chosen.candles.timestamp.length) {
      return findCutoff();
    }
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

  /** A date before the bars at hand: fetch earlier ones until it is among them. */
  async function findCutoff() {
    const wanted = state.ask.cutoff;
    const { candles } = state.chosen;
    const before = candles.timestamp.length;
    if (candles.timestamp[0].slice(0, wanted.length) > wanted) {
      await loadEarlier();
      const grown = state.chosen.candles.timestamp;
      if (grown.length === before) state.ask.cutoff = grown[0];
      else if (grown[0].slice(0, wanted.length) > wanted && grown.length < state.chosen.candles.total) return findCutoff();
    }
    const stamps = state.chosen.candles.timestamp;
    const at = Math.max(stamps.findLastIndex((stamp) => stamp.slice(0, wanted.length) <= wanted), 0);
    state.ask.cutoff = stamps[at];
    ask.update();
    return markCutoff();
  }

  // -- forecasts ------------------------------------------------------------------------------------------------------

  async function run() {
    ask.trouble();
    ask.busy(true);
    try {
      await placeModel();
      const item = await api.forecast(request());
      announce(t("run.accepted"));
      location.hash = `#/forecasts/${encodeURIComponent(item.id)}`;
    } catch (error) {
      ask.trouble(problem(error, t("run.refused")));
    } finally {
      ask.busy(false);
    }
  }

  /** Bring the model to the device that was asked for, if it is elsewhere. */
  async function placeModel() {
    const model = chosenModel();
    const { device } = state.ask;
    if (!device || (model?.state === "loaded" && model.device === device)) return;
    let item = await api.load(model.id, device);
    while (item.state === "loading") {
      await new Promise((resolve) => setTimeout(resolve, 700));
      item = await api.model(model.id);
    }
    if (item.state === "failed") throw new Error(item.error ?? t("model.state.failed"));
    state.models = await api.models();
    ask.update();
  }

  async function showForecast(id) {
    const mine = (turn += 1);
    progress?.stop();
    progress = null;
    shownForecast = id;
    let item;
    try {
      item = await api.status(id);
    } catch (error) {
      if (mine === turn) fill(centre, problem(error, t("result.unreadable"), h("button", { type: "button", onclick: back }, t("result.back"))));
      return;
    }
    if (mine !== turn) return;
    if (!FINAL.includes(item.status)) {
      progress = progressCard(item, { onEnd: () => mine === turn && showForecast(id) });
      await showBars(progress.element);
      centre.scrollIntoView({ block: "start" });
      return;
    }
    if (item.status === "done") await showResult(item, mine);
    else {
      element.classList.add("centre-first");
      fill(centre, endedView(item, { onBack: back, onAgain: again }));
    }
  }

  async function showResult(item, mine) {
    try {
      const result = await api.result(item.id);
      if (mine !== turn) return;
      const view = resultView(item, result, { onBack: back, onAdopt: takeOver, onDelete: remove });
      element.classList.add("centre-first");
      host = null;
      fill(centre, view.element);
      centre.scrollIntoView({ block: "start" });
      await view.draw();
    } catch (error) {
      if (mine === turn) fill(centre, problem(error, t("result.unreadable"), h("button", { type: "button", onclick: back }, t("result.back"))));
    }
  }

  function back() {
    location.hash = "#/";
  }

  /** Put the settings of a forecast into the panel, with its bars where they are still there. */
  async function takeOver(item) {
    const known = state.bars?.find((other) => other.id === item.parameters.bars);
    adopt(item.parameters);
    if (known) {
      const cutoff = state.ask.cutoff;
      if (state.chosen?.id !== known.id || state.chosen.symbol !== item.parameters.symbol) await choose(known.id, item.parameters.symbol);
      state.ask.cutoff = cutoff;
    } else toast(t("export.adopt.gone"));
    ask.update();
    back();
  }

  async function again(item) {
    try {
      const next = await api.forecast(item.parameters);
      location.hash = `#/forecasts/${encodeURIComponent(next.id)}`;
    } catch (error) {
      toast(error.message || t("error.unreachable"), "error");
    }
  }

  async function remove(item) {
    const sure = await confirmed({ title: t("history.delete.title", { name: item.symbol || item.bars_name }), text: t("history.delete.text"), yes: t("delete"), no: t("cancel"), danger: true });
    if (!sure) return;
    try {
      await api.remove(item.id);
      toast(t("history.deleted"));
      location.hash = "#/history";
    } catch (error) {
      toast(error.message || t("error.unknown"), "error");
    }
  }

  return {
    element,
    /** Show the bars, or a forecast. */
    async open(id) {
      if (id) return showForecast(id);
      progress?.stop();
      progress = null;
      shownForecast = null;
      turn += 1;
      if (state.chosen) {
        await showBars();
        return markCutoff();
      }
      return chooseFirst();
    },
    update() {
      bars.update();
      ask.update();
    },
    stop() {
      turn += 1;
      progress?.stop();
      stopDrops();
    },
  };
}
