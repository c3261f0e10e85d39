// How the page looks to this reader: language, theme, and the colour of a rise. Kept in this browser only.

const KEY = "kronos.look";
const listeners = new Set();

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

const stored = read();

export const prefs = {
  language: stored.language ?? (navigator.language.startsWith("zh") ? "zh" : "en"),
  theme: stored.theme ?? "auto", // auto | light | dark
  rise: stored.rise ?? "auto", // auto | green | red; auto: red in Chinese, green otherwise
};

/** The colour in which rises are drawn: "red" as in mainland China, or "green". */
export function riseColour() {
  if (prefs.rise !== "auto") return prefs.rise;
  return prefs.language === "zh" ? "red" : "green";
}

export function setPref(name, value) {
  prefs[name] = value;
  try {
    localStorage.setItem(KEY, JSON.stringify(prefs));
  } catch {
    // The choice then lasts until the page is closed.
  }
  applyPrefs();
  for (const listener of listeners) listener(name);
}

export function onPref(listener) {
  listeners.add(listener);
}

export function applyPrefs() {
  const root = document.documentElement;
  root.lang = prefs.language === "zh" ? "zh-CN" : "en";
  if (prefs.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = prefs.theme;
  root.dataset.rise = riseColour();
}

// Charts are painted with the colours of the theme, so they follow when the system turns dark.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (prefs.theme === "auto") for (const listener of listeners) listener("theme");
});
