"""``kronos qlib signals``: the panel of signals of a research file, from a checkpoint's sample paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kronos.cli.common import progress

if TYPE_CHECKING:
    import pandas as pd

    from kronos.backtest.config import ResearchConfig
    from kronos.backtest.provider import Provider
    from kronos.cli.forecasters import PredictorForecaster

FOLDER = "signals"


class PredictorSampler:
    """The library's predictor in the words of the backtest.

    Args:
        forecaster: a loaded checkpoint with its sampling settings.
        lookback, num_samples, seed: of every forecast.
    """

    def __init__(self, forecaster: PredictorForecaster, lookback: int, num_samples: int, seed: int) -> None:
        self._predictor = forecaster.predictor
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
    from kronos.cli.forecasters import load_forecaster
    from kronos.errors import ConfigError

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


def make_panel(config: ResearchConfig, provider: Provider, device: str | None) -> tuple[pd.DataFrame, str | None]:
    """The panel of a research file, and the last date of its model's training; what an earlier run left is gone on
    from."""
    from kronos.backtest import dataset
    from kronos.backtest.signals import SignalPlan, make_signals, signal_dates

    sessions = scored_sessions(config, provider)
    dates = signal_dates(sessions, config.signals.every)
    plan = SignalPlan(dates, config.lookback_window, config.predict_window, config.calendar)
    bars = provider.bars(config.instrument, None, dates[-1], on_defect=config.on_defect)
    sampler, cutoff = load_sampler(config, device)
    with progress("Sampling signals") as report:
        panel = make_signals(
            dataset.traded_bars(bars),
            provider.members(config.instrument),
            plan,
            sampler,
            signal_folder(config),
            progress=report,
        )
    return panel, cutoff


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
