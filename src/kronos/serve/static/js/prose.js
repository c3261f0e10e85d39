// Model cards are Markdown from anywhere. The server takes them apart; here they become elements and text, never HTML.

import { h } from "./dom.js";

/** Elements for what /api/models/{id}/card gives: texts, and [tag, address of a link or null, ...children]. */
export function prose(parts) {
  return h("div", { class: "prose" }, parts.map(element));
}

function element(part) {
  if (typeof part === "string") return part;
  const [tag, href, ...inside] = part;
  const children = inside.map(element);
  if (href !== null) {
    if (!/^https?:\/\//.test(href)) return children;
    return h("a", { href, target: "_blank", rel: "noopener noreferrer" }, children);
  }
  if (tag === "table") return h("div", { class: "scroll", tabindex: "0" }, h("table", {}, children));
  const level = /^h([1-6])$/.exec(tag)?.[1]; // the page has its own first and second headings
  return h(level ? `h${Math.min(Number(level) + 2, 6)}` : tag, {}, children);
}
