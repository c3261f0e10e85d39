"""The studio in Debian's Chromium, on a real server that asks for a token."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kronos.bars import sample_bars
from kronos.serve.worker import elements

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from browsing import ARGUMENTS, CHROMIUM, SIZES, TOKEN, Visit, album, contrast, drop, visit
from playwright.sync_api import Browser, Page, sync_playwright
from serving import Live

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}: apt-get install chromium"),
]
STATIC = Path(__file__).parents[2] / "src" / "kronos" / "serve" / "static"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server(new_data: Callable[[], Path]) -> Iterator[Live]:
    found = Live(new_data(), "--token", TOKEN)
    found.client.headers["Authorization"] = f"Bearer {TOKEN}"
    try:
        yield found.ready()
    finally:
        found.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as found:
        chromium = found.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of a file of one's own."""
    path = tmp_path_factory.mktemp("bars") / "my bars.csv"
    sample_bars("nasdaq").tail(400).drop(columns=["symbol", "amount"]).to_csv(path, index=False)
    return path


# -- the way through ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_upload_forecast_cancel_replay_history(
    server: Live, browser: Browser, upload: Path, tmp_path: Path, size: str, language: str
) -> None:
    theme = "dark" if (size == "laptop") == (language == "zh") else "light"
    with visit(browser, server.address, size, language, color_scheme=theme) as found:
        found.album = album(tmp_path)
        page, name = found.page, f"studio-{size}-{language}-{theme}"
        found.open()
        found.chart()
        assert page.locator("html").get_attribute("data-rise") == ("red" if language == "zh" else "green")

        if language == "zh":
            drop(page, upload)
        else:
            page.set_input_files("#file", upload)
        page.get_by_role("heading", level=1, name=upload.name).wait_for()
        found.chart()
        found.picture(f"{name}-1-bars")

        ask(page, horizon=12, paths=40)
        page.locator(".result h1").wait_for()
        found.chart()
        link = page.url
        assert re.search(r"#/forecasts/[\w-]+$", link)
        assert page.locator("table.bars tbody tr").count() == 12
        page.locator("[data-layer=paths]").check()
        found.chart()
        found.picture(f"{name}-2-forecast")
        said = page.locator(".result-head .lead").inner_text()

        page.locator("button.back").click()
        found.chart()
        ask(page, horizon=400, paths=60)
        page.locator(".card.running progress[value]").wait_for()
        found.picture(f"{name}-3-running")
        page.locator("#cancel-run").click()
        page.locator(".ended.cancelled").wait_for()
        found.picture(f"{name}-4-cancelled")

        page.locator(".ended button:not(.primary)").click()
        found.chart()
        replay(page)
        page.locator(".comparison").wait_for()
        found.chart()
        assert page.locator(".comparison .coverage").count() == 3
        found.picture(f"{name}-5-replay")

        page.goto(f"{server.address}/#/history")
        page.locator("table.history").wait_for()
        compare(page)
        found.chart("main")
        found.picture(f"{name}-6-compare")
        delete_newest(page, found, name)

        page.goto(link)
        assert page.locator(".result-head .lead").inner_text() == said
        page.goto(f"{server.address}/#/models/kronos-nano")
        page.locator(".prose table").first.wait_for()
        found.picture(f"{name}-8-models")
        assert not found.complaints


def ask(page: Page, horizon: int, paths: int) -> None:
    """Set the two numbers that matter, and go."""
    page.fill("#set-horizon", str(horizon))
    page.fill("#set-num_samples", str(paths))
    page.locator("#run").click()


