"""The settings of one piece of research, from provider to report, under the published names where those exist."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, settings_in_words
from kronos.spec import ForecastSpec, settings

SIGNALS = ("last", "mean", "max", "min", "median", "prob_up", "mean_over_deviation")
"""What :mod:`kronos.backtesting.signals` derives from the paths of a forecast."""

UNIVERSE = "universe"
"""The benchmark that holds every member of the instrument set with equal weight."""

ALIASES = {
    "qlib_data_path": "provider",
    "dataset_path": "out",
    "inference_T": "signals.temperature",
    "inference_top_p": "signals.top_p",
    "inference_top_k": "signals.top_k",
    "inference_sample_count": "signals.num_samples",
    "backtest_n_symbol_hold": "backtest.topk",
    "backtest_n_symbol_drop": "backtest.n_drop",
    "backtest_hold_thresh": "backtest.hold_thresh",
    "backtest_benchmark": "backtest.benchmark",
    "batch_size": "training.batch_size",
    "tokenizer_learning_rate": "training.tokenizer_learning_rate",
    "predictor_learning_rate": "training.predictor_learning_rate",
    "accumulation_steps": "training.accumulation_steps",
    "adam_beta1": "training.adam_beta1",
    "adam_beta2": "training.adam_beta2",
    "adam_weight_decay": "training.adam_weight_decay",
}
"""Published name → ours; the windows, the instrument and the four ranges are called as published."""

Range = tuple[date, date]
Neutral = Literal["volatility", "market"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


ELSEWHERE = {"horizon", "context_length", "calendar", "stamp", "frequency"}
"""Settings of a forecast that a research file says outside ``signals``, or that daily bars decide."""

_USUAL = {"num_samples": 5, "direction": "model"}  # 5 paths as published; a signal is a direction, so it is asked for

_SIGNAL_FIELDS: Final[dict[str, Any]] = {
    one.name: (
        Annotated[one.kind | None if one.optional else one.kind, AfterValidator(one.check)],
        Field(_USUAL.get(one.name, one.default), description=one.help),
    )
    for one in settings()
    if one.name not in ELSEWHERE
}


class SignalSettings(create_model("Sampling", __base__=_Section, **_SIGNAL_FIELDS)):  # type: ignore[misc]
    """How the paths of the signals are sampled: the model, the dates, and settings of ``ForecastSpec``."""

    model: str = "kronos-nano"  # a name, a folder or a hub id
    tokenizer: str | None = None  # None: the one that belongs to it
    every: int = Field(1, ge=1)  # sessions from one signal date to the next


class BacktestSettings(_Section):
    """TopkDropout, its costs, and what it is compared with."""

    signals: tuple[str, ...] = ("mean", "last", "prob_up")  # side by side
    neutralise: tuple[Neutral, ...] = ()  # each signal also without what these explain
    benchmark: str = UNIVERSE  # an instrument of the provider, or the equal-weight universe
    account: float = Field(1e8, gt=0)
    invested: float = Field(0.95, gt=0, le=1)  # share of the account in names, the rest is cash
    topk: int = Field(50, ge=1)
    n_drop: int = Field(5, ge=1)
    hold_thresh: int = Field(5, ge=1)  # sessions
    open_cost: float = Field(0.001, ge=0, lt=1)
    close_cost: float = Field(0.0015, ge=0, lt=1)
    min_cost: float = Field(5.0, ge=0)
    limit_threshold: float | None = Field(None, gt=0, lt=1)  # no trade beyond this day's move; None: no limit
    deal_price: Literal["open", "close", "vwap"] = "open"
    trade_unit: int | None = Field(None, ge=1)  # shares in a lot, in raw prices; None: any amount
    groups: int = Field(10, ge=2)  # of the long-short study
    random_runs: int = Field(5, ge=1)  # random signals, whose mean is the baseline
    participation: float = Field(0.01, gt=0, le=1)  # share of a day's traded value that an order may be

    @model_validator(mode="after")
    def _holds_together(self) -> BacktestSettings:
        if self.n_drop > self.topk:
            raise ValueError(f"n_drop {self.n_drop} exceeds topk {self.topk}")
        return self


class ResearchConfig(_Section):
    """Everything that a run from provider to report depends on; see docs/backtesting.md."""

    provider: Path  # a folder in Qlib's format
    out: Path  # data set, signals
    instrument: str | tuple[str, ...] = "all"  # a set of the provider, or symbols
    calendar: str  # MIC code: the sessions to come, known beforehand
    sessions_per_year: int = Field(252, ge=1)
    lookback_window: int = Field(90, ge=4)  # bars of context
    predict_window: int = Field(10, ge=1)  # bars ahead
    embargo: int | None = Field(None, ge=0)  # sessions between two splits; None: predict_window
    train_time_range: Range
    val_time_range: Range
    test_time_range: Range
    backtest_time_range: Range | None = None  # None: what test_time_range scores
    on_defect: OnDefect = "strict"  # of the provider's bars
    training: dict[str, Any] = {}  # a run file's settings, docs/training.md
    signals: SignalSettings = SignalSettings()
    backtest: BacktestSettings = BacktestSettings()

    @field_validator("train_time_range", "val_time_range", "test_time_range", "backtest_time_range")
    @classmethod
    def _ascends(cls, value: Range | None) -> Range | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"{value[0]} … {value[1]} does not go forward")
        return value

    @property
    def embargo_sessions(self) -> int:
        return self.predict_window if self.embargo is None else self.embargo

    @property
    def forecast_spec(self) -> ForecastSpec:
        """What is asked of the model on each signal date."""
        sampling = {name: getattr(self.signals, name) for name in _SIGNAL_FIELDS}
        return ForecastSpec(
            horizon=self.predict_window, context_length=self.lookback_window, calendar=self.calendar, **sampling
        )

    def absolute(self) -> ResearchConfig:
        """The same files whatever the working directory."""
        halves = {name: Path(getattr(self.signals, name) or "") for name in ("model", "tokenizer")}
        there = {name: str(half.resolve()) for name, half in halves.items() if half.name and half.is_dir()}
        signals = self.signals.model_copy(update=there)
        folders = {"provider": self.provider.expanduser().resolve(), "out": self.out.resolve()}
        return self.model_copy(update={**folders, "signals": signals})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ResearchConfig:
        """Checks a mapping; published names are understood.

        Raises:
            ConfigError: names the settings that are unknown, missing or out of range.
        """
        try:
            return cls.model_validate(_translate(values))
        except ValidationError as error:
            faults = settings_in_words(error.errors(), "settings")
            raise ConfigError(f"the settings do not hold: {faults}") from error


def _translate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with published names at the top level as settings with ours."""
    out = {name: value for name, value in values.items() if name not in ALIASES}
    for name in (name for name in ALIASES if name in values):
        section, _, last = ALIASES[name].rpartition(".")
        inner = out
        if section:
            inner = out[section] = dict(out.get(section) or {})
        if last in inner:
            raise ConfigError(f"both {name} and {ALIASES[name]} are given, which is the same setting; keep one")
        inner[last] = values[name]
    return out
