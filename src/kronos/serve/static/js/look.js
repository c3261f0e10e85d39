// Runs before the first paint, so that a stored theme or language never flashes. Everything else is in prefs.js.
(() => {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem("kronos.look") ?? "{}") ?? {};
  } catch {
    // Storage may be forbidden or hold nonsense; the defaults are good.
  }
  const root = document.documentElement;
  const chinese = (stored.language ?? navigator.language ?? "en").startsWith("zh");
  root.lang = chinese ? "zh-CN" : "en";
  if (stored.theme === "dark" || stored.theme === "light") root.dataset.theme = stored.theme;
})();
