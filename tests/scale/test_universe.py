"""Forecasts of many series on the local engine: the numbers, the errors, and how a run goes on after a stop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from universes import CHECKPOINT, QUICK, SPEC, contents, make_folder, make_store, series

from kronos import KronosPredictor, forecast_universe, read_bars
from kronos.bars import sample_bars, write_bars
from kronos.errors import CheckpointError, ConfigError, DataError
from kronos.inference.export import summary
from kronos.scale.engines import LocalEngine
from kronos.scale.output import UniverseReport
from kronos.scale.work import ForecastWork
from kronos.spec import ForecastSpec

ONE = LocalEngine(1)


def forecast(folder: Path, out: Path, engine: Any, spec: ForecastSpec = SPEC, **options: Any) -> UniverseReport:
    return forecast_universe(folder, out, spec, model=str(CHECKPOINT), engine=engine, **options)


@dataclass(frozen=True)
class Backwards:
    """An engine that works from the last piece to the first, and may be stopped after some."""

    stop_after: int = 1_000_000

    def device(self) -> str:
        return "cpu"

    def map(self, make: Callable[[], Callable[[Any], Any]], pieces: Sequence[Any]) -> Iterator[Any]:
        work = make()
        for count, piece in enumerate(reversed(pieces)):
            if count == self.stop_after:
                raise KeyboardInterrupt
            yield work(piece)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("universe"), 12)


@pytest.fixture(scope="module")
def results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forecasts of the folder, four series a file."""
    out = tmp_path_factory.mktemp("results")
    report = forecast(folder, out, ONE, partition_size=4)
    assert (report.series, report.failed, report.partitions, report.kept) == (12, 0, 3, 0)
    return out


def forecasts(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "forecasts")


@pytest.mark.parametrize("engine", [LocalEngine(2), Backwards()])
def test_same_files_whatever_the_workers_and_the_order(
    engine: Any, folder: Path, results: Path, tmp_path: Path
) -> None:
    forecast(folder, tmp_path, engine, partition_size=4)
    assert contents(tmp_path) == contents(results)


def test_the_numbers_are_those_of_the_predictor(folder: Path, results: Path) -> None:
    predictor = KronosPredictor.from_pretrained(CHECKPOINT, device="cpu")
    table = forecasts(results)
    assert table["symbol"].nunique() == 12
    for path in sorted(folder.iterdir())[::5]:
        alone = predictor.forecast(
            read_bars(path), SPEC.horizon, SPEC.num_samples, seed=0, context_length=SPEC.context_length
        )
        mine = table[table["symbol"] == path.stem].reset_index(drop=True)
        theirs = summary(alone, QUICK.quantile_levels)
        numbers = [name for name in theirs.columns if name != "timestamp"]
        np.testing.assert_allclose(mine[numbers].to_numpy(float), theirs[numbers].to_numpy(float), rtol=1e-5)
        zone = alone.timestamps.tz
        assert list(mine["timestamp"]) == list(alone.timestamps.tz_localize(None))
        assert list(mine["instant"].dropna()) == ([] if zone is None else list(alone.timestamps.tz_convert("UTC")))
        assert mine["timezone"].isna().all() if zone is None else set(mine["timezone"]) == {str(zone)}
        assert set(mine["last_close"]) == {alone.last_close}
        assert set(mine["source"]) == {path.name}


def test_types_do_not_depend_on_neighbours(results: Path, folder: Path, tmp_path: Path) -> None:
    """Wall times beside zoned ones, and wall times alone, one series a file."""
    assert forecasts(results)["timestamp"].dt.tz is None
    assert forecasts(results)["instant"].isna().any()
    assert str(forecasts(results)["instant"].dtype) == "datetime64[ns, UTC]"
    types = {str(pq.read_schema(path).remove_metadata()) for path in (results / "forecasts").iterdir()}
    forecast(make_store(tmp_path / "store", 2), tmp_path / "out", ONE, partition_size=1)  # of days without a zone
    types |= {str(pq.read_schema(path).remove_metadata()) for path in (tmp_path / "out" / "forecasts").iterdir()}
    assert len(types) == 1
    assert "timestamp and cutoff: wall times" in json.loads((results / "summary.json").read_text())["times"]


