// Model cards are Markdown from anywhere. They are turned into elements and text, never parsed as HTML: a tag in a card
// is shown as the characters that it is made of.

import { h } from "./dom.js";

const INLINE = /(`[^`]+`)|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]*)\]\(([^()\s]+)\)/g;

/** Elements for a Markdown text: headings, paragraphs, lists, tables, code, emphasis and links. */
export function markdown(text) {
  const lines = text
    .replace(/\r\n?/g, "\n")
    .replace(/^---\n[\s\S]*?\n---\n/, "")
    .split("\n");
  const root = h("div", { class: "prose" });
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const reader = [fence, heading, table, list].find((read) => read.starts(lines, at)) ?? paragraph;
    const [element, next] = reader(lines, at);
    root.append(element);
    at = Math.max(next, at + 1);
  }
  return root;
}

function inline(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(from, match.index));
    const [whole, code, strong, emphasis, label, target] = match;
    if (code) parts.push(h("code", {}, code.slice(1, -1)));
    else if (strong) parts.push(h("strong", {}, ...inline(strong)));
    else if (emphasis) parts.push(h("em", {}, emphasis));
    else if (/^https?:\/\//.test(target))
      parts.push(h("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, label || target));
    else parts.push(label);
    from = match.index + whole.length;
  }
  parts.push(text.slice(from));
  return parts.filter(Boolean);
}

function fence(lines, at) {
  let end = at + 1;
  while (end < lines.length && !lines[end].startsWith("```")) end += 1;
  return [h("pre", {}, h("code", {}, lines.slice(at + 1, end).join("\n"))), end + 1];
}
fence.starts = (lines, at) => lines[at].startsWith("```");

function heading(lines, at) {
  const [, marks, text] = /^(#{1,6})\s+(.*)$/.exec(lines[at]);
  // The page has its own first and second headings.
  return [h(`h${Math.min(marks.length + 2, 6)}`, {}, ...inline(text)), at + 1];
}
heading.starts = (lines, at) => /^#{1,6}\s+\S/.test(lines[at]);

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

function table(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].trim().startsWith("|")) end += 1;
  const row = (line, tag) =>
    h(
      "tr",
      {},
      cells(line).map((cell) => h(cell ? tag : "td", {}, ...inline(cell))),
    );
  const body = lines.slice(at + 2, end).map((line) => row(line, "td"));
  return [
    h(
      "div",
      { class: "scroll", tabindex: "0" },
      h("table", {}, h("thead", {}, row(lines[at], "th")), h("tbody", {}, body)),
    ),
    end,
  ];
}
table.starts = (lines, at) => lines[at].trim().startsWith("|") && /^\|?[\s:|-]+\|?$/.test((lines[at + 1] ?? "").trim());

const ITEM = /^\s*([-*+]|\d+[.)])\s+(.*)$/;

function list(lines, at) {
  const items = [];
  let end = at;
  while (end < lines.length && lines[end].trim()) {
    const match = ITEM.exec(lines[end]);
    if (match) items.push(match[2]);
    else items[items.length - 1] += ` ${lines[end].trim()}`;
    end += 1;
  }
  const ordered = /^\s*\d/.test(lines[at]);
  return [
    h(
      ordered ? "ol" : "ul",
      {},
      items.map((item) => h("li", {}, ...inline(item))),
    ),
    end,
  ];
}
list.starts = (lines, at) => ITEM.test(lines[at]);

function paragraph(lines, at) {
  let end = at;
  while (
    end < lines.length &&
    lines[end].trim() &&
    (end === at || ![fence, heading, list].some((read) => read.starts(lines, end)))
  )
    end += 1;
  return [h("p", {}, ...inline(lines.slice(at, end).join(" "))), end];
}
