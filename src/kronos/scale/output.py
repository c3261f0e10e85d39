"""The folder of results: Parquet files that appear whole, each knowing what it was computed from.

    OUT/forecasts/part-00000.parquet   rows by symbol and time
    OUT/errors/part-00000.parquet      symbol, source, error, message; only where a series could not be forecast
    OUT/summary.json                   written last: its presence says that all is there

A partition is finished when its file of forecasts is there and carries the partition's key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from kronos.bars.schema import FEATURES
from kronos.bars.store import whole_file
from kronos.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from kronos.inference.forecast import Forecast
    from kronos.scale.plan import Partition, Settings

FORECASTS, ERRORS, SUMMARY = "forecasts", "errors", "summary.json"
_KEY, _OUTCOME = b"kronos.partition", b"kronos.outcome"


@dataclass(frozen=True)
class Trouble:
    """A series that could not be forecast: what it is, and the error's class and text."""

    symbol: str
    source: str
    error: str
    message: str

    def told(self) -> str:
        """The message with the file that it is about."""
        return self.message if Path(self.source).name in self.message else f"{self.source}: {self.message}"


@dataclass(frozen=True)
class Outcome:
    """What became of a partition.

    Attributes:
        number: of the partition.
        sources: files.
        forecast, failed: series.
        noted: series whose forecast carries a note, such as an inferred calendar.
        trouble, note: the first error and the first note.
    """

    number: int
    sources: int
    forecast: int
    failed: int
    noted: int
    trouble: str | None = None
    note: str | None = None


class Rows:
    """Collects the rows of one partition."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.frames: list[pd.DataFrame] = []
        self.notes: list[str] = []
        self.zoned = False

    def add(self, forecast: Forecast, source: str) -> None:
        """Take the summary of a forecast, or all its paths."""
        from kronos.inference.export import summary

        if self.settings.paths:
            frame = forecast.to_frame()
        else:
            frame = summary(forecast, self.settings.quantile_levels)
        times, cutoff = forecast.timestamps, pd.Timestamp(forecast.metadata["cutoff"])
        zone = None if times.tz is None else str(times.tz)
        if zone is not None:
            self.zoned = True
            frame["timestamp"] = frame["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None)
            cutoff = cutoff.tz_convert("UTC").tz_localize(None)
        notes = "; ".join(forecast.metadata["warnings"]) or None
        if notes is not None:
            self.notes.append(f"{source}: {notes}")
        self.frames.append(
            frame.assign(
                symbol=forecast.symbol,
                source=source,
                timezone=zone,
                cutoff=cutoff,
                last_close=forecast.last_close,
                notes=notes,
            )
        )

    def table(self) -> pa.Table:
        """All rows under the schema that every partition has."""
        import pyarrow as pa

        columns = schema(self.settings, zoned=self.zoned)
        if not self.frames:
            return columns.empty_table()
        plain = schema(self.settings, zoned=False)
        tables = [pa.Table.from_pandas(frame, schema=plain, preserve_index=False) for frame in self.frames]
        return pa.concat_tables(tables).replace_schema_metadata(None).cast(columns)


def schema(settings: Settings, *, zoned: bool) -> pa.Schema:
    """The columns of the forecasts.

    Args:
        zoned: times are UTC instants; else wall times of series that name no zone.
    """
    import pyarrow as pa

    time = pa.timestamp("ns", tz="UTC" if zoned else None)
    columns: list[tuple[str, pa.DataType]] = [
        ("symbol", pa.string()), ("source", pa.string()), ("timezone", pa.string()), ("cutoff", time),
        ("last_close", pa.float64()), ("notes", pa.string()), ("timestamp", time),
    ]  # fmt: skip
    if settings.paths:
        columns += [("path", pa.int32()), *((name, pa.float32()) for name in FEATURES)]
    else:
        columns.append(("prob_up", pa.float64()))
        for name in FEATURES:
            kinds = ["mean", *(f"q{level:g}" for level in settings.quantile_levels)]
            columns += [(f"{name}_{kind}", pa.float64()) for kind in kinds]
    return pa.schema(columns)


def write(out: Path, partition: Partition, rows: Rows, troubles: Sequence[Trouble]) -> Outcome:
    """Write a partition's errors, then its forecasts, which say that it is finished.

    Raises:
        DataError: the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    outcome = Outcome(
        partition.number,
        len(partition.sources),
        len(rows.frames),
        len(troubles),
        len(rows.notes),
        troubles[0].told() if troubles else None,
        rows.notes[0] if rows.notes else None,
    )
    errors = file_of(out, ERRORS, partition.number)
    if troubles:
        errors.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(errors) as part:
            pq.write_table(pa.Table.from_pylist([asdict(trouble) for trouble in troubles]), part, compression="zstd")
    else:
        errors.unlink(missing_ok=True)
    target = file_of(out, FORECASTS, partition.number)
    target.parent.mkdir(parents=True, exist_ok=True)
    facts = {_KEY: partition.key.encode(), _OUTCOME: json.dumps(asdict(outcome)).encode()}
    with whole_file(target) as part:
        pq.write_table(rows.table().replace_schema_metadata(facts), part, compression="zstd")
    return outcome


def finished(out: Path, partition: Partition) -> Outcome | None:
    """What became of a partition, if it was finished with the same settings, weights and bars; else None."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts: Mapping[bytes, bytes] = pq.read_schema(file_of(out, FORECASTS, partition.number)).metadata or {}
        outcome = Outcome(**json.loads(facts[_OUTCOME]))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None  # not there, or not ours
    lost = outcome.failed and not file_of(out, ERRORS, partition.number).exists()
    return outcome if facts.get(_KEY) == partition.key.encode() and not lost else None


def begin(out: Path) -> None:
    """Make the folder; it says that all is there only when it is.

    Raises:
        ConfigError: a file stands in its place.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; forecasts of many series are written to a folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / SUMMARY).unlink(missing_ok=True)


def sweep(out: Path, partitions: int) -> None:
    """Remove partitions that an earlier, larger run left, and what killed workers left half-written."""
    for folder in (out / FORECASTS, out / ERRORS):
        for leftover in folder.glob(".part-*.part"):
            leftover.unlink(missing_ok=True)
        for path, number in _numbered(folder):
            if number >= partitions:
                path.unlink(missing_ok=True)


def _numbered(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in folder.glob("part-*.parquet"):
        digits = path.stem.removeprefix("part-")
        if digits.isdigit():
            yield path, int(digits)


def file_of(out: Path, kind: str, number: int) -> Path:
    """Where a partition's forecasts or errors are."""
    return out / kind / f"part-{number:05d}.parquet"
