// The room where one works: bars and settings at the side, the chart or a result in the middle.

import { api, FINAL } from "./api.js";
import { askPanel } from "./ask.js";
import { acceptDrops, barsPanel } from "./bars.js";
import { barsView } from "./barsview.js";
import { announce, confirmed, emptyState, fill, h, toast } from "./dom.js";
import { integer } from "./format.js";
import { t } from "./i18n.js";
import { problem } from "./problems.js";
import { progressCard } from "./progress.js";
import { endedView, resultView } from "./result.js";
import { adopt, chosenModel, defaultCutoff, MOST_CANDLES, request, state } from "./state.js";

export function workspace() {
  const centre = h("div", { class: "centre", id: "centre" });
  let shownForecast = null; // id of the forecast in the middle
  let progress = null;
  let turn = 0; // tells answers that come too late

  const bars = barsPanel({ onChoose: choose, onRemoved: chooseFirst });
  const ask = askPanel({ onSubmit: run, onCutoff: markCutoff });
  const view = barsView(centre, { onCutoff: () => ask.update() });
  const element = h("div", { class: "workspace" }, bars.element, centre, ask.element);
  const stopDrops = acceptDrops((file) => bars.send(file));

  // -- bars -----------------------------------------------------------------------------------------------------------

  async function choose(id, symbol) {
    const mine = (turn += 1);
    element.classList.add("waiting");
    const found = await series(id, symbol).finally(() => element.classList.remove("waiting"));
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
      fill(centre, h("p", { class: "loading" }, t("loading")));
      try {
        await choose(first.id, null);
      } catch (error) {
        fill(
          centre,
          problem(
            error,
            t("bars.unreadable", { name: first.name }),
            h("button", { type: "button", onclick: chooseFirst }, t("again")),
          ),
        );
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
    await view.show(above);
  }

  /** The cutoff changed in the panel: show it on the chart, which a result may hide. */
  async function markCutoff() {
    if (!view.isShown()) {
      if (state.ask.mode !== "replay" || !shownForecast) return;
      leaveForecast();
      await showBars();
    }
    await view.mark();
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
      if (mine === turn)
        fill(
          centre,
          problem(error, t("result.unreadable"), h("button", { type: "button", onclick: back }, t("result.back"))),
        );
      return;
    }
    if (mine !== turn) return;
    await settle(item);
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

  /** Who comes by a link finds the settings and bars of that forecast in the panels. */
  async function settle(item) {
    if (state.chosen) return;
    adopt(item.parameters);
    const known = state.bars?.find((other) => other.id === item.parameters.bars);
    try {
      if (known) state.chosen = await series(known.id, item.parameters.symbol);
    } catch {
      // The forecast can be read without its bars; choosing them says what is wrong with them.
    }
    bars.update();
    ask.update();
  }

  async function showResult(item, mine) {
    try {
      const result = await api.result(item.id);
      if (mine !== turn) return;
      const view = resultView(item, result, { onBack: back, onAdopt: takeOver, onDelete: remove });
      element.classList.add("centre-first");
      fill(centre, view.element);
      centre.scrollIntoView({ block: "start" });
      await view.draw();
    } catch (error) {
      if (mine === turn)
        fill(
          centre,
          problem(error, t("result.unreadable"), h("button", { type: "button", onclick: back }, t("result.back"))),
        );
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
      if (state.chosen?.id !== known.id || state.chosen.symbol !== item.parameters.symbol)
        await choose(known.id, item.parameters.symbol);
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
    const sure = await confirmed({
      title: t("history.delete.title", { name: item.symbol || item.bars_name }),
      text: t("history.delete.text"),
      yes: t("delete"),
      no: t("cancel"),
      danger: true,
    });
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
