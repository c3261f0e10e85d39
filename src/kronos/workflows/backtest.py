"""From bars to a verdict on a signal, by Qlib: export, data set, signals of a checkpoint, backtest with a report.

Each function takes a research file (docs/backtesting.md), its settings as a mapping, or a checked ``ResearchConfig``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any

import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.dataset import Prepared, prepare, scored_sessions, traded_bars
from kronos.backtesting.export import Exported, write_provider
from kronos.backtesting.provider import Provider, Spans
from kronos.backtesting.report import write_report
from kronos.backtesting.run import Backtest, run_backtest
from kronos.backtesting.signals import DateSignals, read_panel
from kronos.backtesting.signals import make_signals as make_panel
from kronos.backtesting.simulate import benchmark_returns, tradable_sessions
from kronos.bars import BarStore, read_bars
from kronos.bars.report import OnDefect
from kronos.errors import CheckpointError, ConfigError, DataError
from kronos.files import bars_files
from kronos.protocol import Progress, WorkEngine
from kronos.training.config import read_settings

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

Research = str | Path | Mapping[str, Any] | ResearchConfig


@dataclass(frozen=True)
class Signals:
    """The signals of a research file."""

    panel: pd.DataFrame  # index (datetime, instrument), a column a signal, exposures ``volatility`` and ``market``
    folder: Path  # holds ``signals.parquet``
    notes: dict[str, str]  # cautions about them, by subject


def read_research(config: Research, overrides: Iterable[str] | None = None) -> ResearchConfig:
    """The checked settings of a piece of research; ``overrides``: ``KEY=VALUE`` over those of a file.

    Raises:
        ConfigError: the file cannot be read, or a setting does not hold.
    """
    if isinstance(config, str | Path):
        config = read_settings(config, list(overrides or ()))
    return config if isinstance(config, ResearchConfig) else ResearchConfig.from_dict(config)


def export_provider(
    bars: pd.DataFrame | Iterable[str | Path],
    out: str | Path,
    *,
    sets: Mapping[str, Iterable[str] | Path] | None = None,
    factors: pd.DataFrame | Path | None = None,
    adjusted: bool = False,
    symbol: str | None = None,
    on_defect: OnDefect = "strict",
    note: Callable[[str], None] | None = None,
) -> Exported:
    """Writes daily bars as a Qlib provider: calendar, instruments with listing ranges, nine features.

    Args:
        bars: one table of many symbols that ``read_bars`` understands, or files, folders of files, packaged samples
            and bar stores.
        out, sets, factors, adjusted: as for :func:`kronos.backtesting.export.write_provider`.
        symbol: of a series that names none; by default its file's name.
        note: told how many defective rows were dropped from a file.

    Raises:
        DataError: a source that cannot be read, bars that are not daily, or a symbol in two sources.
        ConfigError: ``out`` is in use, or a set names a symbol without bars.
    """
    if isinstance(bars, pd.DataFrame):
        table = bars if "symbol" in bars.columns else read_bars(bars, symbol=symbol, on_defect=on_defect)
    else:
        table = _read_sources(bars, symbol, on_defect, note)
    return write_provider(table, Path(out), sets=sets, factors=factors, adjusted=adjusted)


def prepare_data(config: Research) -> Prepared:
    """Cuts a provider's bars into train, val and test, no bar scored twice, and writes a run file for training."""
    return prepare(read_research(config))


def make_signals(
    config: Research, *, device: str | None = None, engine: WorkEngine | None = None, progress: Progress | None = None
) -> Signals:
    """Samples the signals of a research file; a run that was stopped goes on where it stopped.

    Args:
        device: to compute on; None: a GPU if there is one.
        engine: where to compute, such as ``make_engine("ray", workers=8)`` of :mod:`kronos.scale.engines`, with the
            same result; None: in this process.
        progress: told the dates done, and how long the rest will take.

    Raises:
        ConfigError: a setting that does not hold, or a folder with the signals of another run.
        CheckpointError: no such model, or a worker has other weights.
        DataError: no provider, defective bars, or too few of them.
    """
    config, remote, notes = read_research(config), None, {}
    model = _load_model(config, device if engine is None else "cpu")
    if engine is not None:
        worker = partial(date_worker, config.absolute(), device or engine.device(), model.fingerprint)
        remote = partial(engine.map, worker)
    folder = config.out / "signals"
    panel = make_panel(*_market(config), config.forecast_spec, model, folder, remote=remote, progress=progress)
    dates = panel.index.get_level_values("datetime").unique()
    cutoff = max(map(str, model.training_cutoffs.values()), default="")[:10]
    if cutoff and (early := int((dates <= cutoff).sum())):
        notes["training"] = (
            f"the model states that its training reached bars up to {cutoff}, so {early} of the {len(dates)} "
            "signal dates are not known to be out of its sample"
        )
    return Signals(panel, folder, notes)