def test_all_paths_can_be_had(folder: Path, results: Path, tmp_path: Path) -> None:
    forecast(folder, tmp_path, ONE, partition_size=4, paths=True)
    table = forecasts(tmp_path)
    assert len(table) == 12 * SPEC.num_samples * SPEC.horizon
    median = table.groupby(["symbol", "timestamp"])["close"].median()
    short = forecasts(results).set_index(["symbol", "timestamp"])["close_q0.5"]
    np.testing.assert_allclose(median.to_numpy(), short.loc[median.index].to_numpy(), rtol=1e-6)


def test_a_store_is_read_by_its_symbols(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 5)
    report = forecast(store, tmp_path / "out", ONE)
    table = forecasts(tmp_path / "out")
    assert report.series == 5
    assert list(table["symbol"].unique()) == sorted(f"{('sp500', 'nasdaq')[i % 2]}-{i:04d}" for i in range(5))


def spoil(folder: Path) -> None:
    """Three files that hold no series: a broken price, too few bars, no table at all."""
    _, bars = series(100)
    broken = bars.astype({"high": float})
    broken.loc[7, "high"] = 0.5 * broken.loc[7, "low"]
    write_bars(broken, folder / "broken.csv")
    write_bars(bars.head(1), folder / "short.csv")
    (folder / "text.csv").write_text("these are\nno bars\n", encoding="utf-8")


def test_series_that_cannot_be_forecast_are_reported_and_leave_the_others_alone(
    folder: Path, results: Path, tmp_path: Path
) -> None:
    mixed = make_folder(tmp_path / "mixed", 12)
    spoil(mixed)
    report = forecast(mixed, tmp_path / "out", ONE, partition_size=16)
    assert (report.series, report.failed) == (12, 3)
    assert report.trouble is not None
    errors = pd.read_parquet(tmp_path / "out" / "errors").set_index("source")
    assert sorted(errors.index) == ["broken.csv", "short.csv", "text.csv"]
    assert set(errors["error"]) == {"DataError"}
    assert "high" in errors.loc["broken.csv", "message"]
    assert "at least" in errors.loc["short.csv", "message"]
    mine, alone = forecasts(tmp_path / "out"), forecasts(results)
    numbers = mine.select_dtypes("number").columns
    mine, alone = (table.sort_values(["symbol", "timestamp"]) for table in (mine, alone))
    np.testing.assert_allclose(mine[numbers].to_numpy(), alone[numbers].to_numpy(), rtol=1e-5)


def test_symbols_that_begin_after_the_time_asked_for_are_errors_of_their_own(tmp_path: Path) -> None:
    bars = sample_bars("sp500").drop(columns="symbol")
    early, late = bars.iloc[:90].assign(symbol="A"), bars.iloc[200:290].assign(symbol="B")
    many = tmp_path / "many" / "bars.parquet"
    many.parent.mkdir()
    pd.concat([early, late]).to_parquet(many, index=False)
    for source in (many, many.parent):
        out = tmp_path / f"of {source.stem}"
        report = forecast(source, out, ONE, until=f"{early['timestamp'].iloc[80]:%Y-%m-%d}")
        assert (report.series, report.failed) == (1, 1)
        assert set(forecasts(out)["cutoff"]) == {early["timestamp"].iloc[80]}
        [trouble] = pd.read_parquet(out / "errors").to_dict("records")
        assert (trouble["symbol"], trouble["source"]) == ("B", "bars.parquet")
        assert "no bar up to" in trouble["message"]


