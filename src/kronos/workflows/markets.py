"""Inputs of an evaluation: every file, sample, table, or bar size of a store is a market of one or many symbols."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.bars import read_bars
from kronos.bars.store import BarStore
from kronos.errors import ConfigError, DataError
from kronos.evaluation.windows import Series, as_series
from kronos.files import bars_files, digest, digest_of_file

SAMPLE, STORED = "sample:", "frequency="


def find_markets(bars: Any) -> dict[str, Any]:
    """Market name → where its bars are: a file, a sample, the folder of a bar size in a store, or a table.

    Args:
        bars: a file, a folder of files (to any depth), a store, ``sample:NAME``, a list of those, a table, or a
            mapping of names to any of them that is one market.

    Raises:
        DataError: a folder without bars, or two markets of one name.
    """
    if isinstance(bars, Mapping):
        return dict(bars)
    places = [bars] if isinstance(bars, str | Path) else bars
    if not isinstance(places, Sequence) or not all(isinstance(place, str | Path) for place in places):
        return {"bars": bars}
    found: dict[str, Any] = {}
    for name, source in (pair for place in places for pair in _markets_in(str(place))):
        if name in found:
            raise DataError(f"two inputs are called {name!r}: {found[name]} and {source}; rename one")
        found[name] = source
    return found


def _markets_in(source: str) -> list[tuple[str, str]]:
    """(market, source) pairs of one place."""
    path = Path(source)
    if source.startswith(SAMPLE):
        return [(source.removeprefix(SAMPLE), source)]
    if sizes := sorted(path.glob(f"{STORED}*")):
        return [(f"{path.resolve().name}_{size.name.removeprefix(STORED)}", str(size)) for size in sizes]
    return [(file.name.split(".")[0], str(file)) for file in bars_files([source])]


def load_markets(bars: Any, on_defect: str = "strict") -> tuple[dict[str, dict[str, Series]], dict[str, str]]:
    """Series by symbol by market, and a digest of each market's input.

    Args:
        bars: see :func:`find_markets`.
        on_defect: of the rows of files and tables; ``drop`` or ``strict``.
    """
    markets, digests = {}, {}
    for name, source in find_markets(bars).items():
        markets[name], digests[name] = _load(source, on_defect)
    return markets, digests


def _load(source: Any, on_defect: str) -> tuple[dict[str, Series], str]:
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.name.startswith(STORED):
        store, size = BarStore(path.parent), path.name.removeprefix(STORED)
        series = as_series({symbol: store.read(symbol, size) for symbol in store.symbols(size)})
        each = [digest_of_file(file, algorithm="sha256") for file in sorted(path.glob("*.parquet"))]
        return series, "sha256:" + (each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest())
    series = as_series(read_bars(source, on_defect=on_defect))  # type: ignore[arg-type]
    if path is None:
        return series, "blake2b:" + digest(*(x for one in series.values() for x in (one.timestamps, one.values)))
    sample = str(source).startswith(SAMPLE)
    return series, str(source) if sample else "sha256:" + digest_of_file(path, algorithm="sha256")


def read_date(text: Any) -> np.datetime64 | None:
    """The date of ``after``.

    Raises:
        ConfigError: not a date.
    """
    try:
        return None if text is None else np.datetime64(pd.Timestamp(text), "ns")
    except ValueError as error:
        raise ConfigError(f"--after {text!r} is not a date; write it as 2024-07-01") from error
