"""From a run's settings to its windows: arrays are opened or built, split, and drawn from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from kronos.bars.arrays import INDEX_FILE, BarArrays, Segment, write_arrays
from kronos.bars.reading import OnDefect
from kronos.bars.windows import WindowPlan, WindowSampler
from kronos.errors import DataError
from kronos.training.config import RunConfig
from kronos.training.shards import is_sharded, read_shards, units
from kronos.training.split import check_split, split_segments
from kronos.training.state import writing

SAMPLE = "sample:"
ENDINGS = (".parquet", ".feather", ".arrow", ".csv", ".txt", ".csv.gz", ".csv.zip")
_SOURCES_FILE = "sources.json"
_VALIDATION_SEED = 20_240_701  # any constant: validation is the same in every run


def open_arrays(config: RunConfig) -> BarArrays:
    """The run's arrays; those of ``data.bars`` are built into ``out/arrays`` once.

    Raises:
        DataError: a file that is missing or cannot be read as bars, or a damaged folder.
    """
    data = config.data
    if data.arrays is not None:
        return BarArrays.open(data.arrays)
    files = find_files(data.bars)
    folder = config.out / "arrays"
    known = {"sources": [_fingerprint(path) for path in files], "on_defect": data.on_defect}
    record = json.dumps(known, indent=2) + "\n"
    sources = folder / _SOURCES_FILE
    if (folder / INDEX_FILE).is_file() and sources.is_file() and sources.read_text(encoding="utf-8") == record:
        return BarArrays.open(folder)
    shutil.rmtree(folder, ignore_errors=True)
    # even the shortest segment that a window may come from
    with writing(folder / INDEX_FILE):
        tables = read_tables(files, data.on_defect)
        arrays = write_arrays(tables, folder, min_length=min(64, data.boundary[0] + 8))
        sources.write_text(record, encoding="utf-8")
    return arrays


def find_files(sources: Sequence[str]) -> list[Path]:
    """Every file of bars that files, folders and ``sample:NAME`` stand for, in order.

    Raises:
        DataError: a source that does not exist, or a folder without bars.
    """
    from kronos.bars.samples import sample_path

    found: list[Path] = []
    for source in sources:
        if source.startswith(SAMPLE):
            found.append(sample_path(source.removeprefix(SAMPLE)))
            continue
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(ENDINGS))
            if not inside:
                raise DataError(f"{path} is a folder without files of bars ({', '.join(ENDINGS)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist; name files of bars, folders of them, or sample:sp500")
    return found


def read_tables(files: Sequence[Path], on_defect: OnDefect = "strict") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(group, symbol, table) of every series; bars of one size are one group, a file that names no symbol is one.

    Parquet shards and large Parquet files are read a few symbols at a time.
    """
    from kronos.bars.reading import read_bars

    for unit in units(files):
        if is_sharded(unit):
            size = "bars"  # where a series is too short to tell, that of the one before
            for name, rows in read_shards(unit):
                table = read_bars(rows, symbol=name, on_defect=on_defect)
                size = _bar_size(unit[0], table) or size
                yield size, name, table
            continue
        table = read_bars(unit[0], on_defect=on_defect)
        group = _bar_size(unit[0], table) or "bars"
        if "symbol" not in table.columns:
            yield group, unit[0].name.split(".")[0], table
            continue
        for symbol, part in table.groupby("symbol", sort=True, observed=True):
            yield group, str(symbol), part


def _bar_size(path: Path, table: pd.DataFrame) -> str | None:
    """As a bar store's folders say, else as the bars are."""
    name, _, stored = path.parent.name.partition("=")
    return stored if name == "frequency" else table.attrs["report"].frequency


def samplers(
    config: RunConfig, arrays: BarArrays, batch_size: int, *, rank: int = 0, ranks: int = 1
) -> tuple[WindowSampler, WindowSampler]:
    """Windows for training and for validation; of several processes, each has its own.

    Raises:
        DataError: there are none for one of the two, or they overlap.
    """
    data = config.data
    context = data.boundary[1]
    training, validation = split_of(config, arrays)
    check_split(arrays, training, validation, context)
    plan = WindowPlan(
        data.window, data.boundary, data.volume_dropout, data.aggregate, data.group_power, data.coin_flips
    )
    fixed = WindowPlan(data.window, (context, context), group_power=data.group_power)
    return (
        _sampler("training", arrays.select(training), plan, batch_size, config.seed, rank, ranks),
        _sampler("validation", arrays.select(validation), fixed, batch_size, _VALIDATION_SEED, rank, ranks),
    )


def split_of(config: RunConfig, arrays: BarArrays) -> tuple[list[Segment], list[Segment]]:
    """A run's segments for training and for validation."""
    data = config.data
    return split_segments(
        arrays, data.boundary[1], hold_out=data.hold_out, later_share=data.later_share, embargo=data.embargo_bars
    )


def _sampler(
    purpose: str, arrays: BarArrays, plan: WindowPlan, size: int, seed: int, rank: int, ranks: int
) -> WindowSampler:
    try:
        return WindowSampler(arrays, plan, size, seed, rank=rank, ranks=ranks)
    except DataError as error:
        hint = ". With few symbols, set data.hold_out to dates" if purpose == "training" else ""
        raise DataError(f"no windows for {purpose}: {error}{hint}") from error


def _fingerprint(path: Path) -> list[str | int]:
    """Enough to see that a file has changed, without reading what may be hundreds of gigabytes."""
    seen = path.stat()
    return [str(path.resolve()), seen.st_size, seen.st_mtime_ns]
