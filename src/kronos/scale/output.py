"""The folder of results: Parquet files that appear whole, each knowing what it was computed from.

    OUT/forecasts/part-00000.parquet   rows by symbol and time
    OUT/errors/part-00000.parquet      symbol, source, error, message; only where a series could not be forecast
    OUT/nixtla.parquet …               all of them as one table in a layout that was asked for
    OUT/summary.json                   written last: its presence says that all is there

A partition is finished when its file of forecasts is there and carries the partition's key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kronos.errors import ConfigError, DataError
from kronos.files import clear_leftovers, json_text, replacing, write_json
from kronos.inference.export import ENDINGS, write_table
from kronos.inference.layouts import TABLES
from kronos.inference.pair import short_name
from kronos.protocol import FEATURES

if TYPE_CHECKING:
    from kronos.scale.plan import Partition, UniverseSettings

FORECASTS, ERRORS, SUMMARY = "forecasts", "errors", "summary.json"
_KEY, _REPORT = b"kronos.partition", b"kronos.report"


@dataclass(frozen=True)
class Trouble:
    """A series that could not be forecast: what it is, and the error's class and text."""

    symbol: str
    source: str
    error: str
    message: str


@dataclass
class UniverseReport:
    """What became of a partition, or of all of them."""

    series: int = 0  # forecasts written, those of earlier runs included
    failed: int = 0  # series that could not be forecast
    noted: int = 0  # series whose forecast carries a note, such as an inferred calendar
    partitions: int = 0  # files …
    kept: int = 0  # … and how many of them an earlier run had finished
    trouble: str | None = None  # one of the errors
    note: str | None = None  # one of the notes

    def __add__(self, other: UniverseReport) -> UniverseReport:
        """Both together; of the errors and notes the first."""
        both = zip(astuple(self), astuple(other), strict=True)
        return UniverseReport(*(a + b if isinstance(a, int) else a or b for a, b in both))


def schema(settings: UniverseSettings) -> pa.Schema:
    """The columns of the forecasts and their types, the same whatever the series.

    ``cutoff`` and ``timestamp`` are wall times by the clock of ``timezone`` (null: the series names none);
    ``instant`` is the timestamp in UTC, null where no zone is known.
    """
    time = pa.timestamp("ns")
    columns: list[tuple[str, pa.DataType]] = [
        ("symbol", pa.string()), ("source", pa.string()), ("timezone", pa.string()), ("cutoff", time),
        ("last_close", pa.float64()), ("notes", pa.string()), ("timestamp", time),
        ("instant", pa.timestamp("ns", tz="UTC")),
    ]  # fmt: skip
    if settings.paths:
        columns += [("path", pa.int32()), *((name, pa.float32()) for name in FEATURES)]
    else:
        kinds = ["mean", *(f"q{level:g}" for level in settings.quantile_levels)]
        names = ["prob_up", "prob_up_error", "close_median_error", *(f"{name}_{k}" for name in FEATURES for k in kinds)]
        columns += [(name, pa.float64()) for name in names]
    return pa.schema(columns)


def write(
    out: Path,
    partition: Partition,
    settings: UniverseSettings,
    frames: Sequence[pd.DataFrame],
    troubles: Sequence[Trouble],
) -> UniverseReport:
    """Write a partition's errors, then its forecasts, which say that it is finished.

    Raises:
        CapacityError: the folder cannot be written.
    """
    notes = [f"{frame['source'].iloc[0]}: {note}" for frame in frames if (note := frame["notes"].iloc[0])]
    report = UniverseReport(len(frames), len(troubles), len(notes), partitions=1, note=notes[0] if notes else None)
    errors = _file(out, ERRORS, partition)
    errors.unlink(missing_ok=True)
    if troubles:
        first = troubles[0]
        named = Path(first.source).name in first.message
        report.trouble = first.message if named else f"{first.source}: {first.message}"
        _write_table(pa.Table.from_pylist([asdict(trouble) for trouble in troubles]), errors)
    columns = schema(settings)
    tables = [pa.Table.from_pandas(frame, schema=columns, preserve_index=False) for frame in frames]
    table = pa.concat_tables(tables) if tables else columns.empty_table()
    facts = {_KEY: partition.key.encode(), _REPORT: json_text(report).encode()}
    table = table.replace_schema_metadata(None).cast(columns).replace_schema_metadata(facts)
    _write_table(table, _file(out, FORECASTS, partition))
    return report


