"""``kronos evaluate`` from the command line: report, resuming, models, and the errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.forecasters import asking

from kronos.bars.store import BarStore
from kronos.errors import DataError, KronosError
from kronos.evaluation.windows import Series
from kronos.model.checkpoint import change_config
from kronos.workflows.evaluate import find_markets, load_markets
from kronos.workflows.forecasters import Configured, load_any, load_forecaster

FEW = ("--windows", 4, "--context", 40, "--horizon", 4, "--samples", 20, "--workers", 1)


@pytest.fixture
def two_markets(tmp_path: Path) -> Path:
    """A folder with one file of three symbols and one of a single series."""
    rng = np.random.default_rng(0)
    frames = []
    for symbol in ("A", "B", "C"):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, 120)))
        opening = np.concatenate([[50.0], close[:-1]])
        high, low = np.maximum(opening, close) * 1.002, np.minimum(opening, close) * 0.998
        frame = pd.DataFrame({"open": opening, "high": high, "low": low, "close": close, "volume": 10.0})
        frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=120, freq="1h"))
        frames.append(frame.assign(symbol=symbol))
    folder = tmp_path / "bars"
    folder.mkdir()
    pd.concat(frames, ignore_index=True).to_parquet(folder / "many_1h.parquet")
    frames[0].drop(columns="symbol").to_csv(folder / "one_1h.csv", index=False)
    return folder


def test_report_of_a_model_and_two_baselines(run, tiny: Path, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "report"
    words = ("evaluate", two_markets, "--model", tiny, "--baselines", "ewma,last-close", "-o", out, *FEW)
    done = run(*words, "--json")
    assert done.status == 0, done.stderr
    summary = json.loads(done.stdout)
    assert set(summary["markets"]) == {"many_1h", "one_1h"}
    assert [f["name"] for f in summary["forecasters"]] == [tiny.name, "ewma", "last-close", "rw-resampled"]
    assert all(digest.startswith("sha256:") for digest in summary["data"].values())
    assert {v["task"] for v in summary["verdicts"]} >= {"price", "volatility"}
    assert "kronos" in summary["command"]
    assert np.isfinite(summary["tasks"]["price"]["many_1h"][tiny.name]["nats_per_bar"]["value"])
    assert sorted(p.name for p in out.iterdir()) == [".parts", "metrics.parquet", "report.html", "summary.json"]
    stored = sorted((out / ".parts").iterdir())
    again = run(*words)
    assert again.status == 0
    assert "Goes on: 64 of 64 forecasts were scored by an earlier run" in again.stderr
    assert again.stdout.startswith(f"{tiny.name}, prices: ")
    assert "rw-resampled: a random walk that draws its moves" in again.stdout
    assert sorted((out / ".parts").iterdir()) == stored  # nothing was computed twice
    assert "no edge shown" in again.stdout or "worse than" in again.stdout


def test_several_horizons_at_once(run, tiny: Path, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """``--horizon 1,4``: the close at each of them, on the same forecasts; the context is what a forecast reads."""
    words = ("--windows", 4, "--samples", 20, "--workers", 1, "--tasks", "price", "--baselines", "none")
    one = two_markets / "one_1h.csv"
    done = run("evaluate", one, "--model", tiny, "--horizon", "1,4", "-o", tmp_path / "r", *words, "--json")
    assert done.status == 0, done.stderr
    summary = json.loads(done.stdout)
    assert set(summary["by_horizon"]["one_1h"][tiny.name]) == {"1", "4"}
    assert summary["markets"]["one_1h"]["horizon"] == 4
    assert summary["markets"]["one_1h"]["context"] == 64  # what the model reads at most
    assert "By horizon" in (tmp_path / "r" / "report.html").read_text()
    wrong = run("evaluate", one, "--horizon", "1,many", "-o", tmp_path / "w", *words)
    assert wrong.status == 1
    assert "write it as 24 or 1,6,24" in wrong.stderr


def test_one_series_of_a_file_by_name(run, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Into one folder, too: what was scored of one series is not taken for another's."""
    scores = {}
    for symbol in ("B", "C"):
        words = ("--symbol", symbol, "--baselines", "none", "--tasks", "price", "-o", tmp_path / "report", *FEW)
        done = run("evaluate", two_markets, "--json", *words)
        assert done.status == 0, done.stderr
        summary = json.loads(done.stdout)
        assert set(summary["markets"]) == set(summary["data"]) == {"many_1h"}
        assert summary["markets"]["many_1h"]["symbols"] == 1
        scores[symbol] = summary["tasks"]["price"]["many_1h"]["rw-resampled"]["crps"]["value"]
    assert scores["B"] != scores["C"]


