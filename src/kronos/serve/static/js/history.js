// Forecasts made before: find, open, compare two, delete.

import { api, FINAL } from "./api.js";
import { confirmed, emptyState, fill, h, icon, toast } from "./dom.js";
import { chance, integer, move, moment, seriesName } from "./format.js";
import { t } from "./i18n.js";
import { problem } from "./problems.js";

const SIZE = 20;
const STATUSES = ["done", "running", "queued", "failed", "cancelled", "interrupted"];
const REFRESH = 3000;

/** The view; stop() ends its refreshing. */
export function historyView() {
  const asked = { page: 1, q: "", status: "" };
  const picked = new Map(); // id → item, at most two
  const list = h("div", { "aria-live": "off" });
  const pager = h("nav", { class: "pager", "aria-label": t("history.pages") });
  const tray = h("div", { class: "tray", hidden: true, role: "region", "aria-label": t("history.compare") });
  let timer = null;
  let stopped = false;
  let typed = null;

  const search = h("input", {
    type: "search",
    id: "history-search",
    placeholder: t("history.search"),
    "aria-label": t("history.search"),
    oninput: () => {
      clearTimeout(typed);
      typed = setTimeout(() => {
        Object.assign(asked, { q: search.value.trim(), page: 1 });
        load();
      }, 300);
    },
  });
  const filter = h(
    "select",
    {
      "aria-label": t("history.filter"),
      onchange: () => {
        Object.assign(asked, { status: filter.value, page: 1 });
        load();
      },
    },
    h("option", { value: "" }, t("history.any")),
    STATUSES.map((status) => h("option", { value: status }, t(`status.${status}`))),
  );

  async function load() {
    clearTimeout(timer);
    let answer;
    try {
      answer = await api.forecasts(asked.page, SIZE, asked.q, asked.status);
    } catch (error) {
      if (!stopped)
        fill(list, problem(error, t("history.unreadable"), h("button", { type: "button", onclick: load }, t("again"))));
      return;
    }
    if (stopped) return;
    // A page that emptied itself, for instance by deleting its last row.
    if (!answer.items.length && asked.page > 1) {
      asked.page -= 1;
      return load();
    }
    show(answer);
    if (answer.items.some((item) => !FINAL.includes(item.status))) timer = setTimeout(load, REFRESH);
  }

  function show({ items, total }) {
    const focused = document.activeElement?.dataset?.key;
    if (items.length) fill(list, table(items));
    else fill(list, asked.q || asked.status ? nothingFound() : nothingYet());
    if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    const pages = Math.ceil(total / SIZE);
    const turn = (by, name, label) =>
      h(
        "button",
        {
          type: "button",
          "aria-label": label,
          disabled: asked.page + by < 1 || asked.page + by > pages,
          onclick: () => ((asked.page += by), load()),
        },
        icon(name),
      );
    fill(
      pager,
      pages > 1 && [
        turn(-1, "back", t("history.newer")),
        h("span", {}, t("history.page", { page: asked.page, pages, n: integer(total) })),
        turn(1, "next", t("history.older")),
      ],
    );
    showTray();
  }

  const nothingYet = () =>
    emptyState(
      "clock",
      t("history.empty"),
      t("history.empty.text"),
      h("a", { class: "button primary", href: "#/" }, t("history.first")),
    );
  const nothingFound = () => emptyState("clock", t("history.none"), t("history.none.text"));

  function table(items) {
    const names = ["pick", "created", "series", "mode", "model", "horizon", "outlook", "status", "actions"];
    return h(
      "table",
      { class: "history" },
      h("caption", { class: "unseen" }, t("nav.history")),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          names.map((name) =>
            h(
              "th",
              { scope: "col" },
              h("span", { class: name === "pick" || name === "actions" ? "unseen" : "" }, t(`history.${name}`)),
            ),
          ),
        ),
      ),
      h("tbody", {}, items.map(row)),
    );
  }

  function row(item) {
    const name = seriesName(item);
    const link = `#/forecasts/${encodeURIComponent(item.id)}`;
    const box = h("input", {
      type: "checkbox",
      checked: picked.has(item.id),
      disabled: item.status !== "done" || (picked.size === 2 && !picked.has(item.id)),
      "aria-label": t("history.pick.label", { name }),
      "data-key": `pick-${item.id}`,
      onchange: () => {
        if (box.checked) picked.set(item.id, item);
        else picked.delete(item.id);
        showTray();
        for (const other of list.querySelectorAll('tbody input[type="checkbox"]')) {
          const id = other.dataset.key.slice(5);
          other.disabled = other.dataset.done !== "yes" || (picked.size === 2 && !picked.has(id));
        }
      },
      "data-done": item.status === "done" ? "yes" : "no",
    });
    const cell = (key, ...content) => h("td", { class: `cell-${key}` }, ...content);
    return h(
      "tr",
      {},
      cell("pick", box),
      cell("created", moment(item.created)),
      cell("series", h("a", { href: link, "data-key": `open-${item.id}` }, name)),
      cell("mode", t(`mode.${item.mode}.short`)),
      cell("model", item.model),
      cell("horizon", t("bars.n", { n: item.horizon })),
      cell("outlook", outlook(item)),
      cell("status", h("span", { class: `status ${item.status}` }, t(`status.${item.status}`))),
      cell(
        "actions",
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-label": t("history.delete", { name }),
            "data-key": `delete-${item.id}`,
            onclick: () => remove(item, name),
          },
          icon("trash"),
        ),
      ),
    );
  }

  async function remove(item, name) {
    const sure = await confirmed({
      title: t("history.delete.title", { name }),
      text: t("history.delete.text"),
      yes: t("delete"),
      no: t("cancel"),
      danger: true,
    });
    if (!sure) return;
    try {
      if (!FINAL.includes(item.status)) await api.cancel(item.id);
      await api.remove(item.id);
      picked.delete(item.id);
      toast(t("history.deleted"));
    } catch (error) {
      toast(error.message || t("error.unknown"), "error");
    }
    await load();
    search.focus();
  }

  function showTray() {
    tray.hidden = picked.size === 0;
    const [first, second] = [...picked.values()];
    const ready = picked.size === 2;
    fill(
      tray,
      h(
        "span",
        {},
        ready
          ? `${seriesName(first)} · ${seriesName(second)}`
          : t("history.pick_one_more", { name: first ? seriesName(first) : "" }),
      ),
      h("button", { type: "button", onclick: () => (picked.clear(), load()) }, t("history.clear")),
      ready &&
        h(
          "a",
          {
            class: "button primary",
            href: `#/compare/${encodeURIComponent(first.id)}/${encodeURIComponent(second.id)}`,
          },
          icon("compare"),
          t("history.compare"),
        ),
    );
  }

  load();
  const element = h(
    "div",
    { class: "page" },
    h("header", { class: "page-head" }, h("h1", {}, t("nav.history")), h("p", { class: "lead" }, t("history.lead"))),
    h("div", { class: "filters" }, search, filter),
    h("section", { class: "card flush" }, list),
    pager,
    tray,
  );
  function stop() {
    stopped = true;
    clearTimeout(timer);
    clearTimeout(typed);
  }
  return { element, stop };
}

function outlook(item) {
  const summary = item.summary;
  if (!summary) return "–";
  const shift = summary.median_close / summary.last_close - 1;
  return [
    h("span", { class: shift >= 0 ? "up" : "down" }, move(shift)),
    summary.prob_up !== null && h("small", {}, t("history.up", { share: chance(summary.prob_up, summary.prob_up_error) })),
  ];
}
