"""Bars of a provider cut into training, validation and test files that share no scored bar.

As in the published recipe the first ``lookback_window`` sessions of a range are context: they are read, never scored.
Ranges may therefore overlap by that much. Wherever what one range scores would reach into what the next one scores,
or nearer to it than the embargo, the earlier range ends sooner.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from kronos.backtesting.config import ResearchConfig
from kronos.backtesting.provider import Provider
from kronos.bars.store import write_bars
from kronos.errors import ConfigError, DataError, MissingExtraError
from kronos.files import write_json, write_text

SPLITS: Final = ("train", "val", "test")
_FEWEST_TARGETS: Final = 7  # that training takes behind a context


@dataclass(frozen=True)
class Split:
    """One of the three ranges, in sessions of the provider."""

    name: str
    start: pd.Timestamp  # first session that is read
    scored_from: pd.Timestamp  # first session that is scored
    end: pd.Timestamp  # last session of both
    purged: int  # sessions by which it ends sooner than its range says


@dataclass(frozen=True)
class Prepared:
    """A data set in ``folder``: ``train.parquet``, ``val.parquet``, ``test.parquet``, ``splits.json``, a run file."""

    folder: Path
    splits: tuple[Split, ...]
    bars: dict[str, int]  # by split
    symbols: dict[str, int]  # by split
    untraded: int  # bars left out because nothing was traded
    later_share: float  # of the bars of train and val: what lies in what val scores

    @property
    def run_file(self) -> Path:
        """The run file for ``kronos train``."""
        return self.folder / "finetune.yaml"

    def to_dict(self, config: ResearchConfig) -> dict[str, Any]:
        """What was written, in plain types, as in ``splits.json``."""
        days = ("start", "scored_from", "end")
        return {
            "provider": str(config.provider),
            "instrument": config.instrument if isinstance(config.instrument, str) else list(config.instrument),
            "lookback_window": config.lookback_window,
            "predict_window": config.predict_window,
            "embargo": config.embargo_sessions,
            "splits": [asdict(one) | {day: f"{getattr(one, day):%Y-%m-%d}" for day in days} for one in self.splits],
            "bars": self.bars,
            "symbols": self.symbols,
            "untraded_bars_left_out": self.untraded,
        }


def prepare(config: ResearchConfig) -> Prepared:
    """Writes the data set of a research file, and a run file that fine-tunes on it.

    Raises:
        DataError: no provider, or defective bars.
        ConfigError: no such instrument set, dates outside the calendar, ranges that do not hold.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "train", "Writing a run file") from error
    provider = Provider(config.provider)
    for name in SPLITS:
        first, last = getattr(config, f"{name}_time_range")
        provider.sessions(first, last, f"{name}_time_range")
    splits = split_ranges(config, provider.calendar())
    bars = provider.bars(config.instrument, splits[0].start, splits[-1].end, on_defect=config.on_defect)
    traded, spans = traded_bars(bars), provider.members(config.instrument)
    parts = {}
    for split in splits:  # symbols that are ever members in what it scores, with enough bars
        part = traded[traded["timestamp"].between(split.start, split.end)]
        counts, scored = part["symbol"].value_counts(), part[part["timestamp"] >= split.scored_from]
        kept = [
            symbol
            for symbol, times in scored.groupby("symbol")["timestamp"]
            if counts[symbol] > config.lookback_window
            and any(times.between(*span).any() for span in spans.get(str(symbol), ()))
        ]
        parts[split.name] = part[part["symbol"].isin(kept)].reset_index(drop=True)
    if empty := [name for name, part in parts.items() if part.empty]:
        raise DataError(f"no symbol of '{config.instrument}' has {config.lookback_window} bars and more in {empty[0]}")
    config.out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_bars(part, config.out / f"{name}.parquet")
    later = int((parts["val"]["timestamp"] >= splits[1].scored_from).sum())
    prepared = Prepared(
        folder=config.out,
        splits=splits,
        bars={name: len(part) for name, part in parts.items()},
        symbols={name: int(part["symbol"].nunique()) for name, part in parts.items()},
        untraded=len(bars) - len(traded),
        later_share=later / (len(parts["train"]) + len(parts["val"])),
    )
    write_json(config.out / "splits.json", prepared.to_dict(config), indent=1)
    write_text(prepared.run_file, yaml.safe_dump(run_settings(prepared, config), sort_keys=False))
    return prepared


def split_ranges(config: ResearchConfig, calendar: pd.DatetimeIndex) -> tuple[Split, ...]:
    """The three ranges with what each scores, purged.

    Raises:
        ConfigError: ranges out of order, or too short for a context and a horizon.
    """
    ranges = [getattr(config, f"{name}_time_range") for name in SPLITS]
    starts = [int(calendar.searchsorted(pd.Timestamp(first))) for first, _ in ranges]
    limits = [start + config.lookback_window - config.embargo_sessions for start in starts[1:]] + [len(calendar)]
    found = []
    for name, (_, last), start, limit in zip(SPLITS, ranges, starts, limits, strict=True):
        first, wanted = start + config.lookback_window, int(calendar.searchsorted(pd.Timestamp(last), side="right")) - 1
        end = min(wanted, limit - 1)
        if end - first + 1 < config.predict_window:
            raise ConfigError(
                f"{name}_time_range leaves {max(0, end - first + 1)} sessions to score after {config.lookback_window} "
                f"of context and before the next range; it needs {config.predict_window}. Move the ranges, which "
                "come in the order train, val, test"
            )
        found.append(Split(name, calendar[start], calendar[first], calendar[end], wanted - end))
    return tuple(found)


def scored_sessions(config: ResearchConfig, provider: Provider) -> pd.DatetimeIndex:
    """The sessions on which signals are made: those of the backtest, or else what the test range scores."""
    if config.backtest_time_range is not None:
        return provider.sessions(*config.backtest_time_range, "backtest_time_range")
    test = split_ranges(config, provider.calendar())[-1]
    return provider.sessions(test.scored_from, test.end, "test_time_range")


def traded_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars without those of a day on which nothing was traded (volume 0): some providers fill suspended days so."""
    return bars[~(bars["volume"] == 0).to_numpy()].reset_index(drop=True)


def run_settings(prepared: Prepared, config: ResearchConfig) -> dict[str, Any]:
    """A run file for ``kronos train``: both stages on this data set, validated by what val scores and nothing else."""
    given = dict(config.training)
    data = {
        "bars": [str(prepared.folder / "train.parquet"), str(prepared.folder / "val.parquet")],
        "window": config.lookback_window + max(config.predict_window, _FEWEST_TARGETS) + 1,
        "boundary": [config.lookback_window, config.lookback_window],
        "hold_out": "dates",
        "later_share": round(prepared.later_share, 9),
        # val.parquet begins with its context, which training must not score
        "embargo": config.lookback_window,
        **given.pop("data", {}),
    }
    return {"out": str(prepared.folder / "finetuned"), **given, "data": data}
