"""Bars of a provider cut into training, validation and test files that share no scored bar.

As in the published recipe the first ``lookback_window`` sessions of a range are context: they are read, never scored.
Ranges may therefore overlap by that much. Wherever what one range scores would reach into what the next one scores,
or nearer to it than the embargo, the earlier range ends sooner.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from kronos.backtest.config import ResearchConfig
from kronos.backtest.provider import Provider
from kronos.bars.store import whole_file, write_parquet
from kronos.errors import ConfigError, DataError

SPLITS: Final = ("train", "val", "test")
RECORD: Final = "splits.json"
_FEWEST_TARGETS: Final = 7  # that training takes behind a context


@dataclass(frozen=True)
class Split:
    """One of the three ranges, in sessions of the provider.

    Attributes:
        start: first session that is read.
        scored_from, end: first and last session that is scored.
        purged: sessions by which it ends sooner than it was asked to.
    """

    name: str
    start: pd.Timestamp
    scored_from: pd.Timestamp
    end: pd.Timestamp
    purged: int


@dataclass(frozen=True)
class Prepared:
    """The files of a data set.

    Attributes:
        folder: holds ``train.parquet``, ``val.parquet``, ``test.parquet`` and ``splits.json``.
        splits: what each of them holds.
        bars, symbols: by split.
        untraded: bars left out because nothing was traded.
        later_share: share of the bars of train and val that lies in what val scores.
    """

    folder: Path
    splits: tuple[Split, ...]
    bars: dict[str, int]
    symbols: dict[str, int]
    untraded: int
    later_share: float


def split_ranges(config: ResearchConfig, calendar: pd.DatetimeIndex) -> tuple[Split, ...]:
    """The three ranges with what each scores, purged.

    Raises:
        ConfigError: ranges out of order, or too short for a context and a horizon.
    """
    asked = [config.train_time_range, config.val_time_range, config.test_time_range]
    starts = [int(calendar.searchsorted(pd.Timestamp(first), side="left")) for first, _ in asked]
    ends = [int(calendar.searchsorted(pd.Timestamp(last), side="right")) - 1 for _, last in asked]
    scored = [start + config.lookback_window for start in starts]
    kept = [
        min(end, later - 1 - config.embargo_sessions)
        for end, later in zip(ends, [*scored[1:], len(calendar) + config.embargo_sessions + 1], strict=True)
    ]
    found = []
    for name, start, first, wanted, end in zip(SPLITS, starts, scored, ends, kept, strict=True):
        if end - first + 1 < config.predict_window:
            raise ConfigError(
                f"{name}_time_range leaves {max(0, end - first + 1)} sessions to score after {config.lookback_window} "
                f"of context and before the next range; it needs {config.predict_window}. Move the ranges, which "
                "come in the order train, val, test"
            )
        found.append(Split(name, calendar[start], calendar[first], calendar[end], wanted - end))
    return tuple(found)


def traded_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars without those of a day on which nothing was traded (volume 0): some providers fill suspended days so."""
    kept: pd.DataFrame = bars[~(bars["volume"] == 0).to_numpy()].reset_index(drop=True)
    return kept


def prepare(config: ResearchConfig) -> Prepared:
    """Writes the data set of a run.

    Raises:
        DataError: no provider, or defective bars.
        ConfigError: no such instrument set, dates outside the calendar, ranges that do not hold.
    """
    provider = Provider(config.provider)
    calendar = provider.calendar()
    for name in SPLITS:
        first, last = getattr(config, f"{name}_time_range")
        provider.sessions(first, last, f"{name}_time_range")
    splits = split_ranges(config, calendar)
    bars = provider.bars(config.instrument, splits[0].start, splits[-1].end, on_defect=config.on_defect)
    traded = traded_bars(bars)
    members = membership(provider, config.instrument, traded)
    parts = {split.name: _rows(traded, members, split, config.lookback_window) for split in splits}
    if empty := [name for name, part in parts.items() if part.empty]:
        raise DataError(f"no symbol of '{config.instrument}' has {config.lookback_window} bars and more in {empty[0]}")
    config.out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        with whole_file(config.out / f"{name}.parquet") as draft:
            write_parquet(part, draft)
    later = int((parts["val"]["timestamp"] >= splits[1].scored_from).sum())
    prepared = Prepared(
        folder=config.out,
        splits=splits,
        bars={name: len(part) for name, part in parts.items()},
        symbols={name: int(part["symbol"].nunique()) for name, part in parts.items()},
        untraded=len(bars) - len(traded),
        later_share=later / (len(parts["train"]) + len(parts["val"])),
    )
    with whole_file(config.out / RECORD) as draft:
        draft.write_text(json.dumps(describe(prepared, config), indent=1) + "\n", encoding="utf-8")
    return prepared


def describe(prepared: Prepared, config: ResearchConfig) -> dict[str, Any]:
    """What was written, in plain types."""
    splits = [{**asdict(s), **{k: f"{getattr(s, k):%Y-%m-%d}" for k in ("start", "scored_from", "end")}}
              for s in prepared.splits]  # fmt: skip
    return {
        "provider": str(config.provider),
        "instrument": config.instrument if isinstance(config.instrument, str) else list(config.instrument),
        "lookback_window": config.lookback_window,
        "predict_window": config.predict_window,
        "embargo": config.embargo_sessions,
        "splits": splits,
        "bars": prepared.bars,
        "symbols": prepared.symbols,
        "untraded_bars_left_out": prepared.untraded,
    }


def run_settings(prepared: Prepared, config: ResearchConfig) -> dict[str, Any]:
    """A run file for ``kronos train``: both stages on this data set, validated by what val scores and nothing else."""
    given = dict(config.training)
    asked = max(config.predict_window, _FEWEST_TARGETS)
    data = {
        "bars": [str(prepared.folder / "train.parquet"), str(prepared.folder / "val.parquet")],
        "window": config.lookback_window + asked + 1,
        "boundary": [config.lookback_window, config.lookback_window],
        "hold_out": "dates",
        "later_share": round(prepared.later_share, 9),
        # val.parquet begins with its context, which training must not score
        "embargo": config.lookback_window,
        **given.pop("data", {}),
    }
    return {"out": str(prepared.folder / "finetuned"), **given, "data": data}


def membership(provider: Provider, instrument: str | Sequence[str], bars: pd.DataFrame) -> pd.Series:
    """Whether the symbol of each bar is a member on the bar's day."""
    spans = provider.members(instrument)
    out = np.zeros(len(bars), dtype=bool)
    times = bars["timestamp"].to_numpy()
    for symbol, rows in bars.groupby("symbol", sort=False).indices.items():
        for first, last in spans.get(str(symbol), ()):
            out[rows] |= (times[rows] >= first.to_datetime64()) & (times[rows] <= last.to_datetime64())
    return pd.Series(out, index=bars.index)


def _rows(bars: pd.DataFrame, members: pd.Series, split: Split, lookback: int) -> pd.DataFrame:
    """The bars of a split: symbols that are ever members in what it scores, with enough of them."""
    times = bars["timestamp"]
    inside = ((times >= split.start) & (times <= split.end)).to_numpy()
    part = bars[inside]
    scored = (part["timestamp"] >= split.scored_from) & members[inside]
    asked = scored.groupby(part["symbol"]).sum()
    enough = part["symbol"].value_counts() > lookback
    kept = asked.index[(asked > 0) & enough.reindex(asked.index)]
    chosen: pd.DataFrame = part[part["symbol"].isin(kept)].reset_index(drop=True)
    return chosen
