"""Bars tables as files, and a folder of them by bar size and symbol that training and backtests read.

    STORE/frequency=1d/AAPL.parquet      timestamp, symbol, open, high, low, close, volume, amount
    STORE/frequency=1h/BTC%2FUSDT.parquet
    STORE/catalogue.json                 what is there; rebuilt from the files when it is lost

Importing the same bars twice changes nothing. Files and catalogue are replaced whole, so a reader never
sees half of one. Any tool that reads Parquet reads the store; DuckDB, for instance:

    SELECT symbol, count(*) FROM read_parquet('STORE/**/*.parquet', hive_partitioning = true) GROUP BY 1
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from kronos.bars.calendar.frequency import infer_frequency, parse_frequency
from kronos.bars.reading.read import no_symbol, read_bars
from kronos.bars.report import BarsReport
from kronos.bars.samples import locate
from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError, DataError
from kronos.files import bars_files, replacing, write_json

ENDINGS: Final = (".csv", ".parquet", ".feather")
"""File endings that ``write_bars`` knows; ``.csv.gz`` too."""

_ROW_GROUP: Final = 1 << 13  # bars: 150 kB of minutes, a month of sessions, the latest of which forecasts read
_CATALOGUE: Final = "catalogue.json"
_TOLD: Final = 10  # bad files whose errors are told in full


def write_bars(bars: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a bars table as CSV, Parquet or Feather, chosen by the ending.

    Raises:
        ConfigError: another ending, or no such folder.
        CapacityError: it cannot be written; see :func:`kronos.files.replacing`.
    """
    target = Path(path)
    name = target.name.lower()
    if not name.endswith((*ENDINGS, ".csv.gz")):
        raise ConfigError(f"{target}: the ending must be one of {', '.join(ENDINGS)} or .csv.gz.")
    with replacing(target) as part:
        if name.endswith(".parquet"):
            write_parquet(bars, part)
        elif name.endswith(".feather"):
            feather.write_feather(_to_arrow(bars), str(part))
        else:
            bars.to_csv(part, index=False, compression="gzip" if name.endswith(".gz") else None)
    return target


def _to_arrow(bars: pd.DataFrame) -> Any:
    """A bars table as Arrow, without pandas' own metadata."""
    plain = bars.copy(deep=False)
    plain.attrs = {}
    return pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)


def write_parquet(bars: pd.DataFrame, path: Path) -> None:
    """Parquet with zstd; the same bars give the same bytes. The last bars can be read without the others."""
    pq.write_table(_to_arrow(bars), path, compression="zstd", row_group_size=_ROW_GROUP)


@dataclass(frozen=True)
class Entry:
    """One series of the store, as its catalogue lists it."""

    symbol: str
    frequency: str
    rows: int
    first: str  # ISO timestamp
    last: str
    timezone: str | None  # of aware timestamps
    path: str  # relative to the store
    size: int  # of the file in bytes, which tells whether the entry is fresh
    modified: int  # nanoseconds, likewise


@dataclass(frozen=True)
class Imported:
    """What an import did to one series: bars that were new, bars now, and bars whose values changed."""

    symbol: str
    frequency: str
    added: int
    rows: int
    replaced: int = 0