def backtest(
    config: Research,
    out: str | Path | None = None,
    *,
    signals: str | Path | pd.DataFrame | None = None,
    device: str | None = None,
    engine: WorkEngine | None = None,
    progress: Progress | None = None,
) -> Backtest:
    """Trades the signals of a research file with costs, beside random and momentum signals.

    Args:
        out: folder of ``report.html``, PNG charts, ``summary.json`` and ``daily.parquet``; None writes none.
        signals: a panel to use (datetime, instrument, a column a signal). None: the research file's, which are
            sampled where they are missing.
        device, engine: where to sample, as for :func:`make_signals`.
        progress: told how far the sampling is, then how many strategies were traded.

    Returns:
        Simulations and studies by signal, and the summary with every figure, test and verdict.

    Raises:
        ConfigError, DataError, CheckpointError: what is wrong, before the sampling where it can be known then.
    """
    config = read_research(config)
    provider = Provider(config.provider)
    sessions = tradable_sessions(provider, scored_sessions(config, provider))
    benchmark_returns(provider, config.backtest.benchmark, provider.members(config.instrument), sessions)
    notes: dict[str, str] = {}
    if signals is None:
        made = make_signals(config, device=device, engine=engine, progress=progress)
        signals, notes = made.panel, made.notes
    elif not isinstance(signals, pd.DataFrame):
        signals = read_panel(signals)
    done = run_backtest(config, provider, signals, notes=notes, progress=progress)
    if out is not None:
        write_report(done, Path(out))
    return done


def date_worker(config: ResearchConfig, device: str, fingerprint: str) -> DateSignals:
    """What a worker of an engine needs, a checkpoint and all bars, which give the signals of any date."""
    model = _load_model(config, device)
    if model.fingerprint != fingerprint:
        raise CheckpointError(
            f"The checkpoint '{config.signals.model}' on a worker ({node()}) is not the one in the process that asked. "
            "Give every node the same files."
        )
    return DateSignals(*_market(config), config.forecast_spec, model)


def _load_model(config: ResearchConfig, device: str | None) -> KronosPredictor:
    model = Path(config.signals.model)
    if model.is_relative_to(config.out) and not (model / "model").is_dir():
        raise ConfigError(
            f"signals.model is {model}, which has no trained model yet; run kronos qlib prepare and kronos train "
            "first, or take one that is there: --set signals.model=kronos-nano"
        )
    from kronos.inference.predictor import KronosPredictor  # torch, which export and data set do without

    return KronosPredictor.from_pretrained(config.signals.model, device, tokenizer=config.signals.tokenizer)


def _market(config: ResearchConfig) -> tuple[pd.DataFrame, Spans, pd.DatetimeIndex]:
    """What signals are made from: the traded bars, who is a member when, and the signal dates."""
    provider = Provider(config.provider)
    dates = scored_sessions(config, provider)[:: config.signals.every]
    bars = traded_bars(provider.bars(config.instrument, None, dates[-1], on_defect=config.on_defect))
    return bars, provider.members(config.instrument), dates


def _read_sources(
    sources: Iterable[str | Path], symbol: str | None, on_defect: Any, note: Callable[[str], None] | None
) -> pd.DataFrame:
    """All bars of files, folders of files, samples and stores in one long table."""
    tables: list[pd.DataFrame] = []
    for source in sources:
        folder, files = Path(source), [source]  # a sample's name is no path
        if folder.is_dir() and any(folder.glob("frequency=*")):
            store, files = BarStore(folder), []
            if not (names := store.symbols("1d")):
                raise DataError(f"{source} is a bar store without daily bars; see kronos bars list --store {source}")
            tables += [store.read(name, "1d") for name in names]
        elif folder.is_dir():
            files = [*bars_files([source])]
        for file in files:
            table = read_bars(file, symbol=symbol, on_defect=on_defect)
            if note is not None and (dropped := table.attrs["report"].dropped):
                note(f"Dropped {dropped:,} defective rows of {file}.")
            if "symbol" not in table.columns:
                table.insert(1, "symbol", symbol or Path(file).name.partition(".")[0])
            tables.append(table)
    for table in tables:
        table.attrs = {}  # reports differ, which pandas would refuse to join
    joined = pd.concat(tables, ignore_index=True)
    twice = joined[joined.duplicated(["symbol", "timestamp"])]
    if len(twice):
        row = twice.iloc[0]
        raise DataError(f"two sources hold {row['symbol']} on {row['timestamp']:%Y-%m-%d}; leave one out")
    return joined
