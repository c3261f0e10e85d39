"""Forecasts of all series of a bar store or a folder, written to a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kronos.bars.store import whole_file
from kronos.errors import DataError
from kronos.inference.pair import pair_digest
from kronos.scale import output
from kronos.scale.engines import Engine
from kronos.scale.output import Outcome
from kronos.scale.plan import Settings, divide, list_sources
from kronos.scale.work import ForecastWork


@dataclass
class Report:
    """What a run did.

    Attributes:
        series: forecasts written, those of earlier runs included.
        failed: series that could not be forecast.
        noted: series whose forecast carries a note, such as an inferred calendar.
        partitions, kept: files, and how many of them an earlier run had finished.
        trouble, note: one of the errors, one of the notes.
    """

    series: int = 0
    failed: int = 0
    noted: int = 0
    partitions: int = 0
    kept: int = 0
    trouble: str | None = None
    note: str | None = None

    def add(self, outcome: Outcome) -> None:
        """Count a partition."""
        self.partitions += 1
        self.series += outcome.forecast
        self.failed += outcome.failed
        self.noted += outcome.noted
        self.trouble = self.trouble or outcome.trouble
        self.note = self.note or outcome.note


def forecast_universe(
    folder: str | Path,
    out: str | Path,
    settings: Settings,
    engine: Engine,
    *,
    device: str | None = None,
    partition_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Forecast every series of a folder.

    The same settings give the same files, byte for byte, on every engine and with any number of workers, as long as
    they compute on the same kind of device. A partition that is already there, computed with the same settings and
    weights from the same bars on such a device, is kept; so a run that was interrupted goes on where it was.

    Args:
        folder: a bar store, or a folder of files that ``read_bars`` understands. Workers read it under this path.
        out: folder for the results (see :mod:`kronos.scale.output`). Workers write there.
        settings: what is asked of every series.
        engine: where to compute.
        device: as for ``KronosPredictor``, in each worker; None: a GPU where the engine has them, else the CPU.
        partition_size: series computed together and written to one file; None: 16, fewer where paths are many.
        progress: told (files done, files in all).

    Returns:
        What was done. Series that cannot be forecast are in the errors table and counted.

    Raises:
        DataError: nothing to forecast, or no series could be.
        CheckpointError, ConfigError: what was asked cannot be done.
        CapacityError: workers died again and again.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    sources = list_sources(folder, settings.frequency)
    checkpoint = pair_digest(settings.model, settings.revision)
    device = device or engine.device()
    kind = device.partition(":")[0]
    partitions = divide(sources, settings, checkpoint, version("kronos-kline"), kind, partition_size)
    output.begin(out)
    report, missing, done = Report(), [], 0
    for one in partitions:
        if outcome := output.finished(out, one):
            report.add(outcome)
            done += outcome.sources
        else:
            missing.append(one)
    report.kept = report.partitions
    for outcome in engine.map(partial(ForecastWork, settings, folder, out, checkpoint, device), missing):
        report.add(outcome)
        done += outcome.sources
        if progress is not None:
            progress(done, len(sources))
    output.sweep(out, len(partitions))
    if not report.series:
        raise DataError(
            f"None of the {report.failed} series in {folder} could be forecast; for instance {report.trouble} "
            f"All errors are in {out / output.ERRORS}."
        )
    _write_summary(out, settings, checkpoint, kind, report)
    return report


def _write_summary(out: Path, settings: Settings, checkpoint: str, device: str, report: Report) -> None:
    """What the results are; nothing of how they came about, so that equal results have equal files."""
    content: dict[str, Any] = {
        "kronos": version("kronos-kline"),
        "checkpoint": checkpoint,
        "device": device,
        "settings": asdict(settings),
        "series": report.series,
        "failed": report.failed,
        "noted": report.noted,
        "partitions": report.partitions,
    }
    with whole_file(out / output.SUMMARY) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
