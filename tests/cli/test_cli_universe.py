"""``kronos forecast`` of a folder: what it writes, says and refuses, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kronos.bars import BarStore, write_bars

Run = Callable[..., Any]


@pytest.fixture
def folder(bars: pd.DataFrame, tmp_path: Path) -> Path:
    """Three windows of real bars, and a file that holds none."""
    made = tmp_path / "universe"
    made.mkdir()
    for number, name in enumerate("ABC"):
        write_bars(bars.iloc[number : number + 70], made / f"{name}.csv")
    (made / "notes.txt").write_text("no bars\n", encoding="utf-8")
    return made


def quick(folder: Path, out: Path, tiny: Path) -> list[object]:
    return ["forecast", folder, "-o", out, "--model", tiny, "--horizon", 3, "--samples", 20]


def test_a_folder_is_forecast_into_a_folder(run: Run, folder: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(*quick(folder, out, tiny), "--quantiles", ".1,.9")
    assert (done.status, done.stdout) == (0, "")
    assert "Forecast 3 series, 3 bars ahead" in done.stderr
    assert "1 series could not be forecast, for instance notes.txt: rows have" in done.stderr
    assert "3 forecasts carry notes (column 'notes'), for instance" in done.stderr
    table = pd.read_parquet(out / "forecasts")
    assert list(table.groupby("symbol").size()) == [3, 3, 3]
    assert {"close_q0.1", "close_q0.9", "prob_up", "prob_up_error", "close_median_error"} <= set(table.columns)
    assert list(pd.read_parquet(out / "errors")["source"]) == ["notes.txt"]


def test_a_second_run_keeps_what_is_there_and_json_says_so(run: Run, folder: Path, tiny: Path, tmp_path: Path) -> None:
    words = [*quick(folder, tmp_path / "out", tiny), "--json", "--partition", 2, "--workers", 1]
    first, second = (json.loads(run(*words).stdout) for _ in range(2))
    assert (first["series"], first["failed"], first["partitions"], first["kept"]) == (3, 1, 2, 0)
    assert (second["series"], second["failed"], second["partitions"], second["kept"]) == (3, 1, 2, 2)


def test_paths_of_a_store(run: Run, bars: pd.DataFrame, tiny: Path, tmp_path: Path) -> None:
    for name in ("X", "Y"):
        BarStore(tmp_path / "store").write(bars, symbol=name)
    assert run(*quick(tmp_path / "store", tmp_path / "out", tiny), "--paths").status == 0
    table = pd.read_parquet(tmp_path / "out" / "forecasts")
    assert len(table) == 2 * 20 * 3
    assert sorted(table["path"].unique()) == list(range(20))


def test_a_file_of_many_symbols_goes_the_way_of_folders(
    run: Run, bars: pd.DataFrame, tiny: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.parquet"
    tables = [bars.iloc[number : number + 70].assign(symbol=name) for number, name in enumerate("XYZ")]
    pd.concat(tables).to_parquet(many, index=False)
    alone = run("forecast", many, "--model", tiny, "--horizon", 3)
    assert alone.status == 1
    assert "--symbol" in alone.stderr
    assert "-o FOLDER" in alone.stderr
    words = [*quick(many, tmp_path / "out", tiny), "--partition", 2]
    done = run(*words)
    assert done.status == 0, done.stderr
    assert "Forecast 3 series" in done.stderr
    table = pd.read_parquet(tmp_path / "out" / "forecasts")
    assert list(table.groupby("symbol").size()) == [3, 3, 3]
    assert set(table["source"]) == {"many.parquet"}
    assert json.loads(run(*words, "--json").stdout)["kept"] == 2
    one = json.loads(run(*quick(many, tmp_path / "y.json", tiny), "--symbol", "Y", "--json").stdout)
    assert table[table["symbol"] == "Y"]["close_q0.5"].tolist() == pytest.approx(one["quantiles"]["0.5"]["close"])
    until = pd.Timestamp(tables[0]["timestamp"].iloc[60])
    assert run(*quick(many, tmp_path / "past", tiny), "--until", f"{until:%Y-%m-%d}").status == 0
    assert set(pd.read_parquet(tmp_path / "past" / "forecasts")["cutoff"]) == {until}


def test_a_folder_is_not_written_to_the_name_of_a_file(run: Run, folder: Path, tiny: Path, tmp_path: Path) -> None:
    done = run(*quick(folder, tmp_path / "out.csv", tiny))
    assert done.status == 1
    assert "'out.csv' names a file" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_if_all_fail_the_status_is_one(run: Run, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "x.csv").write_text("no bars\n", encoding="utf-8")
    done = run(*quick(folder, tmp_path / "out", tiny))
    assert done.status == 1
    assert "None of the 1 series" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_belongs_to_files_and_what_to_folders(
    run: Run, folder: Path, bars_csv: Path, tiny: Path, tmp_path: Path
) -> None:
    for words, message in (
        (["forecast", folder, "--model", tiny], "-o must name one folder"),
        ([*quick(folder, tmp_path / "a", tiny), "-o", tmp_path / "b"], "-o must name one folder"),
        ([*quick(folder, tmp_path / "a", tiny), "--symbol", "A"], "--symbol chooses a series within one file"),
        ([*quick(folder, tmp_path / "a", tiny), "--address", "auto"], "belong to the engine 'ray'"),
        (["forecast", bars_csv, "--model", tiny, "--engine", "ray"], "are for many series"),
        (["forecast", bars_csv, "--model", tiny, "--partition", 4], "are for many series"),
    ):
        done = run(*words)
        assert done.status == 1
        assert message in done.stderr
    assert not (tmp_path / "a").exists()


def test_help_loads_no_ray() -> None:
    code = "import sys; from kronos.cli import main; main(['forecast', '--help']); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
