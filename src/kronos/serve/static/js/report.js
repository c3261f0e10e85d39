// What was recognised in a file of bars, and what is wrong or odd about it.

import { fact, h, icon } from "./dom.js";
import { decimalsOf, compact, frequency, integer, isDaily, price, wall } from "./format.js";
import { known, t } from "./i18n.js";

/** The report of a series: facts, warnings, the first and last rows. */
export function reportCard({ report, preview, candles }) {
  const daily = isDaily(candles.timestamp);
  const rows =
    report.rows_read && report.rows_read !== report.rows
      ? t("report.rows_of", { n: integer(report.rows), all: integer(report.rows_read) })
      : integer(report.rows);
  const zone =
    report.timezone ??
    (report.timezone_guess ? t("report.guess", { zone: report.timezone_guess }) : t("report.as_written"));
  const facts = [
    [t("report.layout"), report.layout],
    [t("report.symbol"), report.symbol ?? t("report.none")],
    [t("report.frequency"), frequency(report.frequency)],
    [t("report.rows"), rows],
    [t("report.first"), wall(report.first, daily)],
    [t("report.last"), wall(report.last, daily)],
    [t("report.timezone"), zone],
    [t("report.calendar"), report.calendar ?? t("report.none")],
  ];
  if (report.left_out?.length) facts.push([t("report.left_out"), report.left_out.join(", ")]);
  return h(
    "section",
    { class: "card report", "aria-labelledby": "report-title" },
    h("h2", { id: "report-title" }, t("report.title")),
    verdict(report),
    h(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => fact(name, value)),
    ),
    findings(report),
    preview?.length > 0 && h("details", {}, h("summary", {}, t("report.preview")), previewTable(preview, daily)),
  );
}

function verdict(report) {
  const found = (report.defects?.length ?? 0) + (report.warnings?.length ?? 0);
  return found === 0
    ? h("p", { class: "verdict good" }, icon("check"), t("report.clean"))
    : h("p", { class: "verdict" }, icon("info"), t("report.findings", { n: found }));
}

function findings(report) {
  const all = [
    ...(report.defects ?? []).map((defect) => ["defect", defect]),
    ...(report.warnings ?? []).map((warning) => ["warning", warning]),
  ];
  if (!all.length && !report.notes?.length) return null;
  return h(
    "ul",
    { class: "findings" },
    all.map(([kind, { kind: name, text, count, rows, column, example }]) =>
      h(
        "li",
        {},
        h("span", { class: `tag ${kind}` }, t(`report.${kind}`)),
        h(
          "span",
          {},
          known(`defect.${name}`) ? t(`defect.${name}`) : text,
          column ? ` · ${column}` : "",
          example ? ` · ${example}` : "",
          h(
            "small",
            {},
            t("report.where", { n: count, count: integer(count), rows: rows?.slice(0, 5).join(", ") || "–" }),
          ),
        ),
      ),
    ),
    (report.notes ?? []).map((note) =>
      h("li", {}, h("span", { class: "tag" }, t("report.note")), h("span", {}, noteText(note))),
    ),
  );
}

