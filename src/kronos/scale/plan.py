"""What is to be forecast: the files of a bar store or a folder, in partitions that nothing but they themselves decide.

A partition is computed together and written as one file. Which series share one follows from the sorted list alone, so
an engine, its number of workers and the order in which they finish change no bit of any file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kronos.bars.store import BarStore, bars_files
from kronos.errors import ConfigError, DataError
from kronos.inference.export import DEFAULT_LEVELS, check_levels

PARTITION = 16  # series; enough for full batches, few enough for many workers
MOST_NUMBERS = 32_000_000  # sampled numbers of one partition, which it holds in memory


@dataclass(frozen=True)
class Settings:
    """What is asked of every series.

    Attributes:
        model, revision: a checkpoint's name, folder or hub id.
        horizon, num_samples, temperature, top_k, top_p, seed, calendar, context_length, stamp, frequency: as for
            ``KronosPredictor.forecast``.
        quantile_levels: which quantiles are written.
        paths: write every sample path instead.
        on_defect: ``strict`` refuses a series with defective rows, ``drop`` leaves the rows out.
        reading: options of ``read_bars`` for files that need them.
    """

    model: str = "kronos-nano"
    revision: str | None = None
    horizon: int = 24
    num_samples: int = 30
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    calendar: str | None = None
    context_length: int | None = None
    stamp: str | None = None
    frequency: str | None = None
    quantile_levels: tuple[float, ...] = DEFAULT_LEVELS
    paths: bool = False
    on_defect: str = "strict"
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_levels(self.quantile_levels)


@dataclass(frozen=True)
class Source:
    """One file of bars.

    Attributes:
        path: relative to the folder of the universe.
        name: what its series is called where the file does not say.
        size, modified: bytes and nanoseconds, which tell whether it has changed.
        frequency: its bar size, where a store says so.
    """

    path: str
    name: str
    size: int
    modified: int
    frequency: str | None = None


@dataclass(frozen=True)
class Partition:
    """Sources whose series are computed together and written to one file.

    Attributes:
        key: digest of everything that the file follows from.
    """

    number: int
    sources: tuple[Source, ...]
    key: str


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


def divide(
    sources: Sequence[Source],
    settings: Settings,
    checkpoint: str,
    version: str,
    device: str,
    size: int | None = None,
) -> list[Partition]:
    """Consecutive sources as partitions.

    Args:
        checkpoint: digest of the weights.
        version: of this package.
        device: the kind that computes, ``cpu`` or ``cuda``: they round differently.
        size: series a partition; None: 16, or fewer where they ask for many paths.

    Raises:
        ConfigError: a size below one.
    """
    if size is None:
        size = max(1, min(PARTITION, MOST_NUMBERS // max(1, settings.num_samples * settings.horizon * 6)))
    if size < 1:
        raise ConfigError(f"A partition of {size} series is none; at least one is needed.")
    common = json.dumps([version, checkpoint, device, asdict(settings)], sort_keys=True, default=str)
    parts = [tuple(sources[first : first + size]) for first in range(0, len(sources), size)]
    return [Partition(number, part, _key(common, part)) for number, part in enumerate(parts)]


def _key(common: str, sources: tuple[Source, ...]) -> str:
    listing = json.dumps([[source.path, source.size, source.modified, source.frequency] for source in sources])
    return hashlib.blake2b(f"{common}\n{listing}".encode(), digest_size=16).hexdigest()
