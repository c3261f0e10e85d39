// The models: what is loaded and where, how large they are, and their cards.

import { api } from "./api.js";
import { emptyState, fact, fill, h, toast } from "./dom.js";
import { bytes, compact } from "./format.js";
import { t } from "./i18n.js";
import { headline, problem } from "./problems.js";
import { prose } from "./prose.js";
import { state } from "./state.js";

const REFRESH = 1500;

/** The view; ``id`` opens a model's card. */
export function modelsView(id) {
  const list = h("div", { class: "models" });
  const memory = h("div");
  const card = h("section", { class: "card model-card", hidden: !id, "aria-live": "off" });
  let timer = null;
  let stopped = false;

  async function load() {
    clearTimeout(timer);
    try {
      state.models = await api.models();
    } catch (error) {
      if (!stopped)
        fill(list, problem(error, t("models.unreadable"), h("button", { type: "button", onclick: load }, t("again"))));
      return;
    }
    if (stopped) return;
    show();
    if (state.models.items.some((item) => item.state === "loading")) timer = setTimeout(load, REFRESH);
  }

  function show() {
    const { items, memory_budget_bytes: budget, memory_used_bytes: used } = state.models;
    const focused = document.activeElement?.dataset?.key;
    fill(list, items.length ? items.map(row) : emptyState("chip", t("models.empty"), t("models.empty.text")));
    if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    fill(
      memory,
      budget > 0 &&
        h(
          "div",
          { class: "memory" },
          h("meter", { min: 0, max: budget, value: used, "aria-label": t("models.memory") }),
          h("span", {}, t("models.memory.text", { used: bytes(used), budget: bytes(budget) })),
        ),
    );
  }

  function row(item) {
    const devices = state.models.devices ?? [];
    const select =
      devices.length > 1 &&
      h(
        "select",
        { "aria-label": t("ask.device"), "data-key": `device-${item.id}` },
        h("option", { value: "" }, t("ask.device.auto")),
        devices.map((name) => h("option", { value: name, selected: name === item.device }, name)),
      );
    const act = (name, action) =>
      h(
        "button",
        { type: "button", "data-key": `act-${item.id}`, "data-act": name, onclick: () => change(action) },
        t(`models.${name}`),
      );
    const button =
      {
        loaded: () => act("unload", () => api.unload(item.id)),
        loading: () => h("button", { type: "button", disabled: true }, t("model.state.loading")),
      }[item.state] ?? (() => act("load", () => api.load(item.id, select ? select.value : null)));
    return h(
      "article",
      { class: `card model ${item.id === id ? "current" : ""}` },
      h(
        "header",
        {},
        h("h2", {}, item.name),
        h("span", { class: `status ${item.state}` }, t(`model.state.${item.state}`)),
      ),
      h("p", { class: "hint" }, t(`models.kind.${item.kind}`)),
      h(
        "dl",
        { class: "facts narrow" },
        fact(t("models.parameters"), item.parameters ? compact(item.parameters) : "–"),
        fact(t("models.context"), item.context ? t("bars.n", { n: item.context }) : "–"),
        fact(t("models.size"), item.bytes ? bytes(item.bytes) : "–"),
        fact(t("ask.device"), item.device ?? "–"),
      ),
      item.error && h("p", { class: "wrong" }, typeof item.error === "string" ? item.error : item.error.message),
      h(
        "div",
        { class: "row" },
        item.state !== "loaded" && item.state !== "loading" && select,
        button(),
        h("a", { class: "button", href: `#/models/${encodeURIComponent(item.id)}` }, t("models.card")),
      ),
    );
  }

  async function change(action) {
    try {
      await action();
    } catch (error) {
      toast([headline(error), error.message].filter(Boolean).join(" ") || t("error.unknown"), "error");
    }
    await load();
  }

  async function loadCard() {
    fill(card, h("p", { class: "loading" }, t("loading")));
    try {
      const [item, { elements }] = await Promise.all([api.model(id), api.card(id)]);
      if (stopped) return;
      fill(
        card,
        h("h2", { class: "eyebrow" }, `${t("models.card")} · ${item.name}`),
        item.training_cutoff &&
          h("p", { class: "hint" }, t("models.cutoff", { stamp: item.training_cutoff.slice(0, 10) })),
        elements ? prose(elements) : h("p", {}, t("models.card.none")),
      );
    } catch (error) {
      if (!stopped) fill(card, problem(error, t("models.card.unreadable")));
    }
  }

  load();
  if (id) loadCard();
  const element = h(
    "div",
    { class: "page" },
    h("header", { class: "page-head" }, h("h1", {}, t("nav.models")), h("p", { class: "lead" }, t("models.lead"))),
    memory,
    h("div", { class: id ? "models-body with-card" : "models-body" }, list, card),
  );
  function stop() {
    stopped = true;
    clearTimeout(timer);
  }
  return { element, stop };
}
