// The range slider under a chart: the whole series in small, and a window over the bars that are shown. Moved by
// pointer or by keyboard, which plotly's own slider is not.

import { drawn, h } from "./dom.js";
import { t } from "./i18n.js";

const HEIGHT = 40;
const LEAST = 10; // bars

/** values: one number a bar (null: none); nameOf(position): what a bar is called; onRange(from, to): positions. */
export function overview(values, { range, nameOf, onRange }) {
  const count = values.length;
  const bounds = { from: 0, to: count - 1 };
  const pane = h("div", { class: "window" });
  const handles = { from: handle("from"), to: handle("to") };
  const element = h(
    "div",
    { class: "overview", role: "group", "aria-label": t("chart.range") },
    sketch(values),
    pane,
    handles.from,
    handles.to,
  );

  function handle(side) {
    return h("div", {
      class: `handle ${side}`,
      role: "slider",
      tabindex: "0",
      "aria-label": t(`chart.range.${side}`),
      "aria-valuemin": "0",
      "aria-valuemax": String(count - 1),
      onkeydown: (event) => {
        const step = (event.shiftKey ? 0.1 : 0.01) * count;
        const by = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step }[event.key];
        const end = { Home: 0, End: count - 1 }[event.key];
        if (by === undefined && end === undefined) return;
        event.preventDefault();
        move(side, end ?? bounds[side] + Math.sign(by) * Math.max(1, Math.round(Math.abs(by))));
        tell();
      },
    });
  }

  function move(side, position) {
    const room = Math.min(LEAST, count - 1);
    if (side === "from") bounds.from = clamp(position, 0, bounds.to - room);
    else bounds.to = clamp(position, bounds.from + room, count - 1);
    paint();
  }

  function slide(from) {
    const width = bounds.to - bounds.from;
    bounds.from = clamp(from, 0, count - 1 - width);
    bounds.to = bounds.from + width;
    paint();
  }

  function paint() {
    const left = (100 * bounds.from) / count;
    const right = (100 * (bounds.to + 1)) / count;
    pane.style.left = `${left}%`;
    pane.style.width = `${right - left}%`;
    for (const [side, place] of [
      ["from", left],
      ["to", right],
    ]) {
      handles[side].style.left = `${place}%`;
      handles[side].setAttribute("aria-valuenow", String(Math.round(bounds[side])));
      handles[side].setAttribute("aria-valuetext", nameOf(Math.round(bounds[side])));
    }
  }

  // The chart is slower than the pointer: only the newest place is drawn.
  let asked = false;
  function tell() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(async () => {
      asked = false;
      await onRange(bounds.from - 0.5, bounds.to + 0.5);
    });
  }

  element.addEventListener("pointerdown", (event) => {
    const box = element.getBoundingClientRect();
    const at = (moved) => ((moved.clientX - box.left) / box.width) * count;
    const side = event.target === handles.from ? "from" : event.target === handles.to ? "to" : null;
    const inside = event.target === pane;
    if (!side && !inside) slide(at(event) - (bounds.to - bounds.from) / 2);
    const grip = at(event) - (side ? bounds[side] : bounds.from);
    element.setPointerCapture(event.pointerId);
    const drag = (moved) => {
      if (side) move(side, Math.round(at(moved) - grip));
      else slide(at(moved) - grip);
      tell();
    };
    const release = () => {
      element.removeEventListener("pointermove", drag);
      element.removeEventListener("pointerup", release);
      element.removeEventListener("pointercancel", release);
    };
    element.addEventListener("pointermove", drag);
    element.addEventListener("pointerup", release);
    element.addEventListener("pointercancel", release);
    if (!side && !inside) tell();
  });

  function set([from, to]) {
    bounds.from = clamp(from + 0.5, 0, count - 1);
    bounds.to = clamp(to - 0.5, bounds.from, count - 1);
    paint();
  }
  set(range);
  return { element, set };
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** The closes as one line, thinned to what a screen can show. */
function sketch(values) {
  const every = Math.max(1, Math.floor(values.length / 800));
  const points = values.map((value, at) => [at, value]).filter(([at, value]) => value !== null && at % every === 0);
  const low = Math.min(...points.map(([, value]) => value));
  const high = Math.max(...points.map(([, value]) => value));
  const level = (value) => (HEIGHT - 4 - ((value - low) / (high - low || 1)) * (HEIGHT - 8)).toFixed(2);
  const line = points.map(([at, value]) => `${at + 0.5},${level(value)}`).join(" ");
  const box = { viewBox: `0 0 ${values.length} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return drawn("svg", box, drawn("polyline", { points: line }));
}