def test_a_run_in_which_all_fail_fails(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    spoil(tmp_path / "bad")
    with pytest.raises(DataError, match=r"None of the 3 series could be forecast; for instance broken.csv"):
        forecast(tmp_path / "bad", tmp_path / "out", ONE)
    assert not (tmp_path / "out" / "summary.json").exists()
    assert len(pd.read_parquet(tmp_path / "out" / "errors")) == 3
    assert len(pd.read_parquet(tmp_path / "out" / "forecasts")) == 0


def test_a_stopped_run_goes_on(folder: Path, results: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        forecast(folder, tmp_path, Backwards(stop_after=2), partition_size=4)
    assert not (tmp_path / "summary.json").exists()
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "forecasts").iterdir()}
    assert sorted(first) == ["part-00001.parquet", "part-00002.parquet"]
    (tmp_path / "forecasts" / ".part-00000.parquet.x.part").write_bytes(b"half")  # as a killed worker leaves it
    told: list[tuple[int, int]] = []
    report = forecast(folder, tmp_path, ONE, partition_size=4, progress=lambda *counts: told.append(counts))
    assert (report.kept, report.partitions, report.series) == (2, 3, 12)
    assert told == [(12, 12)]
    assert all((tmp_path / "forecasts" / name).stat().st_mtime_ns == time for name, time in first.items())
    assert contents(tmp_path) == contents(results)


class Untouched:
    """An engine that must not be asked for anything."""

    def device(self) -> str:
        return "cpu"

    def map(self, make: Any, pieces: Sequence[Any]) -> Iterator[Any]:
        assert not pieces
        return iter(())


def again(folder: Path, out: Path, **changes: Any) -> UniverseReport:
    return forecast(folder, out, ONE, partition_size=4, **changes)


def test_only_what_has_changed_is_computed_again(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path / "folder", 12), tmp_path / "out"
    assert again(folder, out).kept == 0
    forecast(folder, out, Untouched(), partition_size=4)
    before = contents(out)
    changed = sorted(folder.iterdir())[5]
    write_bars(read_bars(changed).iloc[:-1], changed)
    assert again(folder, out).kept == 2
    assert {name for name, content in contents(out).items() if before[name] != content} == {
        "forecasts/part-00001.parquet"
    }
    assert again(folder, out, spec=SPEC.replace(seed=1)).kept == 0
    assert json.loads((out / "summary.json").read_text())["settings"]["seed"] == 1


def test_a_smaller_universe_leaves_no_old_partitions(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path / "folder", 9), tmp_path / "out"
    again(folder, out)
    for path in sorted(folder.iterdir())[4:]:
        path.unlink()
    report = again(folder, out)
    assert (report.series, report.kept) == (4, 1)
    assert [path.name for path in (out / "forecasts").iterdir()] == ["part-00000.parquet"]


def test_errors_that_are_mended_leave_the_errors_table(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path / "folder", 3), tmp_path / "out"
    (folder / "new.csv").write_text("no bars\n", encoding="utf-8")
    assert again(folder, out).failed == 1
    assert again(folder, out).failed == 1  # a kept partition still counts its errors
    write_bars(series(50)[1], folder / "new.csv")
    report = again(folder, out)
    assert (report.failed, report.series) == (0, 4)
    assert not list((out / "errors").iterdir())


def test_files_of_several_symbols_and_symbols_of_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    long = pd.concat([series(i, ("sp500",))[1].assign(symbol=name) for i, name in enumerate("ABC")])
    write_bars(long, folder / "long.parquet")
    write_bars(series(7, ("nasdaq",))[1].assign(symbol="B"), folder / "more.parquet")
    report = forecast(folder, tmp_path / "out", ONE)
    table = forecasts(tmp_path / "out")
    assert report.series == 4
    found = {tuple(row) for row in table[["symbol", "source"]].itertuples(index=False)}
    assert found == {("A", "long.parquet"), ("B", "long.parquet"), ("C", "long.parquet"), ("B", "more.parquet")}
    assert table.groupby("source")["last_close"].nunique().to_dict() == {"long.parquet": 3, "more.parquet": 1}


def test_defective_rows_may_be_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    spoil(folder)
    report = again(folder, tmp_path / "out", on_defect="drop")
    assert (report.series, report.failed) == (1, 2)


def test_a_folder_that_cannot_be_written_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        forecast(folder, tmp_path / "file", ONE)
    assert os.listdir(tmp_path) == ["file"]


def test_a_worker_with_other_weights_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"reference_tiny' on a worker \(.*not the one in the process that asked"):
        ForecastWork(QUICK, tmp_path, tmp_path, "digest of others", "cpu")