def _write_table(table: pa.Table, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        pq.write_table(table, part, compression="zstd")


def finished(out: Path, partition: Partition) -> UniverseReport | None:
    """What became of a partition, if it was finished with the same settings, weights and bars; else None."""
    try:
        facts = pq.read_schema(_file(out, FORECASTS, partition)).metadata or {}
        report = UniverseReport(**json.loads(facts[_REPORT]))
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None  # not there, or not ours
    if facts.get(_KEY) != partition.key.encode():
        return None
    if report.failed and not _file(out, ERRORS, partition).exists():
        return None
    report.kept = 1
    return report


def check_folder(out: Path) -> None:
    """Refuses, before the work begins, what forecasts of many series cannot be written to.

    Raises:
        ConfigError: a file stands in its place, or the name is that of a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; forecasts of many series are written to a folder.")
    if out.suffix.lower() in ENDINGS and not out.exists():
        raise ConfigError(
            f"'{out.name}' names a file, and forecasts of many series are written to a folder of Parquet files; name a "
            f"folder, such as -o {out.stem}."
        )


def begin(out: Path) -> None:
    """Make the folder; it says that all is there only when it is. Raises as ``check_folder``."""
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in (SUMMARY, *map(_layout_file, TABLES)):
        (out / name).unlink(missing_ok=True)


def lay_out(out: Path, layout: str, model: str) -> None:
    """Write all forecasts as one table beside their folder; ``model`` is what the checkpoint is called.

    Raises:
        ConfigError: times that the layout cannot write.
    """
    rows = pq.read_table(out / FORECASTS).to_pandas().drop(columns=["source", "notes"])
    write_table(TABLES[layout](rows, "close", model), out / _layout_file(layout))


def _layout_file(layout: str) -> str:
    return f"{layout}.parquet"


def end(
    out: Path,
    settings: UniverseSettings,
    facts: Sequence[str],
    partitions: int,
    report: UniverseReport,
    layout: str | None = None,
) -> None:
    """Tidy the folder, lay all forecasts out as another tool takes them, and say that all is there.

    Args:
        facts: version, digest of the weights, kind of device.
        layout: of one number a bar; None: none.

    Raises:
        DataError: no series could be forecast.
    """
    _sweep(out, partitions)
    if not report.series:
        raise DataError(
            f"None of the {report.failed} series could be forecast; for instance {report.trouble} "
            f"All errors are in {out / ERRORS}."
        )
    if layout is not None:
        lay_out(out, layout, short_name(settings.model))
    # Nothing of how the results came about is said, so that equal results have equal files.
    counts = {name: getattr(report, name) for name in ("series", "failed", "noted", "partitions")}
    stated = dict(zip(("kronos", "checkpoint", "device"), facts, strict=True))
    stated["times"] = "timestamp and cutoff: wall times by the clock of timezone, where one is named; instant: UTC"
    write_json(out / SUMMARY, {**stated, "settings": settings.to_dict(), **counts})


def _sweep(out: Path, partitions: int) -> None:
    """Remove partitions that an earlier, larger run left, and what killed workers left half-written."""
    for folder in (out / FORECASTS, out / ERRORS):
        clear_leftovers(folder)
        for path in folder.glob("part-*.parquet"):
            digits = path.stem.removeprefix("part-")
            if digits.isdigit() and int(digits) >= partitions:
                path.unlink(missing_ok=True)


def _file(out: Path, kind: str, partition: Partition) -> Path:
    return out / kind / f"part-{partition.number:05d}.parquet"
