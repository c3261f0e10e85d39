// Choosing bars: samples, the server's folder, files of one's own.

import { api } from "./api.js";
import { confirmed, fill, h, icon, notice, toast, uniqueId } from "./dom.js";
import { problem } from "./problems.js";
import { bytes, integer } from "./format.js";
import { t } from "./i18n.js";
import { server, state } from "./state.js";

const ENDINGS = ".csv,.tsv,.txt,.parquet,.pq,.feather,.arrow,.xlsx,.xlsm,.json,.jsonl,.ndjson";
const SOURCES = ["upload", "sample", "folder"];

/** The panel; onChoose(id, symbol) is called when the reader picks a series. */
export function barsPanel({ onChoose, onRemoved }) {
  const list = h("div", { class: "bars-list" });
  const trouble = h("div", { "aria-live": "polite" });
  const symbols = h("div");
  const options = readingOptions();
  const input = h("input", { type: "file", id: "file", accept: ENDINGS, hidden: true });
  const zone = h(
    "button",
    { type: "button", class: "dropzone", id: "upload", onclick: () => input.click() },
    icon("upload"),
    h("span", {}, h("strong", {}, t("bars.drop")), h("small", {}, t("bars.drop.hint"))),
  );
  let waiting = null; // a file that could not be read, kept for another try with other options

  input.addEventListener("change", () => {
    if (input.files.length) send(input.files[0]);
    input.value = "";
  });

  async function send(file) {
    fill(trouble);
    waiting = null;
    if (file.size > server.most_upload_bytes) {
      fill(trouble, notice(t("bars.too_big", { name: file.name, size: bytes(file.size) }), "error"));
      return;
    }
    zone.disabled = true;
    zone.classList.add("busy");
    fill(trouble, notice(t("bars.reading", { name: file.name })));
    try {
      const item = await api.upload(file, options.values());
      fill(trouble);
      options.element.open = false;
      state.bars = [item, ...(state.bars ?? []).filter((other) => other.id !== item.id)];
      await onChoose(item.id, null);
      toast(t("bars.read", { name: file.name, n: integer(item.rows) }));
    } catch (error) {
      waiting = file;
      options.element.open = true;
      const again = h("button", { type: "button", onclick: () => waiting && send(waiting) }, t("bars.again"));
      fill(trouble, problem(error, t("bars.unreadable", { name: file.name }), again));
    } finally {
      update();
      zone.disabled = false;
      zone.classList.remove("busy");
    }
  }

  async function pick(item, symbol) {
    fill(trouble);
    try {
      await onChoose(item.id, symbol);
    } catch (error) {
      fill(trouble, problem(error, t("bars.unreadable", { name: item.name })));
    }
    update();
  }

  async function remove(item) {
    const sure = await confirmed({
      title: t("bars.remove.title", { name: item.name }),
      text: t("bars.remove.text"),
      yes: t("delete"),
      no: t("cancel"),
      danger: true,
    });
    if (!sure) return;
    try {
      await api.removeBars(item.id);
      state.bars = state.bars.filter((other) => other.id !== item.id);
      if (state.chosen?.id === item.id) await onRemoved();
      update();
    } catch (error) {
      toast(error.message || t("error.unknown"), "error");
    }
  }

  function row(item) {
    const current = state.chosen?.id === item.id;
    const size = item.rows ? t("bars.rows", { n: item.rows, count: integer(item.rows) }) : bytes(item.bytes);
    return h(
      "li",
      { class: current ? "current" : "" },
      h(
        "button",
        {
          type: "button",
          class: "pick",
          "aria-pressed": String(current),
          "data-bars": item.name,
          onclick: () => pick(item, null),
        },
        h("span", { class: "name", title: item.name }, item.name),
        h("span", { class: "size" }, size),
      ),
      item.source === "upload" &&
        h(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-label": t("bars.remove", { name: item.name }),
            onclick: () => remove(item),
          },
          icon("trash"),
        ),
    );
  }

  function update() {
    const groups = SOURCES.map((source) => [source, (state.bars ?? []).filter((item) => item.source === source)]);
    fill(
      list,
      groups
        .filter(([, items]) => items.length > 0)
        .map(([source, items]) => h("section", {}, h("h3", {}, t(`bars.${source}`)), h("ul", {}, items.map(row)))),
    );
    const current = list.querySelector(".current");
    const below = current ? current.offsetTop + current.offsetHeight - list.offsetTop - list.clientHeight : 0;
    list.scrollTop = Math.max(0, below);
    const several = state.chosen?.symbols ?? [];
    fill(symbols, several.length > 1 && symbolSelect(several));
  }

  function symbolSelect(names) {
    const id = uniqueId("symbol");
    const select = h(
      "select",
      { id, onchange: () => pick(state.chosen.item, select.value) },
      names.map((name) => h("option", { value: name, selected: name === state.chosen.symbol }, name)),
    );
    return h("div", { class: "field" }, h("label", { for: id }, t("bars.symbol")), select);
  }

  update();
  const element = h(
    "section",
    { class: "card bars-panel", "aria-labelledby": "bars-title" },
    h("h2", { id: "bars-title" }, h("span", { class: "step", "aria-hidden": "true" }, "1"), t("bars.title")),
    zone,
    input,
    trouble,
    options.element,
    symbols,
    list,
  );
  return { element, update, send };
}

