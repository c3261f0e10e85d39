// The risk of a holder, and, in a replay, how the forecast did: each number with a sentence that says what it means.

import { api } from "./api.js";
import { drawn, fill, h, icon, uniqueId } from "./dom.js";
import { hasDirection, hasSpread } from "./charts.js";
import { chance, digits, integer, move, percent, price, wall } from "./format.js";
import { t } from "./i18n.js";

function measure(name, value, text) {
  return h("div", { class: "measure" }, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "hint" }, text));
}

export function riskCard(result, scene) {
  const { risk } = result;
  if (!hasSpread(result)) {
    return h("section", { class: "card risk" }, h("h2", {}, t("risk.title")), h("p", { class: "hint" }, t("risk.few")));
  }
  const [low, high] = risk.expected_range;
  const [lowText, highText] = [low, high].map((value) => price(value, scene.decimals));
  const away = (value) => move(value / scene.start - 1, 1);
  return h(
    "section",
    { class: "card risk", "aria-labelledby": "risk-title" },
    h("h2", { id: "risk-title" }, t("risk.title")),
    h("p", { class: "hint" }, t("risk.hint")),
    hasDirection(result)
      ? h("figure", {}, h("figcaption", {}, t("risk.up")), chances(risk, scene, result.timestamps))
      : h("p", { class: "undirected" }, t("result.no_direction")),
    h(
      "dl",
      {},
      measure(
        t("risk.var"),
        percent(risk.value_at_risk_95, 2),
        t("risk.var.text", { value: percent(risk.value_at_risk_95, 2) }),
      ),
      measure(t("risk.es"), percent(risk.expected_shortfall_95, 2), t("risk.es.text")),
      measure(t("risk.range"), `${lowText} – ${highText}`, t("risk.range.text", { low: away(low), high: away(high) })),
      volatility(result),
      touchField(result, scene),
    ),
  );
}

/** Volatility a year beside the context's own and HAR's; results of older servers know only that of the horizon. */
function volatility({ risk, volatility: year }) {
  if (!year?.basis) return measure(t("risk.vol"), percent(risk.realized_volatility, 2), t("risk.vol.text"));
  const columns = ["expected", "lower", "upper", "context", "har"];
  const [expected, low, high, past, har] = columns.map((name) => percent(year[name]?.at(-1)));
  const counted = t(`risk.year.${year.basis}`, { n: integer(year.bars_per_year) });
  return measure(t("risk.vol.year"), expected, t("risk.vol.year.text", { low, high, past, har, counted }));
}

/** A field for a price, and the chance that the paths touch it, which the server counts. */
function touchField(result, scene) {
  const id = uniqueId("touch");
  const answer = h("dd", { class: "hint", "aria-live": "polite" }, t("risk.touch.hint"));
  const end = result.timestamps.length - 1;
  const ask = async () => {
    const typed = input.value;
    if (typed === "") return fill(answer, t("risk.touch.hint"));
    if (!(Number(typed) > 0) || Math.abs(Number(typed) / scene.start - 1) < 1e-7) {
      return fill(answer, t("risk.touch.wrong"));
    }
    try {
      const { prob_touch: shares, error } = await api.touch(result.id, typed);
      if (input.value !== typed) return answer; // another price was typed meanwhile
      const told = { end: chance(shares[end], error[end]), first: chance(shares[0], error[0]) };
      return fill(answer, t("risk.touch.answer", { ...told, stamp: wall(result.timestamps[end], scene.daily) }));
    } catch (error) {
      return fill(answer, error.message || t("error.unknown"));
    }
  };
  const input = h("input", { type: "number", id, min: 0, step: "any", autocomplete: "off", onchange: ask });
  return h(
    "div",
    { class: "measure" },
    h("dt", {}, h("label", { for: id }, t("risk.touch"))),
    h("dd", {}, input),
    answer,
  );
}

