// Two forecasts side by side: one chart, and a table of what differs.

import { api } from "./api.js";
import { drawCompare } from "./charts.js";
import { fill, h, icon, notice } from "./dom.js";
import { between, chance, decimalsOf, digits, integer, isDaily, move, percent, price, priceAbout, wall } from "./format.js";
import { t } from "./i18n.js";
import { problem } from "./problems.js";
import { SAMPLING } from "./state.js";
import { seriesTitle } from "./titles.js";

export function compareView(first, second) {
  const element = h("div", { class: "page" }, h("p", { class: "loading" }, t("loading")));
  const ids = [first, second];

  async function load() {
    try {
      const items = await Promise.all(ids.map((id) => api.status(id)));
      const results = await Promise.all(ids.map((id) => api.result(id)));
      await show(items, results);
    } catch (error) {
      fill(element, head(), problem(error, t("compare.unreadable")));
    }
  }

  const head = () =>
    h(
      "header",
      { class: "page-head" },
      h("a", { class: "back", href: "#/history" }, icon("back"), t("nav.history")),
      h("h1", {}, t("compare.two")),
    );

  async function show(items, results) {
    const [one, two] = results;
    const same = one.input.name === two.input.name && (one.input.symbol ?? "") === (two.input.symbol ?? "");
    const frame = h("div", { class: "plot" });
    fill(
      element,
      head(),
      !same && notice(t("compare.percent")),
      h(
        "section",
        { class: "card chart-card" },
        h(
          "ul",
          { class: "legend" },
          items.map((item, at) =>
            h(
              "li",
              {},
              h("span", { class: `mark ${at ? "other" : "ahead"}`, "aria-hidden": "true" }),
              h("b", {}, "AB"[at]),
              h("a", { href: `#/forecasts/${encodeURIComponent(item.id)}` }, seriesTitle(item)),
            ),
          ),
        ),
        frame,
      ),
      h("section", { class: "card flush" }, differences(items, results)),
    );
    try {
      await drawCompare(frame, results, same, items.map(seriesTitle).join(" / "));
    } catch (error) {
      fill(frame, notice(error.message, "error"));
    }
  }

  load();
  return { element, stop: () => {} };
}

function differences(items, results) {
  const columns = results.map((result, at) => column(items[at], result));
  const names = [...new Set(columns.flatMap((values) => [...values.keys()]))];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": t("compare.two") },
    h(
      "table",
      { class: "pairs" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, h("span", { class: "unseen" }, t("compare.what"))),
          h("th", { scope: "col" }, "A"),
          h("th", { scope: "col" }, "B"),
        ),
      ),
      h(
        "tbody",
        {},
        names.map((name) => {
          const values = columns.map((values) => values.get(name) ?? "–");
          return h(
            "tr",
            { class: values[0] === values[1] ? "" : "differs" },
            h("th", { scope: "row" }, name),
            values.map((value) => h("td", {}, value)),
          );
        }),
      ),
    ),
  );
}

/** Name → text of everything that is compared. */
function column(item, result) {
  const { parameters, risk, comparison } = result;
  const end = result.timestamps.length - 1;
  const decimals = decimalsOf(result.history.close);
  const start = result.history.close.at(-1);
  const middle = result.median.close[end];
  const close = result.quantiles.close;
  const own = t("result.own_setting");
  const values = new Map([
    [t("history.series"), item.symbol || item.bars_name],
    [t("history.mode"), t(`mode.${item.mode}.short`)],
    [
      t("tile.last"),
      `${price(start, decimals)} · ${wall(result.history.timestamp.at(-1), isDaily(result.history.timestamp))}`,
    ],
    [t("ask.model"), item.model],
    [t("ask.horizon"), integer(item.horizon)],
    [t("ask.num_samples"), integer(item.num_samples)],
    [t("ask.seed"), String(parameters.seed)],
    ...["context_length", ...SAMPLING].map((name) => [
      t(`ask.${name}`),
      typeof parameters[name] === "string" ? t(`${name}.${parameters[name]}`) : String(parameters[name] ?? own),
    ]),
    [t("compare.median"), `${priceAbout(middle, risk.direction ? null : result.median_error?.close[end], decimals)} (${move(middle / start - 1)})`],
    [t("tile.range"), between(close["0.05"][end], close["0.95"][end], decimals)],
    [t("tile.up"), risk.direction ? t("tile.up.none") : chance(risk.prob_up[end], risk.prob_up_error?.[end])],
    [t("risk.var"), percent(risk.value_at_risk_95, 2)],
    [t("risk.es"), percent(risk.expected_shortfall_95, 2)],
    [t("risk.vol"), percent(risk.realized_volatility, 2)],
  ]);
  if (comparison) {
    values.set("MAE", digits(comparison.mae));
    values.set("CRPS", digits(comparison.crps));
    for (const share of [50, 80, 90])
      values.set(t("compare.coverage.label", { n: share }), percent(comparison[`coverage_${share}`], 0));
  }
  return values;
}
