"""From a run's settings to its windows: arrays are opened or built from files of bars, split, and drawn from.

Parquet shards of one table, files of one folder with a ``symbol`` column whose names differ in their last number alone
(``crypto_1h-00000-of-00064.parquet``, ``part-0.parquet``), may together be larger than memory. A first look reads the
symbols, a second one as many whole series as fit. Sorted by symbol, each row is read once; sorted by time, once for
every so many rows of all.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from kronos.bars.arrays import INDEX_FILE, BarArrays, Segment, write_arrays
from kronos.bars.reading import OnDefect, read_bars
from kronos.bars.samples import locate
from kronos.bars.windows import WindowPlan, WindowSampler
from kronos.errors import DataError
from kronos.files import bars_files, writing
from kronos.training.config import RunConfig
from kronos.training.split import check_split, split_segments

ROWS_AT_ONCE = 8_000_000  # of a table in memory, about a gigabyte while it is read
_VALIDATION_SEED = 20_240_701  # any constant: validation is the same in every run
_SYMBOL = "symbol"
_NUMBER = re.compile(r"([-_.]?(part|shard)?[-_.]?\d+([-_]of[-_]\d+)?)$", re.IGNORECASE)


def open_arrays(config: RunConfig) -> BarArrays:
    """The run's arrays; those of ``data.bars`` are built into ``out/arrays`` once.

    Raises:
        DataError: a file that is missing or cannot be read as bars, or a damaged folder.
    """
    data = config.data
    if data.arrays is not None:
        return BarArrays.open(data.arrays)
    files, folder = find_files(data.bars), config.out / "arrays"
    # enough to see that a file has changed, without reading what may be hundreds of gigabytes
    seen = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    record = json.dumps({"sources": seen, "on_defect": data.on_defect}, indent=2) + "\n"
    sources = folder / "sources.json"
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
    places = [locate(source).expanduser() for source in sources]
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist; name files of bars, folders of them, or sample:sp500")
    return bars_files(places)


def read_tables(files: Sequence[Path], on_defect: OnDefect = "strict") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(group, symbol, table) of every series; bars of one size are one group, a file that names no symbol is one.

    Parquet shards and large Parquet files are read a few symbols at a time.
    """
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


def units(files: Sequence[Path]) -> list[list[Path]]:
    """Files as they are read: one alone, or the shards of one table together."""
    families: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    found: list[list[Path]] = []
    for path in files:
        if path.suffix.lower() != ".parquet":
            found.append([path])
            continue
        family = families[path.parent, _NUMBER.sub("", path.stem)]
        if not family:
            found.append(family)
        family.append(path)
    # a family without symbols is no table: numbers are names there, as of Chinese stocks
    return [
        part
        for unit in found
        for part in ([unit] if len(unit) > 1 and all(_look(path)[1] for path in unit) else [[path] for path in unit])
    ]


def is_sharded(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> bool:
    """Whether a unit is read in pieces: shards, or one large Parquet file of many symbols."""
    if len(unit) > 1:
        return True
    rows, symbols = _look(unit[0]) if unit[0].suffix.lower() == ".parquet" else (0, False)
    return symbols and rows > rows_at_once


def read_shards(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[str, pd.DataFrame]]:
    """(symbol, its rows, sorted by time) of every series of a table, in order of symbol.

    Raises:
        DataError: a shard that cannot be read.
    """
    import pyarrow.dataset as ds
    from pyarrow import ArrowException, compute

    try:
        table = ds.dataset([str(path) for path in unit], format="parquet")
        counts: Counter[str] = Counter()
        for batch in table.to_batches(columns=[_SYMBOL]):  # only that column is read, a piece at a time
            counts.update({entry["values"]: entry["counts"] for entry in batch.column(0).value_counts().to_pylist()})
        for names in _batches(counts, rows_at_once):
            chosen = table.to_table(filter=compute.field(_SYMBOL).isin(names)).to_pandas()
            time = next((name for name in chosen.columns if name.lower() in ("timestamp", "timestamps")), None)
            for name, rows in chosen.groupby(_SYMBOL, sort=True, observed=True):
                yield str(name), (rows.sort_values(time, kind="stable") if time else rows).reset_index(drop=True)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"the shards {unit[0].name} … in {unit[0].parent} cannot be read ({' '.join(str(error).split())[:120]})"
        ) from error


def _batches(counts: Counter[str], rows_at_once: int) -> Iterator[list[str]]:
    names: list[str] = []
    rows = 0
    for name in sorted(counts):
        if names and rows + counts[name] > rows_at_once:
            yield names
            names, rows = [], 0
        names.append(name)
        rows += counts[name]
    if names:
        yield names


def _look(path: Path) -> tuple[int, bool]:
    """How many rows a Parquet file has, and whether it names symbols; none where it cannot be read."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
    except Exception:  # whatever is wrong with it, the reader will say
        return 0, False
    return int(metadata.num_rows), _SYMBOL in metadata.schema.to_arrow_schema().names


def samplers(
    config: RunConfig, arrays: BarArrays, batch_size: int, *, rank: int = 0, ranks: int = 1
) -> tuple[WindowSampler, WindowSampler]:
    """Windows for training and for validation; of several processes, each has its own.

    Raises:
        DataError: there are none for one of the two, or they overlap.
    """
    data, context = config.data, config.data.boundary[1]
    training, validation = split_of(config, arrays)
    check_split(arrays, training, validation, context)
    plan = WindowPlan(
        data.window, data.boundary, data.volume_dropout, data.aggregate, data.group_power, data.coin_flips
    )
    fixed = WindowPlan(data.window, (context, context), group_power=data.group_power)
    found = []
    for purpose, hint, segments, windows, seed in (
        ("training", ". With few symbols, set data.hold_out to dates", training, plan, config.seed),
        ("validation", "", validation, fixed, _VALIDATION_SEED),
    ):
        chosen = arrays.select(segments)
        try:
            found.append(WindowSampler(chosen, windows, batch_size, seed, rank=rank, ranks=ranks))
        except DataError as error:
            raise DataError(f"no windows for {purpose}: {error}{hint}") from error
    return found[0], found[1]


def split_of(config: RunConfig, arrays: BarArrays) -> tuple[list[Segment], list[Segment]]:
    """A run's segments for training and for validation."""
    data = config.data
    return split_segments(
        arrays, data.boundary[1], hold_out=data.hold_out, later_share=data.later_share, embargo=data.embargo_bars
    )
