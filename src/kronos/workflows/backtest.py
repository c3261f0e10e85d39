"""From bars to a verdict on a signal, by Qlib: export, data set, signals of a checkpoint, backtest with a report.

Each function takes a research file (docs/backtesting.md), its settings as a mapping, or a checked ``ResearchConfig``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from platform import node
from typing import Any, Literal

import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.dataset import Prepared, prepare, split_ranges, traded_bars
from kronos.backtesting.export import Exported, write_provider
from kronos.backtesting.provider import Provider, Spans
from kronos.backtesting.report import write_report
from kronos.backtesting.run import Backtest, run_backtest
from kronos.backtesting.signals import CrossSections, Dated, read_panel, signals_of_date
from kronos.backtesting.signals import make_signals as make_panel
from kronos.backtesting.simulate import benchmark_returns, tradable_sessions
from kronos.bars import BarStore, read_bars
from kronos.errors import CheckpointError, ConfigError, DataError
from kronos.files import bars_files
from kronos.inference.predictor import KronosPredictor
from kronos.protocol import Progress
from kronos.scale.engines import Engine
from kronos.training.config import read_settings

Research = str | Path | Mapping[str, Any] | ResearchConfig


@dataclass(frozen=True)
class Signals:
    """The signals of a research file.

    Attributes:
        panel: index (datetime, instrument), a column a signal, and the exposures ``volatility`` and ``market``.
        folder: holds ``signals.parquet``.
        notes: what has to be said about them, by subject.
    """

    panel: pd.DataFrame
    folder: Path
    notes: dict[str, str]


def read_research(config: Research, overrides: Iterable[str] | None = None) -> ResearchConfig:
    """The checked settings of a piece of research.

    Args:
        overrides: ``KEY=VALUE`` over those of a file, such as ``backtest.topk=30``.

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
    on_defect: Literal["strict", "drop"] = "strict",
    note: Callable[[str], None] | None = None,
) -> Exported:
    """Writes daily bars as a Qlib provider: calendar, instruments with listing ranges, nine features.

    Args:
        bars: one long table, or files, folders of files, packaged samples and bar stores.
        out: folder of the new provider.
        sets: instrument sets beside ``all``: symbols, or a file of one a line (what follows a tab is left out).
        factors: adjustment factors ``symbol, timestamp, factor``, as a table, CSV or Parquet.
        adjusted: whether the prices are already multiplied by the factors.
        symbol: of a series that names none; by default its file's name.
        note: told how many defective rows were dropped from a file.

    Raises:
        DataError: a source that cannot be read, bars that are not daily, or a symbol in two sources.
        ConfigError: ``out`` is in use, or a set names a symbol without bars.
    """
    table = bars if isinstance(bars, pd.DataFrame) else _read_sources(bars, symbol, on_defect, note)
    members = {name: _symbols(given) if isinstance(given, Path) else given for name, given in (sets or {}).items()}
    if isinstance(factors, Path):
        factors = _read_factors(factors)
    return write_provider(table, Path(out), sets=members, factors=factors, adjusted=adjusted)


def prepare_data(config: Research) -> Prepared:
    """Cuts a provider's bars into train, val and test, no bar scored twice, and writes a run file for training.

    Raises:
        DataError: no provider, or defective bars.
        ConfigError: no such instrument set, dates outside the calendar, ranges that do not hold.
    """
    return prepare(read_research(config))


