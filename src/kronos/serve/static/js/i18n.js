// The two languages. Every sentence of the page stands in words.js, English beside Chinese.

import { prefs } from "./prefs.js";
import { WORDS } from "./words.js";

/** The sentence of a key in the reader's language, with {name} replaced. {n} also chooses "key.one" for 1. */
export function t(key, values = {}) {
  const single = values.n === 1 ? WORDS[`${key}.one`] : undefined;
  const pair = single ?? WORDS[key];
  if (!pair) return key;
  const text = pair[prefs.language === "zh" ? 1 : 0];
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Is there a sentence for this key? For codes that come from the server. */
export function known(key) {
  return key in WORDS;
}

export function locale() {
  return prefs.language === "zh" ? "zh-CN" : "en-GB";
}
