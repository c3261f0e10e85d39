"""``kronos forecast`` of a bar store or a folder: every series, into a folder of results."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kronos.cli.common import Compute, emit_json, note, progress
from kronos.errors import ConfigError


def forecast_folder(
    folder: Path,
    targets: list[Path] | None,
    asked: dict[str, Any],
    reading: dict[str, Any],
    compute: Compute,
    *,
    partition: int | None,
    as_json: bool,
) -> None:
    """Forecast all series and say what became of them.

    Raises:
        ConfigError: no folder for the results, or an option that belongs to a single file.
        KronosError: as of ``forecast_universe``.
    """
    if len(targets or []) != 1:
        raise ConfigError(f"{folder} is a folder, so -o must name one folder for the forecasts of all its series.")
    if reading["symbol"] is not None:
        raise ConfigError(f"--symbol chooses a series within one file; {folder} is a folder. Name the file instead.")
    from kronos.scale.forecast import forecast_universe
    from kronos.scale.output import ERRORS
    from kronos.scale.plan import Settings

    options = {name: value for name, value in reading.items() if value is not None}
    settings = Settings(**asked, reading=options)
    engine, out, began = compute.make(), (targets or [])[0], time.perf_counter()
    # Ray writes about dead workers to stdout, which belongs to results.
    with redirect_stdout(sys.stderr), progress("Forecasting files") as report:
        result = forecast_universe(
            folder,
            out,
            settings,
            engine,
            device=compute.device,
            partition_size=partition,
            progress=report,
        )
    if as_json:
        emit_json({"output": out, **asdict(result), "seconds": round(time.perf_counter() - began, 1)})
        return
    note(f"Forecast {result.series:,} series, {settings.horizon} bars ahead, in {time.perf_counter() - began:.0f} s.")
    if result.kept:
        note(f"{result.kept:,} of {result.partitions:,} files were there already.")
    if result.failed:
        note(f"{result.failed:,} series could not be forecast, for instance {result.trouble}")
        note(f"All of them are in {out / ERRORS}")
    if result.noted:
        note(f"{result.noted:,} forecasts carry notes (column 'notes'), for instance {result.note}")
    note(f"Wrote {out}")