/** Notes that hold names and numbers, and the sentence that says each of them in the reader's language. */
const NOTES = [
  [/^the price breaks on (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) .it opens at (?<ratio>\S+) /, "note.break"],
  [/^the price jumps on (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) .it opens at (?<ratio>\S+) /, "note.wild"],
  [/^volume is (?<ratio>\S+) (?:times )?as large from (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) on/, "note.volume_step"],
  [/^the context holds (?<n>\d+) more breaks? like it: (?<days>.+)$/, "note.breaks"],
  [/^(?<share>\d+%?) of the context repeats/, "note.filler"],
  [/^prices before (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) divided by (?<factor>[\d.e+-]+), as asked/, "note.divided"],
  [/^prices from (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) on multiplied by (?<factor>[\d.e+-]+) until/, "note.brought_back"],
  [/^volume before (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?) multiplied by (?<factor>[\d.e+-]+), as asked/, "note.multiplied"],
  [/^read from (?<day>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?).* on alone, behind a break/, "note.cut"],
  [/^adjust=(?<words>\S+): nothing was found/, "note.idle"],
  [/^calendar (?<calendar>\S+) inferred .* the symbol (?<symbol>.+)$/, "note.calendar.symbol"],
  [/^calendar (?<calendar>\S+) inferred .* the time zone (?<zone>.+)$/, "note.calendar.zone"],
  [/^one path, no distribution/, "note.one_path"],
  [/^(?<n>[\d,]+) distinct paths, no distribution/, "note.few_paths"],
  [
    /^(?<model>\S+) was judged on (?<context>[\d,]+) bars.* and (?<horizon>[\d,]+) ahead.* reads (?<read>[\d,]+) and goes (?<ahead>[\d,]+).*; (?<command>kronos evaluate .+) judges it/,
    "note.beyond_judged",
  ],
  [
    /^(?<model>\S+) was judged on (?<context>[\d,]+) bars.* and (?<horizon>[\d,]+) ahead.* reads (?<read>[\d,]+); (?<command>kronos evaluate .+) judges it/,
    "note.beyond_context",
  ],
  [/^(?<model>\S+) was trained on windows of (?<trained>[\d,]+) bars, and (?<ahead>[\d,]+)/, "note.beyond_trained"],
  [/^calendar (?<calendar>\S+) inferred/, "note.calendar"],
  [/^(?<several>.+) fit the times alike.*such as calendar='(?<one>[^']+)'/, "note.alike"],
  [/^(?<day>\d{4}-\d\d-\d\d) is no session of (?<calendars>.+)$/, "note.rest"],
  [
    /^(?<n>[\d,]+) of these dates are no sessions of (?<calendars>.+), the first (?<day>\d{4}-\d\d-\d\d)$/,
    "note.rests",
  ],
  [/^hours beyond those of (?<calendar>\S+) are seen/, "note.longer"],
  [/regular step.* holidays were not checked/, "note.unchecked.step"],
  [/holidays were not checked/, "note.unchecked"],
  [/^(?<n>[\d,]+) sessions? of (?<calendar>\S+) ha\S+ no bar.*?(?<day>\d{4}-\d\d-\d\d)/, "note.missing"],
  [/^(?<n>[\d,]+) bars? lies? on .* session of (?<calendar>[^\s,]+).*?(?<day>\d{4}-\d\d-\d\d)/, "note.spare"],
  [/^naive times read by the clock (?<clock>.+)$/, "note.clock"],
  [/^the closes of the context hardly vary/, "note.still"],
  [/^(?<n>[\d,]+) timestamps lie beyond the calendar's end/, "note.estimated"],
  [/^encoding (?<encoding>\S+)$/, "note.encoding"],
  [/^(?<separator>tab|semicolon|space|\|)-separated$/, "note.separated"],
  [/^(?<packer>gzip|bzip2|xz|zip)$/, "note.packed"],
  [/^timestamps are compact dates/, "note.dates.compact"],
  [/^dates are (?<order>.+ first)$/, "note.dates.order"],
  [/^times without a zone are read as (?<zone>.+)$/, "note.zone.read"],
  [/^timestamps are epoch (?<unit>\S+), read as UTC$/, "note.epoch"],
  [/^every timestamp carries the offset (?<offset>.+)$/, "note.offset"],
  [/^offsets change with daylight saving: read as instants, shown in (?<zone>.+)$/, "note.offsets"],
  [/^amount is about (?<ratio>\S+) × volume × price: their units differ$/, "note.amount.unit"],
  [/^(?<column>\S+) is missing in (?<n>[\d,]+) rows: read as (?<words>.+)$/, "note.filled"],
  [/^(?<column>.+) is written with units/, "note.units"],
  [/^'(?<name>.+)' left out: a rate of turnover or the like/, "note.rate"],
  [/^(?<column>\w+) is in (?<unit>.+), as its header says: multiplied by (?<factor>.+)$/, "note.header.unit"],
  [/^volume and amount changed places/, "note.swapped"],
  [/^(?<n>[\d,]+) symbols side by side$/, "note.wide"],
  [/^sheet '(?<sheet>.+)'/, "note.sheet"],
  [/^(?<n>[\d,]+) lines? \S+ the table left out: '(?<line>.+)'$/, "note.lines"],
  [/^timestamps are epoch (?<first>\S+), from row (?<row>\S+) on (?<second>[^\s,]+), /, "note.epochs"],
  [/^open is 0 in (?<n>[\d,]+) rows: set to the close before/, "note.opens"],
  [/^(?<n>[\d,]+) days? at the close before with nothing traded left out/, "note.suspended"],
  [/^of bars that were still forming the last row is kept: (?<n>[\d,]+)/, "note.forming"],
  [/^(?<n>[\d,]+) cells of days without a bar of their symbol left out$/, "note.wide.absent"],
];

/** A note of the reader in the reader's language, where it is a common one. */
export function noteText(note) {
  for (const [pattern, key] of NOTES) {
    const found = pattern.exec(note);
    if (found) return t(key, found.groups);
  }
  return known(`note.${note}`) ? t(`note.${note}`) : note;
}

function previewTable(rows, daily) {
  const names = ["timestamp", "open", "high", "low", "close", "volume"].filter((name) => rows[0][name] !== undefined);
  const decimals = decimalsOf(rows.map((row) => row.close));
  const cell = (name, value) =>
    name === "timestamp" ? wall(value, daily) : name === "volume" ? compact(value) : price(value, decimals);
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": t("report.preview") },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          names.map((name) => h("th", { scope: "col" }, t(`col.${name}`))),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            names.map((name) => h("td", {}, cell(name, row[name]))),
          ),
        ),
      ),
    ),
  );
}
