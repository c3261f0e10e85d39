"""``kronos qlib signals``: the panel of signals of a research file, from a checkpoint's sample paths."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any

from kronos.cli.common import progress
from kronos.cli.options import Compute

if TYPE_CHECKING:
    import pandas as pd

    from kronos.backtest.config import ResearchConfig
    from kronos.backtest.provider import Provider, Spans
    from kronos.backtest.signals import Dated, SignalPlan
    from kronos.workflows.forecasters import Configured

FOLDER = "signals"


class PredictorSampler:
    """The library's predictor in the words of the backtest.

    Args:
        forecaster: a loaded checkpoint with its sampling settings.
        lookback, num_samples, seed: of every forecast.
    """

    def __init__(self, forecaster: Configured, lookback: int, num_samples: int, seed: int) -> None:
        self._predictor: Any = forecaster.inner
        self._options = {**forecaster.settings, "num_samples": num_samples, "seed": seed, "context_length": lookback}
        self.fingerprint = f"{forecaster.fingerprint}|{num_samples}|{seed}"

    def closes(self, contexts: Mapping[str, pd.DataFrame], future: pd.DatetimeIndex) -> Iterator[tuple[str, Any]]:
        """(symbol, closes (S, H)) of each context."""
        times = dict.fromkeys(contexts, future)
        for symbol, forecast in self._predictor.forecast_many(
            contexts, horizon=len(future), future=times, **self._options
        ):
            yield symbol, forecast.close()


def load_sampler(config: ResearchConfig, device: str | None) -> tuple[PredictorSampler, str | None]:
    """The sampler of a research file, and the last date that its checkpoint says it was trained on.

    Raises:
        ConfigError: the checkpoint is to come out of this very run, and has not yet.
    """
    from kronos.errors import ConfigError
    from kronos.workflows.forecasters import load_forecaster

    asked = config.signals
    if Path(asked.model).is_relative_to(config.out) and not (Path(asked.model) / "model").is_dir():
        raise ConfigError(
            f"signals.model is {asked.model}, which has no trained model yet; run kronos qlib prepare and kronos train "
            "first, or take one that is there: --set signals.model=kronos-nano"
        )
    forecaster = load_forecaster(
        asked.model, device, temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p
    )
    cutoff = None if forecaster.training_cutoff is None else str(forecaster.training_cutoff)[:10]
    return PredictorSampler(forecaster, config.lookback_window, asked.num_samples, asked.seed), cutoff


def make_panel(config: ResearchConfig, provider: Provider, compute: Compute) -> tuple[pd.DataFrame, str | None]:
    """The panel of a research file, and the last date of its model's training; what an earlier run left is gone on
    from.

    Raises:
        ConfigError: a number of workers for this process, which divides the work of each date by itself.
    """
    from kronos.backtest.signals import make_signals
    from kronos.errors import ConfigError

    engine = compute.away()
    if engine is None and compute.workers is not None:
        raise ConfigError("--workers is for --engine ray; this process shares each date among its cores by itself.")
    bars, spans, plan = load_market(config, provider)
    sampler, cutoff = load_sampler(config, compute.device if engine is None else "cpu")

    def elsewhere(dates: Sequence[pd.Timestamp]) -> Iterator[Dated]:
        assert engine is not None
        worker = partial(SignalWork, absolute(config), compute.device or engine.device(), sampler.fingerprint)
        return engine.map(worker, dates)

    # Ray writes about dead workers to stdout, which belongs to results.
    with redirect_stdout(sys.stderr), progress("Sampling signals") as report:
        panel = make_signals(
            bars,
            spans,
            plan,
            sampler,
            signal_folder(config),
            elsewhere=None if engine is None else elsewhere,
            progress=report,
        )
    return panel, cutoff


class SignalWork:
    """One worker of an engine: a loaded checkpoint and all bars, which give the signals of any date.

    Args:
        config: the research file, whose provider lies under the same path on every node.
        device: to compute on.
        fingerprint: of the sampler in the process that asks.

    Raises:
        CheckpointError: the checkpoint here has other weights.
    """

    def __init__(self, config: ResearchConfig, device: str, fingerprint: str) -> None:
        from kronos.backtest.provider import Provider
        from kronos.backtest.signals import CrossSections
        from kronos.errors import CheckpointError

        self.sampler, _ = load_sampler(config, device)
        if self.sampler.fingerprint != fingerprint:
            raise CheckpointError(
                f"The checkpoint '{config.signals.model}' on a worker ({node()}) is not the one in the process that "
                "asked. Give every node the same files."
            )
        bars, spans, self.plan = load_market(config, Provider(config.provider))
        self.cross_sections = CrossSections(bars, spans, self.plan)

    def __call__(self, date: pd.Timestamp) -> Dated:
        """The signals of a date."""
        from kronos.backtest.signals import signals_of_date

        return date, signals_of_date(self.cross_sections.past(date), self.plan, self.sampler)


def load_market(config: ResearchConfig, provider: Provider) -> tuple[pd.DataFrame, Spans, SignalPlan]:
    """What signals are made from: the traded bars, who is a member when, and the plan."""
    from kronos.backtest.dataset import traded_bars
    from kronos.backtest.signals import SignalPlan, signal_dates

    dates = signal_dates(scored_sessions(config, provider), config.signals.every)
    plan = SignalPlan(dates, config.lookback_window, config.predict_window, config.calendar)
    bars = traded_bars(provider.bars(config.instrument, None, dates[-1], on_defect=config.on_defect))
    return bars, provider.members(config.instrument), plan


def absolute(config: ResearchConfig) -> ResearchConfig:
    """The same files whatever folder a worker was started in."""
    model = Path(config.signals.model)
    signals = config.signals.model_copy(update={"model": str(model.resolve())}) if model.is_dir() else config.signals
    folders = {"provider": config.provider.expanduser().resolve(), "out": config.out.resolve()}
    return config.model_copy(update={**folders, "signals": signals})


def overlap_note(panel: pd.DataFrame, cutoff: str | None) -> dict[str, str]:
    """What to say where signals are older than the end of the model's training."""
    dates = panel.index.get_level_values("datetime").unique()
    early = 0 if cutoff is None else int((dates <= cutoff).sum())
    if not early:
        return {}
    return {
        "training": f"the model states that its training reached bars up to {cutoff}, so {early} of the {len(dates)} "
        "signal dates are not known to be out of its sample"
    }


def signal_folder(config: ResearchConfig) -> Path:
    """Where a research file's signals lie."""
    return config.out / FOLDER


def scored_sessions(config: ResearchConfig, provider: Provider) -> pd.DatetimeIndex:
    """The sessions on which signals are made: those of the backtest, or else what the test range scores."""
    from kronos.backtest.dataset import split_ranges

    if config.backtest_time_range is not None:
        return provider.sessions(*config.backtest_time_range, "backtest_time_range")
    test = split_ranges(config, provider.calendar())[-1]
    return provider.sessions(test.scored_from, test.end, "test_time_range")