def replay(page: Page) -> None:
    """Choose the cutoff on the chart, then a bar earlier, and go."""
    page.fill("#set-horizon", "12")
    page.locator("label[for=mode-replay]").click()
    page.locator(".cutoff").wait_for()
    before = page.input_value("#cutoff")
    read = page.locator(".readout").inner_text()
    plot = page.locator("#centre .plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3)
    page.wait_for_function("read => document.querySelector('.readout').innerText !== read", arg=read)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function("before => document.getElementById('cutoff').value !== before", arg=before)
    picked = page.input_value("#cutoff")
    assert "2018-08-01" < picked < "2018-12-01"  # where the pointer is, not at an end
    assert picked in page.locator(".readout").inner_text()
    page.locator(".stepper button").first.click()
    assert page.input_value("#cutoff") < picked
    ask(page, horizon=12, paths=40)


def compare(page: Page) -> None:
    """Tick the two newest finished forecasts and look at both."""
    boxes = page.locator("tbody input[type=checkbox]:not(:disabled)")
    boxes.nth(0).check()
    boxes.nth(1).check()
    assert page.locator("tbody input[type=checkbox]:not(:checked):not(:disabled)").count() == 0
    page.locator(".tray a").click()
    page.locator("table.pairs").wait_for()


def delete_newest(page: Page, found: Visit, name: str) -> None:
    page.go_back()
    page.locator("table.history").wait_for()
    found.picture(f"{name}-7-history")
    key = page.locator("[data-key^=delete-]").first.get_attribute("data-key")
    page.locator("[data-key^=delete-]").first.click()
    page.locator("dialog button[value=yes]").click()
    page.locator(f'[data-key="{key}"]').wait_for(state="detached")


def test_picture_for_the_readme(server: Live, browser: Browser, tmp_path: Path) -> None:
    """KRONOS_SCREENSHOTS=docs/images makes docs/images/studio.png."""
    with visit(browser, server.address, device_scale_factor=1.25) as found:
        found.page.set_viewport_size({"width": 1366, "height": 1010})
        found.open()
        found.chart()
        ask(found.page, horizon=24, paths=100)
        found.page.locator(".result h1").wait_for()
        found.chart()
        found.page.evaluate("scrollTo(0, 0)")
        picture = album(tmp_path) / "studio.png"
        found.page.screenshot(path=picture)
        assert picture.stat().st_size > 50_000
        assert not found.complaints


# -- what may go wrong -------------------------------------------------------------------------------------------------


def test_token(server: Live, browser: Browser) -> None:
    with visit(browser, server.address, signed_in=False) as found:
        page = found.page
        found.open()
        page.fill("#token", "not the token of this server")
        page.keyboard.press("Enter")
        page.locator("dialog .wrong:not(:empty)").wait_for()
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        found.chart()
        assert page.evaluate("document.cookie") == ""  # scripts cannot read the session
        assert TOKEN not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")


def test_progress_without_events(server: Live, browser: Browser) -> None:
    """Where server-sent events do not come through, the studio asks again and again."""
    with visit(browser, server.address) as found:
        found.page.route("**/events", lambda route: route.abort())
        found.open()
        found.chart()
        ask(found.page, horizon=6, paths=10)
        found.page.locator(".result h1").wait_for()


def test_bars_that_cannot_be_read(server: Live, browser: Browser, tmp_path: Path) -> None:
    """What is wrong is said beside the file, and the page stays as it was."""
    path = tmp_path / "prices.csv"
    table = sample_bars("sp500").tail(50).drop(columns="symbol")
    table.iloc[20, table.columns.get_loc("high")] = 1.0
    table.to_csv(path, index=False)
    with visit(browser, server.address) as found:
        found.open()
        found.chart()
        found.page.set_input_files("#file", path)
        notice = found.page.locator(".bars-panel .notice.error")
        notice.wait_for()
        assert "22" in notice.inner_text()  # the line of the file
        assert found.page.locator("#chart-title").inner_text() == "SP500"
        found.page.get_by_label("Leave out defective rows").check()
        notice.get_by_role("button").click()
        found.page.get_by_role("heading", level=1, name=path.name).wait_for()
        assert "49 of 50 rows" in found.page.locator(".report").inner_text()


def test_untrusted_text_stays_text(server: Live, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / f"{HOSTILE}.parquet".replace("/", "")
    sample_bars("sp500").tail(80).assign(symbol=HOSTILE).to_parquet(path)
    with visit(browser, server.address) as found:
        page = found.page
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        found.open()
        found.chart()
        page.set_input_files("#file", path)
        page.get_by_role("heading", level=1, name=HOSTILE).wait_for()
        ask(page, horizon=3, paths=10)
        page.locator(".result h1").wait_for()
        page.goto(f"{server.address}/#/history")
        page.get_by_role("link", name=HOSTILE).wait_for()
        card = page.evaluate(
            """async (parts) => {
                const { prose } = await import("/static/js/prose.js");
                const root = document.body.appendChild(prose(parts));
                return [root.querySelectorAll("img, script, a").length, root.textContent];
            }""",
            elements(f"# {HOSTILE}\n\n[go](javascript:alert`3`) <script>alert(4)</script>"),
        )
        assert card == [0, f"{HOSTILE}[go](javascript:alert3) <script>alert(4)</script>"]
        assert page.locator("img[src=x]").count() == 0
        assert not dialogs
        assert not found.complaints
    sources = "".join(path.read_text() for path in STATIC.glob("js/*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", sources)


# -- for everybody -----------------------------------------------------------------------------------------------------


def test_language_theme_and_colours_keep_what_was_chosen(server: Live, browser: Browser) -> None:
    with visit(browser, server.address) as found:
        page, root = found.page, found.page.locator("html")
        found.open()
        found.chart()
        page.fill("#set-horizon", "33")
        page.locator("#language").click()
        found.chart()
        assert (root.get_attribute("lang"), root.get_attribute("data-rise")) == ("zh-CN", "red")
        assert page.locator("#run").inner_text() == "开始预测"
        assert page.input_value("#set-horizon") == "33"
        page.locator("#look summary").click()
        page.get_by_label("绿涨红跌").check()
        page.get_by_label("深色").check()
        found.chart()
        found.open()
        found.chart()
        assert (root.get_attribute("data-theme"), root.get_attribute("data-rise")) == ("dark", "green")
        assert root.get_attribute("lang") == "zh-CN"
        assert not found.complaints


def test_keyboard_and_names(server: Live, browser: Browser) -> None:
    """Everything that can be used has a name and can be reached; a forecast needs no pointer."""
    nameless = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [role=slider], meter")]
        .filter((element) => element.checkVisibility() && !element.getAttribute("aria-hidden"))
        .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length))
        .map((element) => element.outerHTML.slice(0, 120))"""
    with visit(browser, server.address) as found:
        page = found.page
        found.open()
        found.chart()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "skip"
        page.locator("#finer summary").press("Enter")
        assert page.evaluate(nameless) == []
        page.locator("#mode-forecast").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#mode-replay").is_checked()
        handle = page.locator(".handle.from")
        shown = int(handle.get_attribute("aria-valuenow") or 0)
        handle.press("ArrowLeft")
        page.wait_for_function(
            "shown => Number(document.querySelector('.handle.from').ariaValueNow) < shown", arg=shown
        )
        page.fill("#cutoff", "2005-06-05")  # a Sunday, long before the bars that are shown
        page.wait_for_function("() => document.getElementById('cutoff').value === '2005-06-03'")
        page.fill("#set-num_samples", "10")
        page.locator("#set-horizon").fill("600")
        page.keyboard.press("Enter")
        assert page.locator("#set-horizon").get_attribute("aria-invalid") == "true"
        assert page.evaluate("document.activeElement.id") == "set-horizon"
        page.locator("#set-horizon").fill("6")
        page.keyboard.press("Enter")
        assert "2005-06-03" in page.locator(".result h1").inner_text()
        found.chart()
        assert page.evaluate(nameless) == []
        assert not found.complaints


def test_link_restores_forecast_and_settings(server: Live, browser: Browser) -> None:
    """Who opens a link for the first time finds the forecast, and what made it in the panels."""
    asked = {"bars": "sample-nasdaq", "symbol": "NASDAQ", "cutoff": "2010-03-01T00:00:00", "horizon": 7, "seed": 5}
    made = server.result(**asked, model="kronos-nano")
    with visit(browser, server.address) as found:
        page = found.page
        found.open(f"#/forecasts/{made['id']}")
        assert "2010-03-01" in page.locator(".result h1").inner_text()
        assert [page.input_value(f"#set-{name}") for name in ("horizon", "num_samples", "seed")] == ["7", "4", "5"]
        assert page.locator("#mode-replay").is_checked()
        page.locator("button.back").click()
        page.get_by_role("heading", level=1, name="NASDAQ").wait_for()
        page.wait_for_function("() => document.getElementById('cutoff').value === '2010-03-01'")
        found.chart()
        assert not found.complaints


@pytest.mark.parametrize("language", ["en", "zh"])
def test_volatility_a_year_and_the_chance_of_a_touch(
    server: Live, browser: Browser, tmp_path: Path, language: str
) -> None:
    made = server.result(model="kronos-nano", horizon=8, num_samples=40)
    told = server.get(f"/api/forecasts/{made['id']}/result", touch=2600)
    with visit(browser, server.address, "phone", language) as found:
        found.album = album(tmp_path)
        page = found.page
        found.open(f"#/forecasts/{made['id']}")
        found.chart()
        card = page.locator(".risk")
        assert f"{100 * told['volatility']['expected'][-1]:.1f}%" in card.inner_text()
        assert f"{100 * told['volatility']['context'][-1]:.1f}%" in card.inner_text()
        assert f"{100 * told['volatility']['har'][-1]:.1f}%" in card.inner_text()
        assert str(told["volatility"]["bars_per_year"]) in card.inner_text()
        page.get_by_label("Chance that a price is touched" if language == "en" else "触及某价格的概率").fill("2600")
        page.keyboard.press("Enter")
        page.get_by_text(f"{100 * told['touch'][0]['prob_touch'][-1]:.0f}% ± ").last.wait_for()
        found.picture(f"studio-touch-{language}")
        for wrong in ("-1", "0", str(made["history"]["close"][-1])):
            page.locator(".risk input").fill(wrong)
            page.keyboard.press("Enter")
            page.get_by_text("above 0" if language == "en" else "大于 0").wait_for()
            page.locator(".risk input").fill("")
            page.keyboard.press("Enter")
        assert not found.complaints


def test_contrast(server: Live, browser: Browser) -> None:
    """WCAG AA: text four and a half to one, edges of controls three to one, in both themes."""
    text = [(ink, ground) for ink in ("ink", "soft", "accent", "up-text", "down-text") for ground in ("card", "paper")]
    text += [("on-accent", "accent"), ("accent", "tint"), ("ink", "tint"), ("bad", "bad-tint"), ("warn", "warn-tint")]
    edges = [(line, "card") for line in ("edge", "accent", "ahead", "other", "up", "down")]
    for theme in ("light", "dark"):
        with visit(browser, server.address, color_scheme=theme) as found:
            found.open("#/models")
            for least, pairs in ((4.5, text), (3.0, edges)):
                for ink, ground in pairs:
                    ratio = contrast(found.page, ink, ground)
                    assert ratio >= least, f"{theme}: {ink} on {ground} has {ratio:.2f}"


def test_words_and_limits(server: Live, browser: Browser) -> None:
    """Both languages say everything; every sentence is used; the bounds are those of the API."""
    with visit(browser, server.address) as found:
        found.open("#/models")
        words: dict[str, list[str]] = found.page.evaluate('async () => (await import("/static/js/words.js")).WORDS')
        limits: dict[str, Any] = found.page.evaluate('async () => (await import("/static/js/state.js")).LIMITS')
    for key, pair in words.items():
        assert len(pair) == 2, key
        assert all(pair), key
        fields = [sorted(set(re.findall(r"\{\w+\}", text))) for text in pair]
        assert fields[0] == fields[1], key
    sources = "".join(path.read_text() for path in STATIC.glob("js/*.js") if not path.stem.startswith("words"))
    asked = set(re.findall(r'\bt\(\s*"([^"]+)"', sources))
    assert asked <= set(words), asked - set(words)
    families = {re.sub(r"\$\{[^}]*\}", "*", key) for key in re.findall(r"[(\s]`([a-z_]+\.[^`\s]*)`", sources)}
    spoken = re.compile("|".join(re.escape(key).replace(r"\*", ".+") for key in families))
    unused = {key for key in words if f'"{key.removesuffix(".one")}"' not in sources and not spoken.fullmatch(key)}
    assert not unused
    schema = server.get("/api/openapi.json")["components"]["schemas"]["ForecastRequest"]["properties"]
    for name, bounds in limits.items():
        number = next(part for part in schema[name].get("anyOf", [schema[name]]) if part.get("type") != "null")
        assert bounds["max"] == number["maximum"], name
        assert bounds["min"] == number.get("minimum", bounds["min"]), name


def test_files_are_small_and_plain() -> None:
    for path in STATIC.rglob("*.*"):
        text = path.read_text()
        if path.suffix in (".js", ".css"):
            assert len(text.splitlines()) < 400, path.name
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), path.name
        assert not re.search(r"https?://(?!www\.w3\.org/)", text.replace("https?:", "")), path.name
