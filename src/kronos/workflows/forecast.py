"""Forecasts of one file, and of all series of a bar store or a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronos.bars import read_bars
from kronos.bars.cut import cut_until
from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, DataError, some_of
from kronos.inference.export import asked_levels
from kronos.inference.layouts import TABLES, check_layout, check_layout_target
from kronos.spec import ForecastSpec, Layout

if TYPE_CHECKING:
    import pandas as pd

    from kronos.inference.forecast import Forecast
    from kronos.protocol import Progress, WorkEngine
    from kronos.scale.output import UniverseReport
    from kronos.scale.plan import Partition
    from kronos.scale.work import ForecastWork

# torch is loaded with the predictor, after the bars: what is wrong with them is said at once


def forecast_file(
    source: str | Path,
    spec: ForecastSpec | None = None,
    *,
    model: str = "kronos-nano",
    tokenizer: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    targets: Sequence[str | Path] = (),
    quantile_levels: Sequence[float] | None = None,
    paths: bool = False,
    layout: Layout | None = None,
    on_defect: OnDefect = "strict",
    reading: Mapping[str, Any] | None = None,
    until: str | None = None,
    on_read: Callable[[pd.DataFrame], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Forecast:
    """Read a file of one series, forecast it, and write the forecast to files.

    Args:
        source: a file that ``read_bars`` understands, or a packaged sample such as ``sample:sp500``.
        spec: what is asked; None: the defaults.
        model, revision: a checkpoint's name, folder or hub id, and a commit or tag of a hub checkpoint.
        tokenizer: one other than the model's own.
        device: as for ``KronosPredictor``.
        targets: files to write, as for ``Forecast.save``; checked before anything is read.
        quantile_levels, paths: which quantiles go into them, or every sample path instead. None: the usual five,
            which hold nothing where too few distinct paths were drawn.
        layout: the layout of another tool instead, as for ``Forecast.save``.
        on_defect, reading: options of ``read_bars``.
        until: forecast from the bars up to and including this time, as a replay; a date takes in its whole day.
        on_read: told the bars before they are forecast.
        progress: told (bars sampled, bars in all).

    Raises:
        DataError: the file cannot be read as bars, or holds several symbols.
        CheckpointError, ConfigError, MissingExtraError: what was asked cannot be done.
    """
    spec = spec or ForecastSpec()
    levels = asked_levels(quantile_levels, spec.num_samples)
    files = [check_layout_target(target, layout) for target in targets]
    bars = read_bars(source, on_defect=on_defect, **reading or {})
    report = bars.attrs["report"]
    if len(report.symbols) > 1:
        raise DataError(
            f"{report.source} holds {len(report.symbols)} symbols ({some_of(report.symbols)}); choose one with "
            "--symbol, or forecast all of them into a folder with -o FOLDER (kronos.forecast_universe)."
        )
    bars = bars if until is None else cut_until(bars, until)
    if on_read is not None:
        on_read(bars)
    from kronos.inference.predictor import KronosPredictor

    predictor = KronosPredictor.from_pretrained(model, device, revision, tokenizer=tokenizer)
    forecast = predictor.answer(bars, spec, progress=progress)
    for file in files:
        forecast.save(file, quantile_levels=levels, paths=paths, layout=layout)
    return forecast


def forecast_universe(
    source: str | Path,
    out: str | Path,
    spec: ForecastSpec | None = None,
    *,
    model: str = "kronos-nano",
    tokenizer: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    engine: WorkEngine | None = None,
    quantile_levels: Sequence[float] | None = None,
    paths: bool = False,
    layout: Layout | None = None,
    on_defect: OnDefect = "strict",
    reading: Mapping[str, Any] | None = None,
    until: str | None = None,
    partition_size: int | None = None,
    progress: Progress | None = None,
) -> UniverseReport:
    """Forecast every series of a bar store, of a folder or of a file that holds many, into a folder of results.

    The same settings give the same files, byte for byte, on every engine with any number of workers on the same kind
    of device. A partition that is already there, computed so from the same bars and weights, is kept: a run that was
    interrupted goes on where it was.

    Args:
        source: a bar store, a folder of files, or one file of many symbols; workers read it under this path.
        out: folder for the results (see :mod:`kronos.scale.output`). Workers write there.
        engine: where to compute, such as ``make_engine("ray", workers=8)`` of :mod:`kronos.scale.engines`; None: here.
        device: as for ``KronosPredictor``, in each worker; None: a GPU where the engine has them, else the CPU.
        partition_size: series computed together and written to one file; None: 16, fewer where paths are many.
        layout: write all forecasts also as one table in this layout, such as ``out/nixtla.parquet``.
        progress: told (files done, files in all).
        spec, model, tokenizer, revision, quantile_levels, paths, on_defect, reading, until: as for
            :func:`forecast_file`.

    Returns:
        What was done. Series that cannot be forecast are in the errors table and counted.

    Raises:
        DataError: nothing to forecast, or no series could be. CheckpointError, ConfigError: as ``forecast_file``.
        CapacityError: workers died again and again, or the results cannot be written.
    """
    from kronos.inference.pair import pair_digest
    from kronos.scale import engines, output, plan, work

    spec, engine = spec or ForecastSpec(), engine or engines.LocalEngine()
    levels = asked_levels(quantile_levels, spec.num_samples)
    settings = plan.UniverseSettings(spec, model, revision, tokenizer, levels, paths, on_defect, reading or {}, until)
    _check_layout_of_many(layout, paths)
    output.check_folder(out := Path(out).resolve())
    folder, sources = plan.find_series(Path(source).resolve(), settings)
    device = device or engine.device()
    facts = (version("kronos-kline"), pair_digest(model, revision, tokenizer), device.partition(":")[0])
    partitions = plan.divide(sources, settings, *facts, partition_size)
    output.begin(out)
    make = partial(work.ForecastWork, settings, folder, out, facts[1], device)
    report = _compute(partitions, out, engine, make, progress)
    output.end(out, settings, facts, len(partitions), report, layout)
    return report


def _check_layout_of_many(layout: str | None, paths: bool) -> None:
    """Refuses layouts that are not made of a table of quantiles."""
    if layout is None:
        return
    check_layout(layout)
    if layout not in TABLES:
        raise ConfigError(
            f"The layout {layout} is written of one series; of many, {', '.join(TABLES)} are. In Python "
            "kronos.forecasts_to_frame(predictor.forecast_many(…), layout=…) takes any."
        )
    if paths:
        raise ConfigError(f"The layout {layout} is made of quantiles; leave paths (--paths) out.")


def _compute(
    partitions: Sequence[Partition],
    out: Path,
    engine: WorkEngine,
    make: Callable[[], ForecastWork],
    progress: Progress | None,
) -> UniverseReport:
    """Compute the partitions that are not there yet, and count all."""
    from kronos.scale.output import UniverseReport, finished

    found = [(partition, finished(out, partition)) for partition in partitions]
    report = sum((one for _, one in found if one), UniverseReport())
    done, total = (sum(len(p.sources) for p, one in found if one or every) for every in (False, True))
    for files, one in engine.map(make, [partition for partition, one in found if one is None]):
        report, done = report + one, done + files
        if progress is not None:
            progress(done, total)
    return report
