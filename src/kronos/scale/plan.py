"""What is to be forecast: the files of a bar store or a folder, or the series of one file, in partitions.

A partition is computed together and written as one file. Which series share one follows from the sorted list alone, so
an engine, its number of workers and the order in which they finish change no bit of any file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kronos.bars import BarStore, read_bars
from kronos.bars.adjust import refuse_factors
from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, DataError
from kronos.files import bars_files, digest
from kronos.inference.export import DEFAULT_LEVELS, check_levels
from kronos.spec import ForecastSpec

PARTITION = 16  # series; enough for full batches, few enough for many workers
MOST_NUMBERS = 32_000_000  # sampled numbers of one partition, which it holds in memory


@dataclass(frozen=True)
class UniverseSettings:
    """What every series is forecast with, and what is written of it."""

    spec: ForecastSpec = field(default_factory=ForecastSpec)  # horizon, sampling, calendar, bar size
    model: str = "kronos-nano"  # a checkpoint's name, folder or hub id
    revision: str | None = None
    tokenizer: str | None = None  # None: the one that belongs to the model
    quantile_levels: Sequence[float] = DEFAULT_LEVELS  # those that are written
    paths: bool = False  # write every sample path instead
    on_defect: OnDefect = "strict"  # refuse a series with defective rows, or what ``read_bars`` does about them
    reading: Mapping[str, Any] = field(default_factory=dict)  # options of ``read_bars`` for files that need them
    until: str | None = None  # the last time whose bars are read, as it is written; None: all

    def __post_init__(self) -> None:
        check_levels(self.quantile_levels)
        refuse_factors(self.spec.adjust, 2)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, those of the spec among them."""
        plain = dict(vars(self))
        return {**plain.pop("spec").to_dict(), **plain}


@dataclass(frozen=True)
class Source:
    """One file of bars, or one series of it."""

    path: str  # relative to the folder of the universe
    name: str  # what its series is called where the file does not say
    size: int  # bytes, and …
    modified: int  # … nanoseconds, which tell whether it has changed
    frequency: str | None = None  # its bar size, where a store says so
    symbol: str | None = None  # the series that is meant, of a file that holds many


@dataclass(frozen=True)
class Partition:
    """Sources whose series are computed together and written to one file."""

    number: int
    sources: tuple[Source, ...]
    key: str  # digest of everything that the file follows from


def list_sources(folder: Path, frequency: str | None = None) -> list[Source]:
    """The files of a bar store or of a folder, sorted by path.

    Args:
        frequency: which bar size of a store; may be left out where it has one only.

    Raises:
        DataError: no such folder, no files, or several bar sizes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Name a bar store or a folder of files of bars.")
    if next(folder.glob("frequency=*/*.parquet"), None) is None:
        files = ((path, path.stat()) for path in bars_files([folder]))
        return [
            Source(path.relative_to(folder).as_posix(), path.name.partition(".")[0], stat.st_size, stat.st_mtime_ns)
            for path, stat in files
        ]
    entries = BarStore(folder).entries(frequency)
    sizes = sorted({entry.frequency for entry in entries})
    if not entries:
        raise DataError(f"The store {folder} has no bars of {frequency}. See kronos bars list --store {folder}.")
    if len(sizes) > 1:
        raise DataError(f"The store {folder} has several bar sizes ({', '.join(sizes)}); choose one with --frequency.")
    return [Source(e.path, e.symbol, e.size, e.modified, e.frequency) for e in entries]


def find_series(source: Path, settings: UniverseSettings) -> tuple[Path, list[Source]]:
    """The folder that the series lie in, and the series: of a file of many, of a folder or of a store."""
    if source.is_file():
        return source.parent, list_symbols(source, settings)
    return source, list_sources(source, settings.spec.frequency)


def list_symbols(file: Path, settings: UniverseSettings) -> list[Source]:
    """The series of a file that holds many, sorted by symbol.

    Raises:
        DataError: the file cannot be read as bars, or holds one series.
    """
    bars = read_bars(file, on_defect=settings.on_defect, **settings.reading)
    symbols = sorted(bars.attrs["report"].symbols)
    if len(symbols) < 2:
        raise DataError(
            f"{file.name} holds one series, whose forecast is written to a file: -o forecast.html, .csv, .parquet … "
            "(kronos.forecast_file). A folder is for the forecasts of many."
        )
    stat = file.stat()
    return [Source(file.name, name, stat.st_size, stat.st_mtime_ns, symbol=name) for name in symbols]


def divide(
    sources: Sequence[Source],
    settings: UniverseSettings,
    version: str,
    checkpoint: str,
    device: str,
    size: int | None = None,
) -> list[Partition]:
    """Consecutive sources as partitions of ``size`` series; None: 16, or fewer where they ask for many paths.

    Their keys know the version of this package, the digest of the weights, and the kind of device that computes,
    ``cpu`` or ``cuda``, since they round differently.

    Raises:
        ConfigError: a size below one.
    """
    if size is None:
        size = max(1, min(PARTITION, MOST_NUMBERS // (settings.spec.num_samples * settings.spec.horizon * 6)))
    if size < 1:
        raise ConfigError(f"A partition of {size} series is none; at least one is needed.")
    common = digest([version, checkpoint, device, settings.to_dict()])
    parts = [tuple(sources[first : first + size]) for first in range(0, len(sources), size)]
    return [
        Partition(number, part, digest(common, [[s.path, s.size, s.modified, s.frequency, s.symbol] for s in part]))
        for number, part in enumerate(parts)
    ]
