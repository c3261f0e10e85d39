// What went wrong, in the reader's language, with the server's own sentence beneath it.

import { errorState } from "./dom.js";
import { known, t } from "./i18n.js";

/** A headline for an error of the API. */
export function headline(error) {
  if (error.code && known(`error.${error.code}`)) return t(`error.${error.code}`);
  if (error.status === 429) return t("error.busy");
  if (error.status >= 500) return t("error.server");
  return null;
}

/** The error as a block. ``title`` is used where the code has no headline of its own. */
export function problem(error, title, ...actions) {
  const wait = error.retryAfter ? t("error.retry_after", { n: Math.ceil(error.retryAfter) }) : "";
  const text = [error.message, wait].filter(Boolean).join(" ") || t("error.try_again");
  return errorState(headline(error) ?? title, text, ...actions);
}