def test_adapter_gives_the_predictors_own_paths(tiny: Path, bars: pd.DataFrame) -> None:
    """Same seed, same bars, same future times: the forecast that a user would get."""
    forecaster = load_forecaster(str(tiny))
    windows = [Series.from_frame("x", bars).window(end, 50, 5) for end in (60, 70)]
    paths = forecaster.sample_paths([w.context for w in windows], asking(5, 6, 3))
    for window, found in zip(windows, paths, strict=True):
        place = int(np.flatnonzero(bars["timestamp"].to_numpy() == window.context.cutoff)[0])
        past = bars.iloc[place - 49 : place + 1].reset_index(drop=True)
        future = pd.DatetimeIndex(window.context.future_timestamps)
        own = forecaster.inner.forecast(past, horizon=5, num_samples=6, seed=3, future=future)
        assert np.allclose(found, own.samples, rtol=1e-5)
        assert list(own.timestamps) == list(future)


def test_a_zoned_series_is_judged_by_its_wall_time(tiny: Path, bars: pd.DataFrame) -> None:
    """The hours that the model reads are those of the exchange, in an evaluation as in a forecast."""
    times = pd.date_range("2024-03-01 09:00", periods=len(bars), freq="1h", tz="Asia/Shanghai")
    zoned, naive = bars.assign(timestamp=times), bars.assign(timestamp=times.tz_localize(None))
    forecaster = load_forecaster(str(tiny))
    window, wall = (Series.from_frame("x", table).window(60, 50, 5) for table in (zoned, naive))
    assert window.context.cutoff == times[60].tz_convert("UTC").tz_localize(None).to_datetime64()
    (found,) = forecaster.sample_paths([window.context], asking(5, 6, 3))
    own = forecaster.inner.forecast(zoned.iloc[11:61], horizon=5, num_samples=6, seed=3, future=times[61:66])
    assert np.allclose(found, own.samples, rtol=1e-5)
    nats = [forecaster.nats(one.context, one.truth) for one in (window, wall)]
    np.testing.assert_allclose(*nats, rtol=1e-5)


def test_likelihood_is_that_of_the_true_bars(tiny: Path, bars: pd.DataFrame) -> None:
    forecaster = load_forecaster(str(tiny))
    window = Series.from_frame("x", bars).window(60, 40, 6)
    nats = forecaster.nats(window.context, window.truth)
    assert nats.shape == (6,)
    assert (nats > 0).all()
    assert nats == pytest.approx(np.full(6, np.log(16) * 2), abs=4.0)  # random weights, 4 + 4 bits


@pytest.mark.parametrize(
    ("consistent", "stated", "cutoff"),
    [
        (True, None, None),
        (True, "2025-06-30", "2025-06-30"),
        (True, {"crypto": "2025-06-30", "fx": "2024-01-01T12:00:00"}, "2025-06-30"),
        (False, None, "2024-07-01"),
        (False, {"crypto": "2020-01-01"}, "2024-07-01"),
    ],
)
def test_the_cutoff_is_the_checkpoints_own(
    tiny: Path, tmp_path: Path, consistent: bool, stated: object, cutoff: str | None
) -> None:
    shutil.copytree(tiny, tmp_path / "pair")
    folder = tmp_path / "pair" / "model"
    change_config(folder, consistent=consistent, training_cutoff=stated)
    found = load_forecaster(str(tmp_path / "pair")).training_cutoff
    assert found == (None if cutoff is None else np.datetime64(cutoff))


