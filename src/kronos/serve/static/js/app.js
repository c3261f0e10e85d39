// The page: header, addresses, language and theme, the token. Everything begins here.

import { api, setGate } from "./api.js";
import { compareView } from "./compare.js";
import { fill, h, icon, uniqueId } from "./dom.js";
import { historyView } from "./history.js";
import { t } from "./i18n.js";
import { modelsView } from "./models.js";
import { applyPrefs, onPref, prefs, setPref } from "./prefs.js";
import { problem } from "./problems.js";
import { state, takeSettings } from "./state.js";
import { workspace } from "./workspace.js";

const main = document.getElementById("main");
let current = null; // the view in the main part
let place = null; // its name: views of another address of the same place are kept

const PLACES = { "": "studio", forecasts: "studio", history: "history", compare: "history", models: "models" };

function address() {
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { name, parts: rest.map(decodeURIComponent) };
}

function route() {
  const { name, parts } = address();
  const next = PLACES[name] ?? "studio";
  markPlace(next);
  document.title = `${t(`nav.${next}`)} · Kronos Studio`;
  if (next === "studio") {
    if (place !== "studio") {
      current?.stop();
      current = workspace();
      fill(main, current.element);
      place = "studio";
    }
    return current.open(name === "forecasts" ? parts[0] : null);
  }
  current?.stop();
  if (place !== null) main.focus({ preventScroll: true }); // a new page for those who hear it
  place = next;
  if (name === "compare" && parts.length === 2) current = compareView(...parts);
  else current = next === "models" ? modelsView(parts[0]) : historyView();
  fill(main, current.element);
  return undefined;
}

function markPlace(name) {
  for (const link of document.querySelectorAll("#head nav a")) {
    if (link.dataset.place === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function head() {
  const link = (name, href, iconName) =>
    h("a", { href, "data-place": name }, icon(iconName), h("span", {}, t(`nav.${name}`)));
  const other = prefs.language === "zh" ? "en" : "zh";
  fill(
    document.getElementById("head"),
    h(
      "a",
      { class: "brand", href: "#/", "aria-label": "Kronos Studio" },
      h("img", { src: "/static/icon.svg", alt: "", width: 28, height: 28 }),
      h("span", {}, "Kronos"),
    ),
    h(
      "nav",
      { "aria-label": t("nav.label") },
      link("studio", "#/", "candles"),
      link("history", "#/history", "clock"),
      link("models", "#/models", "chip"),
    ),
    h(
      "div",
      { class: "head-tools" },
      h(
        "button",
        {
          type: "button",
          id: "language",
          lang: other === "zh" ? "zh-CN" : "en",
          onclick: () => setPref("language", other),
        },
        other === "zh" ? "中文" : "English",
      ),
      lookMenu(),
    ),
  );
  fill(document.getElementById("foot"), h("p", {}, t("foot.advice")));
  document.getElementById("skip").textContent = t("nav.skip");
}

/** Theme and the colour of a rise. */
function lookMenu() {
  const choice = (name, value) => {
    const id = uniqueId("look");
    return [
      h("input", {
        type: "radio",
        name,
        id,
        value,
        checked: prefs[name] === value,
        onchange: () => setPref(name, value),
      }),
      h("label", { for: id }, t(`look.${name}.${value}`)),
    ];
  };
  const group = (name, values) =>
    h(
      "fieldset",
      {},
      h("legend", {}, t(`look.${name}`)),
      values.map((value) => choice(name, value)),
    );
  const menu = h(
    "details",
    { class: "look", id: "look" },
    h("summary", { "aria-label": t("look.title"), title: t("look.title") }, icon("sun")),
    h("div", { class: "sheet" }, group("theme", ["auto", "light", "dark"]), group("rise", ["auto", "green", "red"])),
  );
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  return menu;
}

document.addEventListener("click", (event) => {
  const menu = document.getElementById("look");
  if (menu?.open && !menu.contains(event.target)) menu.open = false;
});

/** Ask for the token until it is right. One dialog, however many requests wait for it. */
let asking = null;
function askToken() {
  asking ??= new Promise((resolve) => {
    const field = h("input", { type: "password", id: "token", required: true, autocomplete: "current-password" });
    const trouble = h("p", { class: "wrong", role: "alert" });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "token-title", oncancel: (event) => event.preventDefault() },
      h(
        "form",
        {
          onsubmit: async (event) => {
            event.preventDefault();
            try {
              await api.session(field.value);
            } catch (error) {
              trouble.textContent =
                error.status === 401 || error.status === 403
                  ? t("token.wrong")
                  : error.message || t("error.unreachable");
              field.select();
              return;
            }
            dialog.close();
            dialog.remove();
            asking = null;
            resolve();
          },
        },
        h("h2", { id: "token-title" }, t("token.title")),
        h("p", {}, t("token.text")),
        h("div", { class: "field" }, h("label", { for: "token" }, t("token.label")), field, trouble),
        h("div", { class: "row end" }, h("button", { type: "submit", class: "primary" }, t("token.go"))),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

/** Everything is built again in the new language or look; what was chosen stays. */
function rebuild(focus) {
  head();
  current?.stop();
  current = null;
  place = null;
  route();
  if (focus) document.querySelector(focus)?.focus();
}

async function start() {
  applyPrefs();
  setGate(askToken);
  head();
  fill(main, h("p", { class: "loading" }, t("loading")));
  try {
    const [settings, models, bars] = await Promise.all([api.settings(), api.models(), api.barsList()]);
    takeSettings(settings);
    state.models = models;
    state.bars = bars.items;
    const ready =
      models.items.find((item) => item.state === "loaded") ??
      models.items.find((item) => item.kind === "embedded") ??
      models.items[0];
    state.ask.model = ready?.id ?? null;
  } catch (error) {
    fill(
      main,
      h(
        "div",
        { class: "page" },
        problem(error, t("error.start"), h("button", { type: "button", onclick: start }, t("again"))),
      ),
    );
    return;
  }
  onPref((name) => {
    const open = name === "language" ? "#language" : `#look input[name="${name}"]:checked`;
    rebuild(null);
    if (name !== "language") document.getElementById("look").open = true;
    document.querySelector(open)?.focus();
  });
  addEventListener("hashchange", route);
  addEventListener("popstate", () => location.hash === "" && route());
  await route();
}

start();
