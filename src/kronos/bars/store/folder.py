"""A folder of bars by bar size and symbol: Parquet files that training and backtests read.

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

from kronos.bars.calendar.frequency import infer_frequency, parse_frequency
from kronos.bars.reading.read import read_bars
from kronos.bars.report import BarsReport
from kronos.bars.samples import locate
from kronos.bars.schema import FEATURES
from kronos.bars.store.write import write_parquet
from kronos.errors import ConfigError, DataError
from kronos.files import bars_files, replacing, write_json

_CATALOGUE: Final = "catalogue.json"
_TOLD: Final = 10  # bad files whose errors are told in full


@dataclass(frozen=True)
class Entry:
    """One series of the store.

    Attributes:
        symbol, frequency: what the series is.
        rows: bars.
        first, last: ISO timestamps.
        timezone: zone of aware timestamps, or None.
        path: file, relative to the store.
        size: bytes of the file, which tells whether the catalogue is fresh.
        modified: nanoseconds, likewise.
    """

    symbol: str
    frequency: str
    rows: int
    first: str
    last: str
    timezone: str | None
    path: str
    size: int
    modified: int


@dataclass(frozen=True)
class Imported:
    """What an import did to one series.

    Attributes:
        symbol, frequency: the series.
        added: bars that were new.
        rows: bars now.
        replaced: bars whose values changed.
    """

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
            bars: a validated bars table.
            symbol: its name, where the table has no symbol column.
            frequency: bar size, where the bars are too few to show it.
            replace: let new values win where a stored bar has others; otherwise that is refused.

        Raises:
            DataError: no symbol, no bar size, or bars that contradict stored ones. Nothing is written then.
        """
        series = _series(bars, symbol)
        with self._locked():
            merged = [self._merged(name, part, frequency, replace) for name, part in series]
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
            what = f"has no {symbol}"
            if entries:
                sizes = ", ".join(entry.frequency for entry in entries)
                what = f"has {symbol} in several bar sizes ({sizes}): pass frequency (--frequency)"
            raise DataError(f"The store {self.folder} {what}. See kronos bars list --store {self.folder}.")
        bars = _read(self.folder / entries[0].path)
        bars.attrs["report"] = BarsReport(
            layout="store",
            source=str(self.folder / entries[0].path),
            symbols=(symbol,),
            rows=len(bars),
            rows_read=len(bars),
            first=bars["timestamp"].iloc[0],
            last=bars["timestamp"].iloc[-1],
            frequency=entries[0].frequency,
            timezone=entries[0].timezone,
        )
        return bars

    def symbols(self, frequency: str | None = None) -> list[str]:
        """Symbols in the store, sorted."""
        return sorted({entry.symbol for entry in self.entries(frequency)})

    def scan(self, frequency: str) -> Any:
        """All series of one bar size as an Arrow dataset, to filter and project before reading."""
        import pyarrow.dataset as ds

        folder = self.folder / f"frequency={parse_frequency(frequency)}"
        if not folder.is_dir():
            raise DataError(f"The store {self.folder} has no bars of {parse_frequency(frequency)}.")
        return ds.dataset(sorted(str(path) for path in folder.glob("*.parquet")), format="parquet")

    def entries(self, frequency: str | None = None) -> list[Entry]:
        """The catalogue, by bar size and symbol; files that changed behind its back are looked at again."""
        known = self._load()
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

    def _load(self) -> dict[str, Entry]:
        try:
            entries = json.loads((self.folder / _CATALOGUE).read_text(encoding="utf-8"))
            return {entry["path"]: Entry(**entry) for entry in entries}
        except (OSError, ValueError, TypeError, KeyError):
            return {}  # lost or damaged: the files tell

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
        merged, added, differing = _merge(_read(path), bars, symbol)
        if len(differing) and not replace:
            raise DataError(
                f"{symbol}: {len(differing)} bars differ from those stored, the first at {differing[0]}. "
                "Pass replace=True (--replace) to let the new ones win."
            )
        return merged, Imported(symbol, str(size), added, len(merged), len(differing))

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


def _series(bars: pd.DataFrame, symbol: str | None) -> list[tuple[str, pd.DataFrame]]:
    if "symbol" in bars.columns and symbol is None:
        return [(str(name), part.reset_index(drop=True)) for name, part in bars.groupby("symbol", sort=True)]
    if symbol is None:
        raise DataError("The bars name no symbol. Pass symbol (--symbol).")
    if "symbol" in bars.columns and bars["symbol"].nunique() > 1:
        raise DataError(f"The table holds {bars['symbol'].nunique()} symbols; one name cannot stand for all.")
    return [(symbol, bars)]


def _merge(stored: pd.DataFrame, bars: pd.DataFrame, symbol: str) -> tuple[pd.DataFrame, int, pd.DatetimeIndex]:
    """Stored and new bars together, how many are new, and the timestamps whose values differ."""
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
    same = np.isclose(*values, rtol=1e-9, atol=0, equal_nan=True).all(axis=1)
    merged = pd.concat([stored[~again], bars], ignore_index=True)
    merged = merged.sort_values("timestamp", kind="stable", ignore_index=True)
    return merged, int((~both).sum()), new[both][~same]


def _look(path: Path, relative: str) -> Entry:
    """A catalogue entry from the file itself."""
    import pyarrow.parquet as pq

    try:
        times = pq.read_table(path, columns=["timestamp"]).column(0)
        rows, zone = len(times), times.type.tz
        stamps = pd.DatetimeIndex(times.to_pandas())
        first, last = (stamps[0].isoformat(), stamps[-1].isoformat()) if rows else ("", "")
    except Exception as error:  # Arrow raises many kinds for damaged files
        raise DataError(
            f"{path}: the file is damaged ({str(error)[:80]}). Delete it and import its bars again."
        ) from error
    stat = path.stat()
    return Entry(
        symbol=unquote(path.stem),
        frequency=path.parent.name.partition("=")[2],
        rows=rows,
        first=first,
        last=last,
        timezone=zone,
        path=relative,
        size=stat.st_size,
        modified=stat.st_mtime_ns,
    )


def read_last(path: Path, rows: int) -> pd.DataFrame:
    """The last rows of one of a store's files, without reading the earlier ones where there are many.

    Raises:
        DataError: the file is missing or damaged.
    """
    import pyarrow.parquet as pq

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
    done: list[Imported] = []
    for bars, name in tables:
        done += store.write(bars, symbol=name, frequency=frequency, replace=replace)
    return done
