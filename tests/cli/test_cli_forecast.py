"""``kronos forecast``: the table, the files, JSON, and every kind of bad input."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def forecast(run, tiny: Path, bars_csv: Path):
    """``kronos forecast`` of the small file by the tiny model, with these options."""

    def call(*options: object, bars: object = bars_csv, model: object = tiny):
        return run("forecast", bars, "--model", model, "--horizon", 5, "--samples", 24, *options)

    return call


# -- what comes out ---------------------------------------------------------------------------------------


def test_prints_a_row_a_bar_and_the_headline(forecast) -> None:
    result = forecast("--calendar", "XNYS")
    assert result.status == 0
    for words in ("next 5 bars", "Median", "50% interval", "90% interval", "P(up)", "Last close", "2,506.85"):
        assert words in result.stdout
    # The sample ends on the last trading day of 2018; New Year's Day and the weekend are closed.
    times = [line.split()[0] for line in result.stdout.splitlines() if line.strip().startswith("2019-")]
    assert times == ["2019-01-02", "2019-01-03", "2019-01-04", "2019-01-07", "2019-01-08"]


def test_too_few_paths_are_said_to_be(forecast) -> None:
    for options, words in (
        (("--samples", 10), "10 distinct paths, no distribution"),
        (("--temperature", 0), "one path, no distribution"),
    ):
        result = forecast(*options)
        assert words in result.stderr
        assert "Median" in result.stdout
        assert not [word for word in ("interval", "P(up)", "VaR", "%") if word in result.stdout.replace("%)", "")]
    assert "no distribution" not in forecast().stderr


def test_quantiles_of_too_few_paths_are_refused(forecast) -> None:
    result = forecast("--samples", 10, "--quantiles", ".1,.9")
    assert result.status == 1
    assert "--samples 20" in result.stderr


def test_every_chance_has_its_error(forecast) -> None:
    shown = forecast().stdout
    assert len(re.findall(r"\d+% ± \d+", shown)) == 6  # five bars and the headline
    assert "± is one standard error" in shown
    assert "±" not in forecast("--temperature", 0).stdout
    assert re.search(r"\d ± \d+\.\d\d \([+-]", shown)


@pytest.mark.parametrize("columns", ["80", "40"])
def test_wide_tables_keep_their_names_and_numbers(forecast, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = forecast("--quantiles", ".05,.1,.25,.5,.75,.9,.95").stdout
    names = "Time Close 0.05 Close 0.1 Close 0.25 Close 0.5 Close 0.75 Close 0.9 Close 0.95 P(up)"
    assert names in [" ".join(line.split()) for line in shown.splitlines()]
    assert "…" not in shown


def test_chosen_quantiles_are_shown(forecast) -> None:
    result = forecast("--quantiles", ".1,.9")
    assert "Close 0.1" in result.stdout
    assert "50% interval" not in result.stdout


def test_json_is_one_document_and_nothing_else(forecast) -> None:
    result = forecast("--json", "--quantiles", ".1,.5,.9")
    content = json.loads(result.stdout)
    assert result.status == 0
    assert result.stderr == ""
    assert list(content["quantiles"]) == ["0.1", "0.5", "0.9"]
    assert len(content["timestamps"]) == len(content["prob_up"]) == 5
    assert content["last_close"] == pytest.approx(2506.85, abs=0.01)
    assert len(content["prob_up_error"]) == len(content["close_median_error"]) == 5
    assert content["value_at_risk"] <= content["expected_shortfall"]
    assert "paths" not in content


def test_closes_that_stand_are_said_to(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "still.csv"
    bars.assign(open=5.0, high=5.1, low=4.9, close=5.0).to_csv(path, index=False)
    result = forecast(bars=path)
    assert "far too certain" in result.stderr
    assert "far too certain" in json.loads(forecast("--json", bars=path).stdout)["metadata"]["warnings"][0]


def test_same_seed_same_forecast(forecast) -> None:
    first, again, other = (forecast("--json", "--seed", seed).stdout for seed in (1, 1, 2))
    assert first == again
    assert json.loads(first)["mean"] != json.loads(other)["mean"]


def test_writes_every_form_at_once(forecast, tmp_path: Path) -> None:
    names = ["a.html", "a.png", "a.csv", "a.parquet", "a.json"]
    options = [word for name in names for word in ("-o", tmp_path / name)]
    result = forecast(*options)
    assert result.status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "bars.csv"])
    for name in names:
        assert f"Wrote {tmp_path / name}" in result.stderr
    assert re.search(r"a\.html \(\d\.\d MB, the charting code inside", result.stderr)
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(pd.read_parquet(tmp_path / "a.parquet")) == 5


def test_a_replay_sees_nothing_after_its_date(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    early = tmp_path / "early.csv"
    bars[bars["timestamp"] <= "2018-12-14"].to_csv(early, index=False)
    replay, own = forecast("--until", "2018-12-14", "--json"), forecast("--json", bars=early)
    assert json.loads(replay.stdout) == json.loads(own.stdout)
    shown = forecast("--until", "2018-12-14")
    assert "2018-09-06 … 2018-12-14" in shown.stderr
    assert "10 bars after 2018-12-14 left out" in shown.stderr
    assert "left out" not in forecast("--until", "2030-01-01").stderr


def test_bars_may_come_on_standard_input(forecast, bars_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bars_csv.read_bytes())))
    assert json.loads(forecast("--json", bars="-").stdout) == json.loads(forecast("--json").stdout)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    refused(forecast(bars="-"), ["standard input", "empty"])


def test_many_symbols_on_standard_input(forecast, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    many = pd.concat([bars.assign(symbol=name) for name in ("AAA", "BBB")]).to_csv(index=False)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(many.encode())))
    refused(forecast(bars="-"), ["Error: standard input holds 2 symbols", "--symbol", "-o FOLDER"])


def test_the_help_says_what_many_series_need(run) -> None:
    told = " ".join(re.sub("[│|]", " ", run("forecast", "--help").stdout).split())
    assert "these need -o FOLDER, or of a file of many choose one with --symbol" in told


def test_an_unknown_tokenizer_is_called_one(forecast) -> None:
    refused(forecast("--tokenizer", "nosuch"), ["unknown tokenizer 'nosuch'"])


def test_paths_are_valid_bars(forecast, tmp_path: Path) -> None:
    forecast("--paths", "-o", tmp_path / "paths.parquet")
    paths = pd.read_parquet(tmp_path / "paths.parquet")
    assert len(paths) == 5 * 24
    assert (paths["high"] >= paths[["open", "close"]].max(axis=1)).all()
    assert (paths["low"] <= paths[["open", "close"]].min(axis=1)).all()
    assert (paths[["low", "close"]] > 0).all().all()


def test_reads_a_packaged_sample(forecast) -> None:
    result = forecast(bars="sample:eurusd")
    assert result.status == 0
    assert "EURUSD" in result.stdout


def test_reading_is_decided_by_options(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    early = bars[bars["timestamp"].dt.day <= 12]
    path = tmp_path / "open.csv"
    early.assign(timestamp=early["timestamp"].dt.strftime("%d/%m/%Y")).to_csv(path, index=False, sep=";", decimal=",")
    named = ("--dayfirst", "--decimal", ",", "--timezone", "America/New_York", "--encoding", "utf-8", "--oldest-first")
    read = forecast(*named, "--frequency", "1d", "--calendar", "24/7", "--context", 7, "--json", bars=path)
    assert read.status == 0, read.stderr
    content = json.loads(read.stdout)
    assert content["timestamps"][0].startswith("2018-12-13T00:00:00-05:00")
    assert content["metadata"]["context_length"] == 7
    assert content["last_close"] == pytest.approx(float(early["close"].iloc[-1]), rel=1e-4)
    assert forecast("--monthfirst", "--decimal", ",", "--frequency", "1d", bars=path).status == 1


def test_errors_of_reading_name_the_option_that_decides(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    early = pd.date_range("2024-01-01", periods=12)
    files = {
        "dates": (bars.head(12).assign(timestamp=early.strftime("%d/%m/%Y")), "--monthfirst"),
        "names": (bars.rename(columns={"close": "Final"}), "--column close=NAME"),
        "times": (bars.rename(columns={"timestamp": "Tag"}), "--column timestamp=NAME"),
        "both": (pd.concat([bars.assign(tag="A"), bars.assign(tag="B")]), "--column symbol=NAME"),
    }
    for name, (table, option) in files.items():
        path = tmp_path / f"{name}.csv"
        table.to_csv(path, index=False)
        result = forecast(bars=path)
        assert result.status == 1, name
        assert f"({option})" in result.stderr, result.stderr
    words = ("--column", "symbol=tag", "--symbol", "A", "--calendar", "XNYS")
    assert forecast(*words, bars=tmp_path / "both.csv").status == 0


def test_gaps_and_days_without_a_session_are_told(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    assert "session" not in forecast("--calendar", "XNYS").stderr
    path = tmp_path / "gaps.csv"
    bars.drop(index=[20, 21, 40]).to_csv(path, index=False)
    assert (
        f"3 sessions of XNYS have no bar, the last {bars['timestamp'][40]:%Y-%m-%d}."
        in forecast("--calendar", "XNYS", bars=path).stderr
    )
    # London rests on Boxing Day; New York on Thanksgiving, and on the day of mourning of 5 December 2018.
    london = forecast("--calendar", "XLON")
    assert london.status == 0
    assert "2 sessions of XLON have no bar, the last 2018-12-05." in london.stderr
    assert "1 bar lies on a day without a session of XLON (2018-12-26)." in london.stderr
    warnings = json.loads(forecast("--calendar", "XLON", "--json").stdout)["metadata"]["warnings"]
    assert len(warnings) == 2


def test_columns_and_epochs_are_named(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    table = bars.assign(timestamp=bars["timestamp"].astype("datetime64[s]").astype("int64")).iloc[::-1]
    table.rename(columns={"close": "Final"}).drop(columns="amount").to_csv(path, index=False)
    assert forecast(bars=path).status == 1
    result = forecast("--column", "close=Final", "--epoch", "s", "--newest-first", "--calendar", "XNYS", bars=path)
    assert result.status == 0, result.stderr
    assert "2,506.85" in result.stdout
    assert "ROLE=NAME" in forecast("--column", "Final", bars=path).stderr


def test_the_end_that_a_stamp_names(forecast, tmp_path: Path) -> None:
    days = pd.bdate_range("2024-03-04", periods=5)
    times = pd.DatetimeIndex(
        [day + pd.Timedelta(hours=h) for day in days for h in (10.5, 11.5, 12.5, 13.5, 14.5, 15.5)]
    )
    close = 50 + np.sin(np.arange(len(times)))
    table = pd.DataFrame({"timestamp": times, "open": close, "high": close + 1, "low": close - 1, "close": close})
    path = tmp_path / "hours.csv"
    table.to_csv(path, index=False)
    words = ("--calendar", "XNYS", "--frequency", "1h", "--json", "--stamp")
    first = {end: json.loads(forecast(*words, end, bars=path).stdout)["timestamps"][0] for end in ("start", "end")}
    assert first == {"start": "2024-03-11T09:30:00", "end": "2024-03-08T16:00:00"}


def test_several_symbols_want_a_choice(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "two.parquet"
    pd.concat([bars.assign(symbol="AAA"), bars.assign(symbol="BBB")]).to_parquet(path, index=False)
    result = forecast(bars=path)
    assert result.status == 1
    assert "--symbol" in result.stderr
    assert "AAA" in result.stderr
    assert forecast("--symbol", "BBB", bars=path).status == 0


# -- bad input --------------------------------------------------------------------------------------------

Spoil = Callable[[pd.DataFrame], object]


def put(column: str, value: object, row: int = 40) -> Spoil:
    def spoil(bars: pd.DataFrame) -> None:
        bars[column] = bars[column].astype(object)
        bars.loc[row, column] = value

    return spoil


def swap(bars: pd.DataFrame) -> None:
    bars.loc[[40, 41], "timestamp"] = bars.loc[[41, 40], "timestamp"].to_numpy()


def repeat(bars: pd.DataFrame) -> None:
    bars.loc[41, "timestamp"] = bars.loc[40, "timestamp"]


def rename(bars: pd.DataFrame) -> None:
    bars.columns = pd.Index([f"column {letter}" for letter in "abcdefg"])


# Row 40 of the table stands on line 42 of the file: the header is line 1, and the table counts from 0.
BAD_BARS: dict[str, tuple[Spoil, list[str]]] = {
    "unknown columns": (rename, ["column a"]),
    "text in a number": (put("close", "n/k"), ["42", "close", "n/k"]),
    "missing price": (put("open", np.nan), ["42", "open"]),
    "infinite price": (put("high", np.inf), ["42", "high", "infinite"]),
    "high below low": (put("high", 1.0), ["42", "high"]),
    "zero price": (put("low", 0.0), ["42", "low"]),
    "negative price": (put("close", -5.0), ["42", "close"]),
    "negative volume": (put("volume", -1), ["42", "volume"]),
    "unreadable time": (put("timestamp", "yesterday"), ["42", "yesterday"]),
    "unsorted times": (swap, ["column timestamp", "Sort the rows"]),
    "duplicate times": (repeat, ["43", "before"]),
}


@pytest.mark.parametrize("name", BAD_BARS)
def test_bad_bars_are_refused_with_the_place(forecast, bars: pd.DataFrame, tmp_path: Path, name: str) -> None:
    spoil, words = BAD_BARS[name]
    table = bars.copy()
    spoil(table)
    path = tmp_path / "spoilt.csv"
    table.to_csv(path, index=False)
    refused(forecast("-o", tmp_path / "out.csv", bars=path), ["spoilt.csv", *words])
    assert not (tmp_path / "out.csv").exists()


def test_defective_rows_can_be_dropped(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.csv"
    bars.assign(high=bars["high"].where(bars.index != 40, 1.0)).to_csv(path, index=False)
    result = forecast("--on-defect", "drop", bars=path)
    assert result.status == 0
    assert "Dropped 1 defective rows of 80" in result.stderr


def refused(result, words: list[str], status: int = 1) -> None:
    assert result.status == status, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr[result.stderr.index("Error:") :]
    assert len(message.splitlines()) <= 2, message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("empty.csv", ["empty.csv", "empty"]),
        ("header.csv", ["header.csv"]),
        ("folder", ["folder"]),
        ("missing.csv", ["missing.csv"]),
        ("noise.parquet", ["noise.parquet"]),
        ("sample:nikkei", ["nikkei", "sp500"]),
    ],
)
def test_bad_sources_are_refused(forecast, tmp_path: Path, monkeypatch, source: str, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("header.csv").write_text("timestamp,open,high,low,close\n")
    Path("folder").mkdir()
    Path("noise.parquet").write_bytes(bytes(range(256)) * 9)
    refused(forecast(bars=source), words)


BAD_SETTINGS: dict[str, tuple[list[object], list[str]]] = {
    "horizon 0": (["--horizon", 0], ["horizon", "0"]),
    "horizon of a million": (["--horizon", 1_000_000], ["horizon", "1"]),
    "no samples": (["--samples", 0], ["samples", "0"]),
    "absurdly many samples": (["--samples", 10**9], ["samples"]),
    "negative temperature": (["--temperature", -1], ["temperature", "-1"]),
    "top_p 0": (["--top-p", 0], ["top_p", "0"]),
    "top_p 2": (["--top-p", 2], ["top_p", "2"]),
    "negative top_k": (["--top-k", -1], ["top_k", "-1"]),
    "unknown calendar": (["--calendar", "XMARS"], ["XMARS"]),
    "quantile above 1": (["--quantiles", ".1,1.5"], ["1.5"]),
    "unknown device": (["--device", "abacus"], ["abacus"]),
    "unknown ending": (["-o", "out.xlsx"], [".xlsx", ".parquet"]),
    "no ending": (["-o", "out"], ["holds one series", ".parquet"]),
    "no time": (["--until", "yesterday, about noon"], ["yesterday, about noon", "2024-07-01T15:30"]),
    "before the first bar": (["--until", "1999-01-01"], ["no bar up to 1999-01-01", "2018"]),
    "missing folder": (["-o", "nowhere/out.csv"], ["nowhere"]),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused(forecast, tmp_path: Path, monkeypatch, name: str) -> None:
    options, words = BAD_SETTINGS[name]
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(forecast(*options, *([] if "-o" in options else ["-o", "out.csv"])), words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_context_of_one_bar_is_refused(forecast, bars: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    bars.head(1).to_csv(path, index=False)
    refused(forecast(bars=path), ["1 "])


def test_an_unknown_model_is_refused_with_the_known_names(forecast) -> None:
    refused(forecast(model="kronos-gigantic"), ["kronos-gigantic", "kronos-nano"])


@pytest.mark.parametrize("damage", ["truncated", "noise", "config", "no weights"])
def test_a_damaged_checkpoint_is_refused(forecast, tiny: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    weights, config = copy / "model" / "model.safetensors", copy / "model" / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "noise":
        weights.write_bytes(bytes(range(256)) * 40)
    elif damage == "config":
        config.write_text('{"s1_bits": 4')
    else:
        weights.unlink()
    refused(forecast(model=copy), ["config.json" if damage == "config" else "model.safetensors"])


# -- breaks in the context --------------------------------------------------------------------------------


@pytest.fixture
def split_csv(bars_csv: Path, tmp_path: Path) -> tuple[Path, str]:
    """The small file with a split of three for one, and its first day at the new price."""
    bars = pd.read_csv(bars_csv)
    bars.loc[bars.index[:-30], ["open", "high", "low", "close"]] *= 3
    bars.loc[bars.index[:-30], "volume"] /= 3
    path = tmp_path / "split.csv"
    bars.to_csv(path, index=False)
    return path, str(bars["timestamp"].iloc[-30])[:10]


def test_a_break_is_told_with_what_to_do(forecast, split_csv: tuple[Path, str]) -> None:
    path, day = split_csv
    result = forecast(bars=path)
    assert f"Note: the price breaks on {day}" in result.stderr
    assert "--adjust splits" in result.stderr
    told = json.loads(forecast("--json", bars=path).stdout)["metadata"]["warnings"]
    assert told[0].startswith(f"the price breaks on {day}")


def test_splits_are_adjusted_when_asked(forecast, split_csv: tuple[Path, str]) -> None:
    path, day = split_csv
    whole = json.loads(forecast("--json").stdout)
    for adjust in ("splits", f"{day}=3"):
        mended = json.loads(forecast("--json", "--adjust", adjust, bars=path).stdout)
        assert f"prices before {day} divided by 3, as asked" in mended["metadata"]["warnings"][0]
        assert mended["mean"]["close"] == pytest.approx(whole["mean"]["close"], rel=1e-4)
    wrong = forecast("--adjust", "split", bars=path)
    assert wrong.status == 1
    assert "adjust is 'split'; it must be splits, volume, cut or DATE=FACTOR" in wrong.stderr


# -- risk -------------------------------------------------------------------------------------------------


def test_the_summary_has_a_line_of_volatility(forecast) -> None:
    shown = forecast("--calendar", "XNYS").stdout
    found = re.search(
        r"Volatility a year [\d.]+% \(90% interval [\d.]+%–[\d.]+%\), Context [\d.]+%, HAR [\d.]+%, "
        r"by 25\d sessions a year of XNYS",
        shown,
    )
    assert found
    assert "Volatility" not in forecast("--temperature", 0).stdout


def test_the_cone_has_a_row_for_every_doubling(forecast) -> None:
    shown = forecast("--calendar", "XNYS", "--volatility").stdout
    assert "Expected" in shown
    rows = [line.split() for line in shown.split("Volatility a year of the paths so far")[1].splitlines()]
    cone = [row for row in rows if len(row) == 7 and row[0].isdigit()]
    assert [row[0] for row in cone] == ["1", "2", "4", "5"]
    assert [row[1] for row in cone] == ["2019-01-02", "2019-01-03", "2019-01-07", "2019-01-08"]
    assert all("%" in value for row in cone for value in row[2:])


def test_touches_and_barriers_are_tables_with_their_errors(forecast) -> None:
    result = forecast("--touch", 2600, "--touch", 2400, "--take-profit", 2600, "--stop-loss", 2450)
    assert result.status == 0
    assert "2,600.00 (+3.7%)" in result.stdout
    assert "2,400.00 (-4.3%)" in result.stdout
    for words in ("take profit first", "stop loss first", "both in one bar", "one of them", "neither"):
        assert re.search(rf"{words} +\d+% ± \d", result.stdout)
    assert result.stdout.count("± is one standard error") == 1


def test_touches_are_in_the_json_document(forecast) -> None:
    options = ("--touch", 2600, "--take-profit", 2450, "--stop-loss", 2600, "--json")
    found = json.loads(forecast(*options).stdout)
    assert found["volatility"]["bars_per_year"] in (251, 252)
    assert len(found["volatility"]["har"]) == 5
    assert found["touch"][0]["price"] == 2600
    assert len(found["touch"][0]["prob_touch"]) == 5
    first = found["first_touch"]
    assert first["profit"]["chance"] + first["loss"]["chance"] + first["both"]["chance"] == pytest.approx(
        first["either"]["chance"]
    )
    assert "touch" not in json.loads(forecast("--json").stdout)


def test_prices_that_cannot_be_asked_about_are_refused_before_the_work(forecast, tmp_path: Path) -> None:
    for options, words in (
        (("--touch", 0), "positive number; it is 0"),
        (("--touch", 2506.85), "is the last close itself"),
        (("--take-profit", 2600), "give stop_loss (--stop-loss) too"),
        (("--take-profit", 2600, "--stop-loss", 2550), "both lie above the last close 2506.85"),
        (("--touch", 2600, "--json", "--layout", "record"), "leave --layout out"),
    ):
        target = tmp_path / "never.csv"
        result = forecast(*options, "-o", target)
        assert (result.status, target.exists()) == (1, False)
        assert words in " ".join(result.stderr.split())


def test_risk_is_of_one_series(run, tmp_path: Path, tiny: Path, bars_csv: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    shutil.copy(bars_csv, folder)
    for option in (("--volatility",), ("--touch", 2600), ("--stop-loss", 2450)):
        result = run("forecast", folder, "--model", tiny, "-o", tmp_path / "out", *option)
        assert result.status == 1
        assert f"{option[0]} is of one series" in result.stderr