/** The chance of standing above the last close, bar by bar, around the even chance. */
function chances({ prob_up: shares, prob_up_error: errors }, scene, stamps) {
  const width = 300;
  const height = 84;
  const step = width / shares.length;
  const half = height / 2;
  const reach = Math.max(0.1, ...shares.map((share) => Math.abs(share - 0.5)));
  const bars = shares.map((share, at) => {
    const size = Math.max((Math.abs(share - 0.5) / reach) * (half - 4), 1);
    return drawn("rect", {
      x: at * step + step * 0.15,
      width: Math.max(step * 0.7, 0.5),
      y: share >= 0.5 ? half - size : half,
      height: size,
      class: share >= 0.5 ? "bar-up" : "bar-down",
    });
  });
  const end = shares.length - 1;
  const label = t("risk.up.label", {
    first: chance(shares[0], errors?.[0]),
    last: chance(shares[end], errors?.[end]),
  });
  const line = drawn("line", { x1: 0, x2: width, y1: half, y2: half, class: "even" });
  const picture = drawn(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
      class: "chances",
    },
    ...bars,
    line,
  );
  return [
    h(
      "div",
      { class: "scale", "aria-hidden": "true" },
      h("span", {}, percent(0.5 + reach, 0)),
      h("span", {}, "50%"),
      h("span", {}, percent(0.5 - reach, 0)),
    ),
    picture,
    h(
      "div",
      { class: "span", "aria-hidden": "true" },
      h("span", {}, wall(stamps[0], scene.daily)),
      h("span", {}, wall(stamps[end], scene.daily)),
    ),
  ];
}

export function comparisonCard(result, scene) {
  const score = result.comparison;
  if (!score) {
    return h("section", { class: "card" }, h("h2", {}, t("compare.title")), h("p", {}, t("compare.none")));
  }
  const last = score.bars_compared - 1;
  const real = result.truth.close[last];
  const better = score.crps <= score.crps_last_close;
  return h(
    "section",
    { class: "card comparison", "aria-labelledby": "comparison-title" },
    h("h2", { id: "comparison-title" }, t("compare.title")),
    h("p", { class: "hint" }, t("compare.hint", { n: score.bars_compared })),
    h(
      "dl",
      {},
      measure(
        t("compare.actual"),
        price(real, scene.decimals),
        t("compare.actual.text", {
          move: move(real / scene.start - 1),
          median: move(result.median.close[last] / scene.start - 1),
        }),
      ),
      measure(t("compare.direction"), verdict(score.direction_hit), t("compare.direction.text")),
      measure("MAE", digits(score.mae), t("compare.mae.text", { share: percent(score.mae / scene.start, 2) })),
      measure(
        "CRPS",
        digits(score.crps),
        t(better ? "compare.crps.better" : "compare.crps.worse", { naive: digits(score.crps_last_close) }),
      ),
      h(
        "div",
        { class: "measure" },
        h("dt", {}, t("compare.coverage")),
        h(
          "dd",
          { class: "coverages" },
          [50, 80, 90].map((share) => coverage(share, score[`coverage_${share}`])),
        ),
        h("dd", { class: "hint" }, t("compare.coverage.text")),
      ),
    ),
  );
}

function verdict(hit) {
  if (hit === null || hit === undefined) return t("compare.direction.flat");
  if (hit > 0.5) return h("span", { class: "good" }, icon("check"), t("compare.direction.hit"));
  if (hit < 0.5) return h("span", { class: "bad" }, icon("close"), t("compare.direction.miss"));
  return t("compare.direction.open");
}

/** How many bars fell inside a band, against how many should. */
function coverage(share, found) {
  return h(
    "div",
    { class: "coverage" },
    h("span", {}, `${share}%`),
    h("meter", { min: 0, max: 1, value: found ?? 0, "aria-label": t("compare.coverage.label", { n: share }) }),
    h("b", {}, percent(found, 0)),
  );
}
