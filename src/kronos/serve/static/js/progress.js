// A forecast under way: its place in the queue, how far it is, how long it still takes, and the way to stop it.

import { api, FINAL, follow } from "./api.js";
import { announce, fill, h, toast } from "./dom.js";
import { duration, integer } from "./format.js";
import { t } from "./i18n.js";
import { seriesTitle } from "./titles.js";

/** The card; onEnd(item) is called once, with the finished item. stop() leaves it to run on its own. */
export function progressCard(item, { onEnd }) {
  const state = h("p", { class: "state" });
  const bar = h("progress", { max: 1, "aria-label": t("run.progress") });
  const detail = h("p", { class: "hint" });
  const cancel = h("button", { type: "button", id: "cancel-run", onclick: stopIt }, t("run.cancel"));
  let told = -1; // quarters that were announced

  function update({ done, total, eta_seconds: left, queue_position: place }) {
    detail.textContent = "";
    if (Number.isInteger(place) || !total) {
      bar.removeAttribute("value");
      state.textContent = place > 0 ? t("run.queued", { n: place }) : t(place === 0 ? "run.next" : "run.starting");
      return;
    }
    bar.value = done / total;
    state.textContent = t("run.running", { share: Math.floor((100 * done) / total) });
    const rest = Number.isFinite(left) ? t("run.left", { time: duration(left) }) : "";
    const steps = t("run.steps", { done: integer(done), total: integer(total) });
    detail.textContent = [steps, rest].filter(Boolean).join(" · ");
    const quarter = Math.floor((4 * done) / total);
    if (quarter > told) announce(`${state.textContent} ${rest}`);
    told = Math.max(told, quarter);
  }

  async function stopIt() {
    cancel.disabled = true;
    fill(cancel, t("run.cancelling"));
    try {
      const after = await api.cancel(item.id);
      if (FINAL.includes(after.status)) end(after);
    } catch (error) {
      cancel.disabled = false;
      fill(cancel, t("run.cancel"));
      toast(error.message || t("error.unreachable"), "error");
    }
  }

  let over = false;
  function end(final) {
    if (over) return;
    over = true;
    stop();
    announce(t(`status.${final.status}`));
    onEnd(final);
  }

  const stop = follow(item.id, {
    onProgress: update,
    onEnd: end,
    onLost: (lost) => {
      if (lost) detail.textContent = t("run.lost");
    },
  });
  update({ ...item.progress, queue_position: item.queue_position });
  const element = h(
    "section",
    { class: "card running", "aria-labelledby": "running-title" },
    h("div", {}, h("h2", { id: "running-title" }, seriesTitle(item)), state, bar, detail),
    cancel,
  );
  return { element, stop };
}
