// Numbers, prices, times and sizes as a trader reads them.

import { known, locale, t } from "./i18n.js";
import { prefs } from "./prefs.js";

const DASH = "–";

const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

/** Decimals that show these prices as they are quoted: 2 for 2506.85, 5 for 1.12345; at least 2, at most 8. */
export function decimalsOf(prices) {
  const values = prices.filter((value) => !missing(value)).slice(-400);
  for (let decimals = 2; decimals < 8; decimals += 1) {
    const scale = 10 ** decimals;
    // Bars are kept in 32-bit floats: seven digits are all there is.
    if (values.every((value) => Math.abs(value - Math.round(value * scale) / scale) <= 2e-7 * Math.abs(value))) {
      return decimals;
    }
  }
  return 8;
}

export function price(value, decimals) {
  if (missing(value)) return DASH;
  return value.toLocaleString(locale(), { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export function percent(value, decimals = 1) {
  if (missing(value)) return DASH;
  return `${(value * 100).toFixed(decimals)}%`.replace("-", "−");
}

/** A chance with its sampling error in percentage points; results of older servers know none. */
export function chance(value, error) {
  if (missing(value) || missing(error)) return percent(value, 0);
  return `${percent(value, 0)} ± ${(error * 100).toFixed(error >= 0.01 ? 0 : 1)}`;
}

/** A price with its sampling error, where that is known. */
export function priceAbout(value, error, decimals) {
  return missing(error) ? price(value, decimals) : `${price(value, decimals)} ± ${price(error, decimals)}`;
}

/** Two ends of a range of prices, or a dash where there is none. */
export function between(low, high, decimals) {
  return missing(low) ? DASH : `${price(low, decimals)} – ${price(high, decimals)}`;
}

/** A move: always with its sign. */
export function move(value, decimals = 2) {
  if (missing(value)) return DASH;
  const sign = value > 0 ? "+" : "";
  return sign + percent(value, decimals);
}

export function integer(value) {
  return missing(value) ? DASH : value.toLocaleString(locale());
}

/** A number of unknown size, with four digits that count. */
export function digits(value, count = 4) {
  return missing(value) ? DASH : value.toLocaleString(locale(), { maximumSignificantDigits: count });
}

/** 1,500,000 as 1.5M, or 150万 in Chinese: the reader of a volume wants its size. */
export function compact(value) {
  if (missing(value)) return DASH;
  return new Intl.NumberFormat(prefs.language === "zh" ? "zh-CN" : "en-US", {
    notation: "compact",
    maximumSignificantDigits: 3,
  }).format(value);
}

export function bytes(value) {
  if (missing(value)) return DASH;
  const units = ["B", "KB", "MB", "GB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Does this series hold at most one bar a day? Then the clock need not be shown. */
export function isDaily(stamps) {
  return new Set(stamps.slice(-50).map((stamp) => stamp.slice(0, 10))).size === Math.min(50, stamps.length);
}

/** A bar's time as its exchange writes it: never moved into the reader's own time zone. */
export function wall(stamp, daily = false) {
  if (!stamp) return DASH;
  return daily ? stamp.slice(0, 10) : stamp.slice(0, 16).replace("T", " ");
}

/** A moment of the server's clock in the reader's own time zone. */
export function moment(stamp) {
  const date = new Date(stamp);
  if (Number.isNaN(date.getTime())) return DASH;
  const today = new Date().toDateString() === date.toDateString();
  const clock = { hour: "2-digit", minute: "2-digit" };
  return today
    ? date.toLocaleTimeString(locale(), clock)
    : date.toLocaleString(locale(), { year: "numeric", month: "short", day: "numeric", ...clock });
}

export function duration(seconds) {
  if (missing(seconds)) return DASH;
  if (seconds < 1) return t("time.moment");
  if (seconds < 90) return t("time.seconds", { n: Math.round(seconds) });
  return t("time.minutes", { n: Math.round(seconds / 60) });
}

/** "5m" as "5 minutes". */
export function frequency(text) {
  const match = /^(\d+)([a-z]+)$/i.exec(text ?? "");
  if (!match || !known(`unit.${match[2]}`)) return text ?? DASH;
  return t(`unit.${match[2]}`, { n: Number(match[1]) });
}

/** What a series is called: its symbol, else the name of its file. */
export function seriesName(item) {
  return item?.symbol || item?.bars_name || item?.name || DASH;
}
