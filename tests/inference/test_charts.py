"""The charts: what the scene says is what the forecast says, and both drawings hold it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest

from kronos.cli.common import moment
from kronos.inference.charts import Scene, page, price_decimals, short_number


def test_bands_begin_at_the_last_close_and_hold_their_share(make_forecast) -> None:
    forecast = make_forecast(paths=200)
    shown = Scene(forecast)
    close = forecast.close()
    for band in shown.bands:
        assert band.lower[0] == band.upper[0] == forecast.last_close
        inside = ((close >= band.lower[1:]) & (close <= band.upper[1:])).mean()
        assert inside == pytest.approx(band.share, abs=0.02)
    npt.assert_allclose(shown.median[1:], forecast.median()["close"])


@pytest.mark.parametrize("frequency", ["D", "5min", "h", "s", "ms"])
def test_every_bar_has_its_own_label(make_forecast, frequency: str) -> None:
    shown = Scene(make_forecast(frequency=frequency))
    assert len(set(shown.labels)) == shown.size == len(shown.past) + 12


def test_a_repeated_hour_keeps_its_bars_apart(make_forecast) -> None:
    times = pd.date_range("2024-10-26 12:00", periods=162, freq="15min", tz="Europe/Berlin")
    forecast = make_forecast()
    object.__setattr__(forecast, "timestamps", times[150:])
    forecast.history["timestamp"] = times[:150]
    assert len(set(Scene(forecast).labels)) == Scene(forecast).size


def test_a_day_that_begins_without_its_midnight_is_shown(make_forecast) -> None:
    """Cairo skips the midnight of 26 April 2024."""
    times = pd.date_range("2024-04-19 12:00", periods=162, freq="h", tz="Africa/Cairo")
    forecast = make_forecast()
    object.__setattr__(forecast, "timestamps", times[150:])
    forecast.history["timestamp"] = times[:150]
    assert "2024-04-26 01:00" in page(forecast)
    assert [moment(time) for time in times[[12, 155, 156]]] == ["2024-04-20", "2024-04-25 23:00", "2024-04-26 01:00"]


def test_page_opens_offline_and_escapes_names(make_forecast) -> None:
    text = page(make_forecast(symbol="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;" in text
    assert len(text) > 1_000_000  # plotly.js is inside
    assert not re.search(r"<(script|link)[^>]+(src|href)\s*=", text)


def test_figure_has_candles_fan_and_volume(make_forecast) -> None:
    forecast = make_forecast()
    kinds = [trace.type for trace in forecast.plot().data]
    assert kinds == ["candlestick", "scatter", "scatter", "scatter", "scatter", "bar", "bar"]
    axis = forecast.plot().layout.xaxis
    assert axis.type == "category"  # so that closed hours take no room
    assert len(axis.categoryarray) == len(Scene(forecast).labels)


def test_without_volume_there_is_no_volume_panel(make_forecast) -> None:
    assert "bar" not in [trace.type for trace in make_forecast(volume=0.0).plot().data]


@pytest.mark.parametrize(
    "options", [{}, {"volume": 0.0}, {"history": 0}, {"paths": 1, "horizon": 1}, {"symbol": "$^_{"}]
)
def test_png_and_html_are_written_for_every_kind(make_forecast, tmp_path: Path, options) -> None:
    forecast = make_forecast(**options)
    picture = forecast.save(tmp_path / "chart.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1800, 1020)
    assert forecast.save(tmp_path / "chart.html").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("prices", "decimals"),
    [([2506.85, 2500.0], 2), ([1.12345], 5), ([np.float32(2506.85)], 2), ([1.234e-7], 8), ([7.0], 2)],
)
def test_prices_are_shown_as_quoted(prices: list[float], decimals: int) -> None:
    assert price_decimals(prices) == decimals


def test_short_numbers() -> None:
    assert [short_number(x) for x in (0, 950, 1500, 2.5e6, 4.1e9)] == ["0", "950", "1.5K", "2.5M", "4.1B"]


def test_the_source_line_says_what_the_numbers_rest_on(make_forecast) -> None:
    forecast = make_forecast(paths=1, seed=3)
    forecast.metadata.update(cutoff="2024-07-28T00:00:00", calendar=None)
    assert Scene(forecast).source == "1 sample path: no distribution · model test · seed 3 · last bar 2024-07-28"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(390, 844), (1280, 800), (1200, 1700)])
def test_the_table_stands_below_the_chart_from_the_start(make_forecast, tmp_path: Path, size: tuple[int, int]) -> None:
    """Also in a picture taken when the page has just loaded, before the chart could be drawn again."""
    chromium = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed")
    file = tmp_path / "page.html"
    file.write_text(page(make_forecast()), encoding="utf-8")
    with chromium.sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)))
        view.goto(file.as_uri(), wait_until="load")
        drawn, below = view.evaluate(
            "['.main-svg', 'h2'].map((name) => document.querySelector(name).getBoundingClientRect())"
            ".map((box, i) => i ? box.top : box.bottom)"
        )
        assert drawn <= below
        browser.close()