class BarStore:
    """Bars by bar size and symbol in a folder.

    Args:
        folder: the store; made when the first bars are written.
        create: False refuses a folder that is not there.

    Raises:
        ConfigError: no folder.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = True) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file; a bar store is a folder.")
        if not create and not self.folder.is_dir():
            raise ConfigError(
                f"{self.folder} is not a bar store. Make one with kronos bars import FILES --store {self.folder}."
            )

    def write(
        self, bars: pd.DataFrame, *, symbol: str | None = None, frequency: str | None = None, replace: bool = False
    ) -> list[Imported]:
        """Merge bars into the store, series by series.

        Args:
            bars: a bars table, or any table that ``read_bars`` understands.
            symbol: its name, where the table has no symbol column.
            frequency: bar size, where the bars are too few to show it.
            replace: let new values win where a stored bar has others; otherwise that is refused.

        Raises:
            DataError: no symbol, no bar size, or bars that contradict stored ones. Nothing is written then.
        """
        if "timestamp" not in bars.columns or ("symbol" not in bars.columns and symbol is None):
            bars = read_bars(bars)
        count = bars["symbol"].nunique() if "symbol" in bars.columns else 0
        if symbol is None and not count:
            raise DataError("The bars name no symbol. Pass symbol (--symbol).")
        if symbol is not None and count > 1:
            raise DataError(f"The table holds {count} symbols; one name cannot stand for all.")
        series = bars.groupby("symbol", sort=True) if symbol is None else [(symbol, bars)]
        with self._locked():
            merged = [self._merged(str(name), part.reset_index(drop=True), frequency, replace) for name, part in series]
            for table, done in merged:
                if done.added or done.replaced:
                    path = self._path(done.symbol, done.frequency)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with replacing(path) as part:
                        write_parquet(table, part)
            self.rebuild_catalogue()
        return [done for _, done in merged]

    def read(self, symbol: str, frequency: str | None = None) -> pd.DataFrame:
        """One series as a bars table.

        Args:
            symbol: as stored.
            frequency: may be left out where the symbol has one bar size only.

        Raises:
            DataError: the series is not in the store.
        """
        entries = [entry for entry in self.entries(frequency) if entry.symbol == symbol]
        if len(entries) != 1:
            sizes = ", ".join(entry.frequency for entry in entries)
            several = f"{symbol} has several bar sizes ({sizes}): pass frequency (--frequency)."
            what = several if entries else no_symbol(symbol, self.symbols(frequency))
            raise DataError(f"The store {self.folder}: {what} See kronos bars list --store {self.folder}.")
        entry, path = entries[0], self.folder / entries[0].path
        bars = _read(path)
        times, rows = bars["timestamp"], len(bars)
        bars.attrs["report"] = BarsReport(
            "store", str(path), (symbol,), rows, rows, times.iloc[0], times.iloc[-1], entry.frequency, entry.timezone
        )
        return bars

    def symbols(self, frequency: str | None = None) -> list[str]:
        """Symbols in the store, sorted."""
        return sorted({entry.symbol for entry in self.entries(frequency)})

    def scan(self, frequency: str) -> Any:
        """All series of one bar size as an Arrow dataset, to filter and project before reading."""
        import pyarrow.dataset as ds

        size = parse_frequency(frequency)
        folder = self.folder / f"frequency={size}"
        if not folder.is_dir():
            raise DataError(f"The store {self.folder} has no bars of {size}.")
        return ds.dataset(sorted(str(path) for path in folder.glob("*.parquet")), format="parquet")

    def entries(self, frequency: str | None = None) -> list[Entry]:
        """The catalogue, by bar size and symbol; files that changed behind its back are looked at again."""
        try:
            catalogue = json.loads((self.folder / _CATALOGUE).read_text(encoding="utf-8"))
            known = {entry["path"]: Entry(**entry) for entry in catalogue}
        except (OSError, ValueError, TypeError, KeyError):
            known = {}  # lost or damaged: the files tell
        found: list[Entry] = []
        for path in sorted(self.folder.glob("frequency=*/*.parquet")):
            relative = path.relative_to(self.folder).as_posix()
            stat, entry = path.stat(), known.get(relative)
            if entry is None or (entry.size, entry.modified) != (stat.st_size, stat.st_mtime_ns):
                entry = _look(path, relative)
            found.append(entry)
        wanted = str(parse_frequency(frequency)) if frequency else None
        return [entry for entry in found if wanted in (None, entry.frequency)]

    def rebuild_catalogue(self) -> None:
        """Write the catalogue from the files."""
        entries = [asdict(entry) for entry in self.entries()]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _CATALOGUE, entries, indent=1)

    def _path(self, symbol: str, frequency: str) -> Path:
        return self.folder / f"frequency={frequency}" / f"{quote(symbol, safe=' ')}.parquet"

    def _merged(
        self, symbol: str, bars: pd.DataFrame, frequency: str | None, replace: bool
    ) -> tuple[pd.DataFrame, Imported]:
        """The merged table and what it changes, before anything is written."""
        size = parse_frequency(frequency) if frequency else infer_frequency(pd.DatetimeIndex(bars["timestamp"]))
        if size is None:
            raise DataError(
                f"The bar size of {symbol} cannot be told from {len(bars)} bars. Pass frequency (--frequency)."
            )
        path = self._path(symbol, str(size))
        bars = bars.assign(symbol=symbol)[["timestamp", "symbol", *FEATURES]]
        if not path.exists():
            return bars, Imported(symbol, str(size), len(bars), len(bars))
        stored = _read(path)
        old, new = pd.DatetimeIndex(stored["timestamp"]), pd.DatetimeIndex(bars["timestamp"])
        if (old.tz is None) != (new.tz is None):
            kinds = ("without", "with") if old.tz is None else ("with", "without")
            raise DataError(
                f"{symbol}: the store has times {kinds[0]} a zone, the new bars {kinds[1]}. "
                "Pass timezone= (--timezone) when reading them."
            )
        if old.tz is not None:
            new = new.tz_convert(old.tz)
            bars = bars.assign(timestamp=new)
        both, again = new.isin(old), old.isin(new)
        values = (bars.loc[both, list(FEATURES)].to_numpy(), stored.loc[again, list(FEATURES)].to_numpy())
        differing = new[both][~np.isclose(*values, rtol=1e-9, atol=0, equal_nan=True).all(axis=1)]
        if len(differing) and not replace:
            raise DataError(
                f"{symbol}: {len(differing)} bars differ from those stored, the first at {differing[0]}. "
                "Pass replace=True (--replace) to let the new ones win."
            )
        merged = pd.concat([stored[~again], bars], ignore_index=True)
        merged = merged.sort_values("timestamp", kind="stable", ignore_index=True)
        return merged, Imported(symbol, str(size), int((~both).sum()), len(merged), len(differing))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, where the system knows file locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:  # Windows: replacing whole files keeps readers safe all the same
            yield
            return
        with (self.folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> pd.DataFrame:
    bars = pd.read_parquet(path)
    return bars.assign(timestamp=pd.DatetimeIndex(bars["timestamp"]).as_unit("ns"))


def _look(path: Path, relative: str) -> Entry:
    """A catalogue entry from the file itself."""
    try:
        times = pq.read_table(path, columns=["timestamp"]).column(0)
        first, last = (stamp.isoformat() for stamp in times.to_pandas().iloc[[0, -1]]) if len(times) else ("", "")
    except Exception as error:  # Arrow raises many kinds for damaged files
        raise DataError(
            f"{path}: the file is damaged ({str(error)[:80]}). Delete it and import its bars again."
        ) from error
    stat, symbol, frequency = path.stat(), unquote(path.stem), path.parent.name.partition("=")[2]
    return Entry(symbol, frequency, len(times), first, last, times.type.tz, relative, stat.st_size, stat.st_mtime_ns)


def read_last(path: Path, rows: int) -> pd.DataFrame:
    """The last rows of one of a store's files, without reading the earlier ones where there are many.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            first, found = file.num_row_groups, 0
            while first and found < rows:
                first -= 1
                found += file.metadata.row_group(first).num_rows
            bars: pd.DataFrame = file.read_row_groups(list(range(first, file.num_row_groups))).to_pandas()
    except Exception as error:  # Arrow raises many kinds for damaged files
        raise DataError(f"{path}: the file cannot be read ({str(error)[:80]}). Import its bars again.") from error
    return bars.tail(rows).reset_index(drop=True)


