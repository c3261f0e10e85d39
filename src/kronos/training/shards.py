"""Bars of many symbols in Parquet shards that together may be larger than memory, read a few symbols at a time.

Shards of one table are files of one folder with a ``symbol`` column whose names differ in their last number alone:
``crypto_1h-00000-of-00064.parquet`` and so on, or ``part-0.parquet``. A first look reads the symbols, a second one as
many whole series as fit. Sorted by symbol, each row is read once; sorted by time, once for every so many rows of all.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from kronos.errors import DataError

ROWS_AT_ONCE = 8_000_000  # of a table in memory, about a gigabyte while it is read
_SYMBOL = "symbol"
_NUMBER = re.compile(r"([-_.]?(part|shard)?[-_.]?\d+([-_]of[-_]\d+)?)$", re.IGNORECASE)


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
        for part in ([unit] if len(unit) > 1 and all(map(_names_symbols, unit)) else [[path] for path in unit])
    ]


def is_sharded(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> bool:
    """Whether a unit is read in pieces: shards, or one large Parquet file of many symbols."""
    if len(unit) > 1:
        return True
    parquet = unit[0].suffix.lower() == ".parquet"
    return parquet and _rows(unit[0]) > rows_at_once and _names_symbols(unit[0])


def read_shards(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[str, pd.DataFrame]]:
    """(symbol, its rows, sorted by time) of every series of a table, in order of symbol.

    Raises:
        DataError: a shard that cannot be read.
    """
    import pyarrow.dataset as ds
    from pyarrow import ArrowException, compute

    try:
        table = ds.dataset([str(path) for path in unit], format="parquet")
        for names in _batches(_count(table), rows_at_once):
            chosen = table.to_table(filter=compute.field(_SYMBOL).isin(names)).to_pandas()
            time = next((name for name in chosen.columns if name.lower() in ("timestamp", "timestamps")), None)
            for name, rows in chosen.groupby(_SYMBOL, sort=True, observed=True):
                yield str(name), (rows.sort_values(time, kind="stable") if time else rows).reset_index(drop=True)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"the shards {unit[0].name} … in {unit[0].parent} cannot be read ({' '.join(str(error).split())[:120]})"
        ) from error


def _count(table: object) -> Counter[str]:
    """Rows of each symbol; only that column is read, a piece at a time."""
    counts: Counter[str] = Counter()
    for batch in table.to_batches(columns=[_SYMBOL]):  # type: ignore[attr-defined]
        for entry in batch.column(0).value_counts().to_pylist():
            counts[entry["values"]] += entry["counts"]
    return counts


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


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except Exception:  # whatever is wrong with it, the reader will say
        return 0


def _names_symbols(path: Path) -> bool:
    import pyarrow.parquet as pq

    try:
        return _SYMBOL in pq.read_schema(path).names
    except Exception:
        return False
