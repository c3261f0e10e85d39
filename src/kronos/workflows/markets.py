"""Inputs of an evaluation: every file, packaged sample, or bar size of a store is a market of one or many symbols."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from kronos.evaluation.windows import Series

BARS_ENDINGS = (".parquet", ".feather", ".csv", ".csv.gz", ".csv.zip")
SAMPLE, STORED = "sample:", "frequency="


def find_bars(sources: list[str]) -> dict[str, str]:
    """Market name → source: files, all bars files of folders, bar sizes of stores, and packaged samples.

    Raises:
        DataError: a folder without bars, or two markets of one name.
    """
    from kronos.errors import DataError

    found: dict[str, str] = {}
    for source in sources:
        for name, place in _inside(source):
            if name in found:
                raise DataError(f"two inputs are called {name!r}: {found[name]} and {place}; rename one")
            found[name] = place
    return found


def _inside(source: str) -> list[tuple[str, str]]:
    """(market, source) pairs."""
    from kronos.errors import DataError

    path = Path(source)
    if source.startswith(SAMPLE):
        return [(source.removeprefix(SAMPLE), source)]
    if not path.is_dir():
        return [(path.name.split(".")[0], source)]
    if sizes := sorted(path.glob(f"{STORED}*")):
        return [(f"{path.resolve().name}_{size.name.removeprefix(STORED)}", str(size)) for size in sizes]
    files = sorted(p for p in path.iterdir() if p.name.lower().endswith(BARS_ENDINGS))
    if not files:
        raise DataError(f"{source}: a folder without bars files ({', '.join(BARS_ENDINGS)}), and no store")
    return [(file.name.split(".")[0], str(file)) for file in files]


def load_markets(sources: dict[str, str], on_defect: str) -> tuple[dict[str, dict[str, Series]], dict[str, str]]:
    """Series by symbol by market, and a digest per input."""
    from kronos.bars import read_bars
    from kronos.bars.store import BarStore
    from kronos.evaluation.rolling import as_series

    markets, hashes = {}, {}
    for name, source in sources.items():
        path = Path(source)
        if source.startswith(SAMPLE):
            markets[name], hashes[name] = as_series(read_bars(source)), source
        elif path.name.startswith(STORED):
            store, size = BarStore(path.parent), path.name.removeprefix(STORED)
            markets[name] = as_series({symbol: store.read(symbol, size) for symbol in store.symbols(size)})
            hashes[name] = _digest(sorted(path.glob("*.parquet")))
        else:
            markets[name] = as_series(read_bars(source, on_defect=on_defect))  # type: ignore[arg-type]
            hashes[name] = _digest([path])
    return markets, hashes


def _digest(files: list[Path]) -> str:
    """SHA-256 of a file; of several, of their digests in order of name."""
    each = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return "sha256:" + (each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest())


def read_date(text: str | None) -> np.datetime64 | None:
    """The date of ``--after``.

    Raises:
        ConfigError: not a date.
    """
    import numpy as np
    import pandas as pd

    from kronos.errors import ConfigError

    try:
        return None if text is None else np.datetime64(pd.Timestamp(text), "ns")
    except ValueError as error:
        raise ConfigError(f"--after {text!r} is not a date; write it as 2024-07-01") from error
