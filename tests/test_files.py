"""Finding, writing and hashing files: a folder means the same bars to everybody, and a file is whole or not there."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos import files
from kronos.errors import CapacityError, ConfigError, DataError, KronosError, MissingExtraError


def test_a_folder_means_its_files_of_bars_to_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    wanted = ["a.csv", "b.CSV.gz", "c.parquet", "deep/d.txt", "deep/e.feather.zip", "f.tsv", "g.arrow"]
    for name in [*wanted, "report.json", "notes.md", ".h.csv", "deep/.hidden/x.csv", "model.safetensors"]:
        (tmp_path / name).write_text("")
    found = files.bars_files([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(wanted)


def test_of_json_in_a_folder_lists_of_bars_count(tmp_path: Path) -> None:
    wanted = {
        "BTC_USDT-1h.json": "[[1714953600000,1.0,2.0,0.5,1.5,7],[1714957200000,1.5,2.0,1.0,1.2,3]]",
        "rows.json": '\n [ ["2024-05-06 09:30:00", "1", "2", "1", "2"] ]',
        "objects.json": '[{"t": 1714953600, "o": 1, "h": 2, "l": 1, "c": 2}]',
        "named.JSON": '[ {"Open": 1, "High": 2, "Low": 1, "Close": 2, "Date": "2024-05-06"} ]',
    }
    others = {
        "settings.json": '{"open": 1, "close": 2}',
        "list.json": '[{"name": "open", "close": 3}]',
        "numbers.json": "[[1, 2], [3, 4]]",
        "broken.json.gz": "[[1714953600000,1.0]]",
        "empty.json": "",
    }
    for name, text in {**wanted, **others}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(wanted["objects.json"].encode()))
    assert {path.name for path in files.bars_files([tmp_path])} == {*wanted, "packed.json.gz"}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "settings.json").write_text("{}")
    with pytest.raises(DataError, match=r"no files of bars .* name those that are bars"):
        files.bars_files([tmp_path / "deep"])


def test_files_are_taken_as_they_are_and_folders_in_their_order(tmp_path: Path) -> None:
    for folder in ("two", "one"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_text("")
    single = tmp_path / "odd.name"
    assert files.bars_files([tmp_path / "two", single, tmp_path / "one"]) == [
        tmp_path / "two" / "x.csv",
        single,
        tmp_path / "one" / "x.csv",
    ]


def test_a_hidden_parent_of_the_folder_itself_does_not_matter(tmp_path: Path) -> None:
    place = tmp_path / ".cache" / "bars"
    place.mkdir(parents=True)
    (place / "x.csv").write_text("")
    assert files.bars_files([place]) == [place / "x.csv"]


def test_a_folder_without_bars_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("")
    with pytest.raises(DataError, match=r"holds no files of bars \(\.csv"):
        files.bars_files([tmp_path])


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_when_the_block_ends_well(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with files.replacing(target, durable=durable) as part:
        assert part.suffix == ".json"
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["x.json"]


def test_the_file_before_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    target, previous = tmp_path / "x", tmp_path / "x.previous"
    for text in ("one", "two"):
        with files.replacing(target, previous=previous) as part:
            part.write_text(text)
    assert (previous.read_text(), target.read_text()) == ("one", "two")


def test_a_failing_block_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old")

    def fail_half_way() -> None:
        with files.replacing(target) as part:
            part.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.csv"]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    with (
        pytest.raises(CapacityError, match=r"x\.csv cannot be written \(No space left on device\)"),
        files.replacing(target),
    ):
        raise OSError(28, "No space left on device")
    assert not target.exists()


def test_errors_of_the_library_pass_through_unchanged(tmp_path: Path) -> None:
    from kronos.errors import CheckpointError

    with pytest.raises(CheckpointError, match=r"^its own words$"), files.replacing(tmp_path / "x"):
        raise CheckpointError("its own words")


def test_a_target_without_a_folder_or_that_is_one_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"), files.replacing(tmp_path / "none" / "x.csv"):
        pytest.fail("the block ran")
    with pytest.raises(ConfigError, match="is a folder"), files.replacing(tmp_path):
        pytest.fail("the block ran")


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    kept = tmp_path / "x.csv"
    kept.write_text("")
    with files.replacing(kept) as part:
        part.write_text("")
    part.write_text("half")
    files.clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["x.csv"]


@dataclasses.dataclass
class Point:
    x: float
    where: Path


def test_json_knows_numpy_pandas_dates_and_no_nan(tmp_path: Path) -> None:
    value = {
        1: [np.float32(0.5), np.int64(2), np.bool_(True), float("nan"), np.inf],
        "array": np.array([[1.0, np.nan]]),
        "times": pd.DatetimeIndex(["2024-01-02", None]),
        "moment": np.datetime64("2024-01-02T03:04:05"),
        "day": date(2024, 1, 2),
        "nothing": pd.NaT,
        "table": pd.DataFrame({"a": [1]}),
        "point": Point(1.0, Path("a/b")),
        "text": "涨",
    }
    target = files.write_json(tmp_path / "x.json", value)
    assert "涨" in target.read_text(encoding="utf-8")
    assert json.loads(target.read_text(encoding="utf-8")) == {
        "1": [0.5, 2, True, None, None],
        "array": [[1.0, None]],
        "times": ["2024-01-02T00:00:00", None],
        "moment": "2024-01-02T03:04:05",
        "day": "2024-01-02",
        "nothing": None,
        "table": [{"index": 0, "a": 1}],
        "point": {"x": 1.0, "where": "a/b"},
        "text": "涨",
    }


def test_digests_tell_the_borders_between_parts_apart(tmp_path: Path) -> None:
    assert files.digest("ab", "c") != files.digest("a", "bc")
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
    assert files.digest(np.arange(3)) == files.digest(np.arange(3)) != files.digest(np.arange(4))
    path = tmp_path / "x"
    assert files.digest_of_file(path) == ""
    path.write_bytes(b"kronos")
    assert len(files.digest_of_file(path)) == 32
    assert len(files.digest_of_file(path, algorithm="sha256")) == 64


def test_our_errors_are_caught_by_other_peoples_clauses() -> None:
    from kronos import CheckpointError

    for error, builtin in ((DataError, ValueError), (ConfigError, ValueError), (CheckpointError, OSError)):
        with pytest.raises(builtin, match=r"^what was found$"):
            raise error("what was found")
        assert issubclass(error, KronosError)


def test_a_missing_extra_comes_back_from_another_process() -> None:
    error = MissingExtraError("arch", "eval", "The baseline 'garch'")
    again = copy.copy(error)  # as a process pool would send it
    assert type(again) is MissingExtraError
    assert str(again) == str(error)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new"
    for text in ("first", "second"):
        with files.replacing_folder(target) as part:
            part.mkdir()
            (part / "a").write_text(text)
        assert [(path.name, path.read_text()) for path in target.iterdir()] == [("a", text)]
    with pytest.raises(CapacityError), files.replacing_folder(target) as part:
        (part / "there is no such folder" / "a").write_text("third")
    assert (target / "a").read_text() == "second"
    assert part.match(files.LEFTOVERS)
    files.remove_folder(target)
    assert not list(tmp_path.iterdir())