def test_only_what_the_training_did_not_see(run, tiny: Path, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(tiny, tmp_path / "pair")
    folder = tmp_path / "pair" / "model"
    ends = {"crypto_1h": "2024-01-04T12:00:00", "fx_5m": "2024-01-04T16:00:00"}
    change_config(folder, training_cutoff=ends)
    words = ("evaluate", two_markets, "--baselines", "none", "--tasks", "price", *FEW, "--windows", 99)
    unseen = ("--model", tmp_path / "pair", "--after", "training", "--market")
    done = run(*words, *unseen, "crypto", "-o", tmp_path / "r", "--json")
    assert done.status == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["notes"] == []
    assert summary["markets"]["one_1h"]["refused"]["not later than the date asked for"] > 10
    table = pd.read_parquet(tmp_path / "r" / "metrics.parquet")
    first = table.groupby("group")["timestamp"].min()
    assert (first > pd.Timestamp("2024-01-04T12:00")).all()
    assert (first <= pd.Timestamp("2024-01-04T16:00")).all()
    told = run(*words, *unseen, "moon", "-o", tmp_path / "m")
    assert told.status == 1
    assert "known are crypto, fx" in told.stderr
    silent = run(*words, "--model", tiny, "--after", "training", "-o", tmp_path / "s")
    assert silent.status == 1
    assert "give a date instead" in silent.stderr


def test_an_alias_states_its_cutoff(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny, tmp_path / "kronos-nano")
    folder = tmp_path / "kronos-nano" / "model"
    change_config(folder, training_cutoff="2025-06-30")
    monkeypatch.setattr("kronos.model.finding.EMBEDDED", tmp_path)
    assert load_forecaster("nano").training_cutoff == np.datetime64("2025-06-30")


@pytest.mark.slow
def test_processes_give_the_same_report(run, tiny: Path, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("evaluate", two_markets, "--model", tiny, "--baselines", "none", "--tasks", "price", *FEW)
    tables = []
    for workers in (1, 2):
        done = run(*words, "--windows", 20, "--step", 2, "--workers", workers, "-o", tmp_path / str(workers))
        assert done.status == 0, done.stderr
        tables.append(pd.read_parquet(tmp_path / str(workers) / "metrics.parquet"))
    assert len(tables[0]) > 32 * 4 * 2 * 2  # more batches than workers: two processes did start
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


def test_a_calibration_is_no_longer_the_same_forecaster(tiny: Path, tmp_path: Path) -> None:
    """Stored scores of the checkpoint as it was must not stand for the calibrated one."""
    shutil.copytree(tiny, tmp_path / tiny.name)
    folder = tmp_path / tiny.name / "model"
    change_config(folder, calibration={"temperature": 0.9})
    one, two = load_forecaster(str(tiny)), load_forecaster(str(tmp_path / tiny.name))
    assert one.fingerprint != two.fingerprint
    assert load_forecaster(str(tmp_path / tiny.name), calibrated=False).fingerprint == one.fingerprint


def test_uniform_tokens_cost_the_logarithm_of_their_number(tiny: Path, bars: pd.DataFrame) -> None:
    """Heads of zeros give every token the same probability: ln 16 nats for each of the two, as float32 has it."""
    import torch

    forecaster = load_forecaster(str(tiny))
    with torch.no_grad():
        for parameter in forecaster.inner.model.head.parameters():
            parameter.zero_()
    window = Series.from_frame("x", bars).window(60, 40, 6)
    assert forecaster.nats(window.context, window.truth) == pytest.approx(np.full(6, 2 * np.log(16)), abs=1e-6)


def test_point_models_by_name(run, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("statsmodels")
    done = run("evaluate", two_markets / "one_1h.csv", "--model", "statsmodels:theta", "-o", tmp_path / "r", *FEW)
    assert done.status == 0, done.stderr
    assert "theta, price" in done.stdout
    with pytest.raises(KronosError, match="unknown point model"):
        load_any("statsmodels:prophet")


def test_fingerprint_tells_settings_and_weights_apart(tiny: Path) -> None:
    import torch

    one, two = load_forecaster(str(tiny)), load_forecaster(str(tiny), temperature=0.5)
    assert one.fingerprint != two.fingerprint
    with torch.no_grad():
        next(one.inner.model.parameters()).add_(1.0)
    assert Configured(one.inner, "x").fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "prices"), "unknown task"),
        (("--baselines", "prophet"), "unknown baseline"),
        (("--after", "yesterday-ish"), "not a date"),
        (("--context", 4000), "no test window"),
        (("--model", "no/such"), "no"),
        (("--settings", "paper", "--temperature", 1.0), "paper fixes them"),
        (("--symbol", "D"), "no series 'D'; they have A, B, C"),
        (("--market", "crypto"), "name such a model, or leave --market out"),
    ],
)
def test_errors_are_short_and_leave_no_report(  # type: ignore[no-untyped-def]
    run, two_markets: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    done = run("evaluate", two_markets, "-o", tmp_path / "report", *words)
    assert done.status == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert not (tmp_path / "report" / "summary.json").exists()


def test_a_store_gives_a_market_for_each_bar_size(run, two_markets: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    store = tmp_path / "store"
    many = pd.read_parquet(two_markets / "many_1h.parquet")
    many["amount"] = np.nan
    BarStore(store).write(many)
    BarStore(store).write(many[many["timestamp"].dt.hour % 4 == 0], frequency="4h")
    sources = find_markets([str(store)])
    assert set(sources) == {"store_1h", "store_4h"}
    markets, hashes = load_markets(sources, "strict")
    assert {name: sorted(series) for name, series in markets.items()} == {name: ["A", "B", "C"] for name in sources}
    assert len(set(hashes.values())) == 2
    done = run("evaluate", store, "--baselines", "ewma", "--tasks", "price", "-o", tmp_path / "report", *FEW)
    assert "too short" in done.stderr  # the 4h series
    assert load_markets(sources, "strict")[1] == hashes


def test_inputs_are_found_and_named(two_markets: Path, tmp_path: Path) -> None:
    assert set(find_markets([str(two_markets), "sample:sp500"])) == {"many_1h", "one_1h", "sp500"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files of bars"):
        find_markets([str(tmp_path / "empty")])
    with pytest.raises(DataError, match="two inputs are called 'one_1h'"):
        find_markets([str(two_markets), str(two_markets / "one_1h.csv")])
