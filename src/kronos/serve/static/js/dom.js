// Building the page from elements and text. Nothing here or elsewhere parses HTML from strings, so a name, a file or
// a model card can never become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("button", {class: "plain", onclick: save}, "Save"). Null, undefined and false are left out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return put(element, ...children);
}

/** Append children: nodes, text, arrays of them. */
export function put(element, ...children) {
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Replace everything inside an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** An SVG element for the small drawings that need no chart library. */
export function drawn(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let count = 0;
export function uniqueId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

/** Tell a screen reader, politely. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** A short message at the foot of the page; errors stay longer. */
export function toast(text, kind = "note") {
  const note = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "error" ? 9000 : 4000);
}

/** A modal question. Resolves to true when the reader agrees. */
export function confirmed({ title, text, yes, no, danger = false }) {
  return new Promise((resolve) => {
    const heading = uniqueId("dialog");
    const dialog = h(
      "dialog",
      { "aria-labelledby": heading, onclose: () => finish() },
      h("h2", { id: heading }, title),
      h("p", {}, text),
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { value: "no" }, no),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, yes),
      ),
    );
    function finish() {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    }
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A labelled value of a definition list. */
export function fact(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
}

/** What is shown where there is nothing yet. */
export function emptyState(iconName, title, text, action) {
  return h("div", { class: "empty" }, icon(iconName), h("h2", {}, title), h("p", {}, text), action);
}

/** What is shown where something went wrong. */
export function errorState(title, text, ...actions) {
  return h(
    "div",
    { class: "notice error", role: "alert" },
    icon("warning"),
    h(
      "div",
      {},
      h("strong", {}, title),
      h("p", {}, text),
      actions.length > 0 && h("div", { class: "row" }, ...actions),
    ),
  );
}

export function notice(text, kind = "note") {
  return h("div", { class: `notice ${kind}` }, icon(kind === "warn" ? "warning" : "info"), h("div", {}, text));
}