def import_bars(
    store: BarStore,
    paths: Iterable[str | Path],
    *,
    symbol: str | None = None,
    frequency: str | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Imported]:
    """Read files, and the files of folders, into a store.

    A file that names no symbol is stored under its own name up to the first ending, unless ``symbol`` is
    given. All files are read before the first is written, so a bad one leaves the store as it was; the error names
    every bad one.

    Args:
        store: where to.
        paths: files, folders of them (see :func:`kronos.files.bars_files`), and samples such as ``sample:sp500``.
        symbol, frequency, replace: as in ``BarStore.write``.
        progress: told (files read, files in all).
        options: as for ``read_bars``.

    Raises:
        DataError: files that cannot be read, or one that contradicts the store.
    """
    files = bars_files(map(locate, paths))
    tables: list[tuple[pd.DataFrame, str | None]] = []
    refused: list[DataError] = []
    for count, path in enumerate(files, start=1):
        try:
            bars = read_bars(path, symbol=symbol, **options)
            tables.append((bars, None if "symbol" in bars.columns else path.name.partition(".")[0]))
        except DataError as error:
            refused.append(error)
        if progress is not None:
            progress(count, len(files))
    if len(refused) == 1:
        raise refused[0]
    if refused:
        told = "\n".join(f"  {error}" for error in refused[:_TOLD])
        more = f"\n  and {len(refused) - _TOLD} more" if len(refused) > _TOLD else ""
        raise DataError(
            f"{len(refused)} of {len(files)} files cannot be imported, and nothing was; mend them or leave them out:\n"
            f"{told}{more}"
        )
    written = (store.write(bars, symbol=name, frequency=frequency, replace=replace) for bars, name in tables)
    return [done for series in written for done in series]