/** How a stubborn file is to be read; everything may stay empty. */
function readingOptions() {
  const texts = { symbol: "600519", timezone: "Asia/Shanghai" };
  const choices = {
    decimal: [".", ","],
    epoch: ["s", "ms", "us", "ns"],
    encoding: ["utf-8", "gb18030", "big5", "latin-1"],
  };
  const fields = {};
  const rows = [];
  for (const [name, example] of Object.entries(texts)) {
    fields[name] = h("input", { id: `read-${name}`, placeholder: example, autocomplete: "off", spellcheck: false });
  }
  for (const [name, values] of Object.entries(choices)) {
    fields[name] = h(
      "select",
      { id: `read-${name}` },
      h("option", { value: "" }, t("bars.auto")),
      values.map((value) => h("option", { value }, value)),
    );
  }
  for (const [name, field] of Object.entries(fields)) {
    rows.push(h("div", { class: "field" }, h("label", { for: `read-${name}` }, t(`bars.option.${name}`)), field));
  }
  const box = (name) => {
    const input = h("input", { type: "checkbox", id: `read-${name}` });
    rows.push(h("label", { class: "check" }, input, t(`bars.option.${name}`)));
    return input;
  };
  const dayfirst = box("dayfirst");
  const backwards = box("newest_first");
  const dropping = box("on_defect");
  return {
    element: h(
      "details",
      { class: "options" },
      h("summary", {}, t("bars.options")),
      h("div", { class: "grid two" }, rows),
    ),
    values: () => ({
      ...Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()])),
      dayfirst: dayfirst.checked ? "true" : "",
      newest_first: backwards.checked ? "true" : "",
      on_defect: dropping.checked ? "drop" : "",
    }),
  };
}

/** Dropping a file anywhere on the page sends it. */
export function acceptDrops(onFile) {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, icon("upload"), t("bars.drop.now")));
  document.body.append(veil);
  let depth = 0;
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  const stop = new AbortController();
  const on = (name, action) =>
    addEventListener(name, (event) => carriesFile(event) && action(event), { signal: stop.signal });
  on("dragenter", () => {
    depth += 1;
    veil.hidden = false;
  });
  on("dragleave", () => {
    depth -= 1;
    if (depth <= 0) veil.hidden = true;
  });
  on("dragover", (event) => event.preventDefault());
  on("drop", (event) => {
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (event.dataTransfer.files.length) onFile(event.dataTransfer.files[0]);
  });
  return () => {
    stop.abort();
    veil.remove();
  };
}
