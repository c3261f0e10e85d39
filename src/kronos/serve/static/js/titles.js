// What a forecast is called.

import { seriesName, wall } from "./format.js";
import { t } from "./i18n.js";

/** "SP500 · next 24 bars", or "SP500 · replay from 2018-11-26". */
export function seriesTitle(item) {
  const cutoff = item.parameters?.cutoff;
  const what =
    item.mode === "replay" && cutoff
      ? t("title.replay", {
          stamp: wall(cutoff, cutoff.length === 10 || cutoff.slice(11, 16) === "00:00"),
          n: item.horizon,
        })
      : item.mode === "replay"
        ? t("title.replay_short", { n: item.horizon })
        : t("title.forecast", { n: item.horizon });
  return `${seriesName(item)} · ${what}`;
}
