"""From files of bars to arrays: built once, again when a file changes, and refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import learnable

from kronos.errors import ConfigError, DataError
from kronos.training.config import RunConfig
from kronos.training.data import find_files, open_arrays, samplers


def config(out: Path, *sources: object, **data: object) -> RunConfig:
    section = {"bars": [str(s) for s in sources], "window": 40, "boundary": [8, 16], "hold_out": "dates", **data}
    return RunConfig.from_dict({"out": out, "data": section})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of one symbol, and a long table of two in a folder below."""
    here = tmp_path / "bars"
    (here / "more").mkdir(parents=True)
    learnable(120).to_csv(here / "ALPHA.csv", index=False)
    parts = [learnable(100, seed).assign(symbol=name) for seed, name in enumerate(("BETA", "GAMMA"), 1)]
    pd.concat(parts).to_parquet(here / "more" / "long.parquet", index=False)
    (here / "README.md").write_text("not bars")
    return here


def test_files_folders_and_samples(folder: Path) -> None:
    files = find_files([str(folder), "sample:sp500"])
    assert [path.name for path in files] == ["ALPHA.csv", "long.parquet", "sp500.parquet"]


def test_a_folder_becomes_arrays(folder: Path, tmp_path: Path) -> None:
    arrays = open_arrays(config(tmp_path / "run", folder))
    assert [(s.group, s.symbol, len(s)) for s in arrays.segments] == [
        *(("1h", "ALPHA", 120),),
        *(("1h", name, 100) for name in ("BETA", "GAMMA")),
    ]


def test_bars_of_different_sizes_are_groups(folder: Path, tmp_path: Path) -> None:
    arrays = open_arrays(config(tmp_path / "run", folder, "sample:sp500"))
    assert {s.group for s in arrays.segments} == {"1h", "1d"}


def test_arrays_are_built_once(folder: Path, tmp_path: Path) -> None:
    run = config(tmp_path / "run", folder)
    first = open_arrays(run).data_hash
    values = tmp_path / "run" / "arrays" / "values.f32"
    os.utime(values, (1, 1))
    assert open_arrays(run).data_hash == first
    assert values.stat().st_mtime == 1  # not written again


def test_arrays_follow_their_files(folder: Path, tmp_path: Path) -> None:
    run = config(tmp_path / "run", folder)
    first = open_arrays(run).data_hash
    learnable(130).to_csv(folder / "ALPHA.csv", index=False)
    assert open_arrays(run).data_hash != first
    assert len(open_arrays(run).segments[0]) == 130


def test_arrays_half_built_are_built_again(folder: Path, tmp_path: Path) -> None:
    run = config(tmp_path / "run", folder)
    first = open_arrays(run).data_hash
    (tmp_path / "run" / "arrays" / "index.json").unlink()
    assert open_arrays(run).data_hash == first


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere.csv", "nowhere.csv does not exist"),
        (lambda p: (p / "empty").mkdir() or p / "empty", "holds no files of bars"),
        (lambda p: (p / "bad.csv").write_text("a,b\n1,2\n") and p / "bad.csv", "bad.csv"),
    ],
)
def test_bad_sources(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_arrays(config(tmp_path / "run", make(tmp_path)))
    assert len(str(caught.value).splitlines()) <= 2


def test_a_source_must_be_named_once(tmp_path: Path) -> None:
    for data in ({}, {"bars": ["x"], "arrays": "y"}):
        with pytest.raises(ConfigError, match="either `arrays`"):
            RunConfig.from_dict({"out": tmp_path, "data": data})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"window": 140, "boundary": [10, 130]}, "validation set is empty"),
        ({"embargo": 90}, "no windows for training"),
        ({"boundary": [8, 30], "later_share": 0.01}, "no windows for validation"),
    ],
)
def test_too_few_bars(folder: Path, tmp_path: Path, data: dict[str, object], words: str) -> None:
    run = config(tmp_path / "run", folder, **data)
    arrays = open_arrays(run)
    with pytest.raises(DataError, match=words) as caught:
        samplers(run, arrays, 16)
    assert len(str(caught.value).splitlines()) <= 2


def test_batches_come_from_both_sides(folder: Path, tmp_path: Path) -> None:
    run = config(tmp_path / "run", folder)
    training, validation = samplers(run, open_arrays(run), 16)
    assert training(0).values.shape == validation(0).values.shape == (16, 40, 6)
    assert set(validation(0).boundary) == {16}