def make_signals(
    config: Research,
    *,
    device: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
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
    config = read_research(config)
    folder = config.out / "signals"
    predictor = _load_model(config, device if engine is None else "cpu")
    remote = None
    if engine is not None:
        worker = partial(DateWorker, _absolute(config), device or engine.device(), predictor.fingerprint)
        remote = partial(engine.map, worker)
    panel = make_panel(*_market(config), config.forecast_spec, predictor, folder, remote=remote, progress=progress)
    return Signals(panel, folder, _training_note(panel, predictor))


def backtest(
    config: Research,
    out: str | Path | None = None,
    *,
    signals: str | Path | pd.DataFrame | None = None,
    device: str | None = None,
    engine: Engine | None = None,
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
    sessions = tradable_sessions(provider, _scored_sessions(config, provider))
    benchmark_returns(provider, config.backtest.benchmark, provider.members(config.instrument), sessions)
    notes: dict[str, str] = {}
    if signals is None:
        made = make_signals(config, device=device, engine=engine, progress=progress)
        panel, notes = made.panel, made.notes
    else:
        panel = signals if isinstance(signals, pd.DataFrame) else read_panel(signals)
    done = run_backtest(config, provider, panel, notes=notes, progress=progress)
    if out is not None:
        write_report(done, Path(out))
    return done


class DateWorker:
    """What a worker of an engine holds: a loaded checkpoint and all bars, which give the signals of any date.

    Args:
        config: the research file, whose provider lies under the same path on every node.
        device: to compute on.
        fingerprint: of the model in the process that started it.

    Raises:
        CheckpointError: the checkpoint here has other weights.
    """

    def __init__(self, config: ResearchConfig, device: str, fingerprint: str) -> None:
        self.model, self.spec = _load_model(config, device), config.forecast_spec
        if self.model.fingerprint != fingerprint:
            raise CheckpointError(
                f"The checkpoint '{config.signals.model}' on a worker ({node()}) is not the one in the process that "
                "asked. Give every node the same files."
            )
        self.cross_sections = CrossSections(*_market(config), config.lookback_window)

    def __call__(self, date: pd.Timestamp) -> Dated:
        """The signals of a date."""
        return date, signals_of_date(self.cross_sections.at(date), self.spec, self.model)


def _load_model(config: ResearchConfig, device: str | None) -> KronosPredictor:
    model = Path(config.signals.model)
    if model.is_relative_to(config.out) and not (model / "model").is_dir():
        raise ConfigError(
            f"signals.model is {model}, which has no trained model yet; run kronos qlib prepare and kronos train "
            "first, or take one that is there: --set signals.model=kronos-nano"
        )
    return KronosPredictor.from_pretrained(config.signals.model, device=device)


def _market(config: ResearchConfig) -> tuple[pd.DataFrame, Spans, pd.DatetimeIndex]:
    """What signals are made from: the traded bars, who is a member when, and the signal dates."""
    provider = Provider(config.provider)
    dates = _scored_sessions(config, provider)[:: config.signals.every]
    bars = traded_bars(provider.bars(config.instrument, None, dates[-1], on_defect=config.on_defect))
    return bars, provider.members(config.instrument), dates


def _scored_sessions(config: ResearchConfig, provider: Provider) -> pd.DatetimeIndex:
    """The sessions on which signals are made: those of the backtest, or else what the test range scores."""
    if config.backtest_time_range is not None:
        return provider.sessions(*config.backtest_time_range, "backtest_time_range")
    test = split_ranges(config, provider.calendar())[-1]
    return provider.sessions(test.scored_from, test.end, "test_time_range")


def _absolute(config: ResearchConfig) -> ResearchConfig:
    """The same files whatever folder a worker was started in."""
    model = Path(config.signals.model)
    signals = config.signals.model_copy(update={"model": str(model.resolve())}) if model.is_dir() else config.signals
    folders = {"provider": config.provider.expanduser().resolve(), "out": config.out.resolve()}
    return config.model_copy(update={**folders, "signals": signals})


def _training_note(panel: pd.DataFrame, model: KronosPredictor) -> dict[str, str]:
    """What to say where signals are older than the end of the model's training."""
    dates = panel.index.get_level_values("datetime").unique()
    cutoff = max(model.training_cutoffs.values(), default=None)
    day = str(cutoff)[:10]
    early = 0 if cutoff is None else int((dates <= day).sum())
    if not early:
        return {}
    return {
        "training": f"the model states that its training reached bars up to {day}, so {early} of the {len(dates)} "
        "signal dates are not known to be out of its sample"
    }


def _read_sources(
    sources: Iterable[str | Path], symbol: str | None, on_defect: Any, note: Callable[[str], None] | None
) -> pd.DataFrame:
    """All bars of files, folders of files, samples and stores in one long table."""
    tables: list[pd.DataFrame] = []
    for source in sources:
        if Path(source).is_dir() and any(Path(source).glob("frequency=*")):
            store = BarStore(Path(source))
            names = store.symbols("1d")
            if not names:
                raise DataError(f"{source} is a bar store without daily bars; see kronos bars list --store {source}")
            tables += [store.read(name, "1d") for name in names]
            continue
        for file in bars_files([source]) if Path(source).is_dir() else [source]:  # a sample's name is no path
            table = read_bars(file, symbol=symbol, on_defect=on_defect)
            if note is not None and (dropped := table.attrs["report"].dropped):
                note(f"Dropped {dropped:,} defective rows of {file}.")
            if "symbol" not in table.columns:
                table.insert(1, "symbol", symbol or Path(file).name.partition(".")[0])
            tables.append(table)
    for table in tables:
        table.attrs = {}  # reports differ, which pandas would refuse to join
    joined = pd.concat(tables, ignore_index=True)
    twice = joined.duplicated(["symbol", "timestamp"])
    if twice.any():
        row = joined[twice].iloc[0]
        raise DataError(f"two sources hold {row['symbol']} on {row['timestamp']:%Y-%m-%d}; leave one out")
    return joined


def _symbols(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0].strip() for line in lines if line.strip()]


def _read_factors(path: Path) -> pd.DataFrame:
    try:
        table: Any = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"symbol": str})
        return table.assign(timestamp=pd.to_datetime(table["timestamp"]))  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as factors (symbol, timestamp, factor): {error}") from error
