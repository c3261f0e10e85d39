"""Signals from sample paths, in return space: for each symbol and date what the paths say about the sessions to come.

The published signal was the difference of two z-scored prices, which ranks symbols by their volatility. Here every
path becomes returns on the last close first.

The signal of date t sees bars up to t alone. Each date is a batch of its own, so that not even rounding can carry
anything back from later bars: what is computed together has the same date.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtest.config import SIGNALS
from kronos.backtest.provider import Spans, member_mask
from kronos.bars.calendar import future_timestamps
from kronos.bars.schema import FEATURES
from kronos.bars.store import whole_file
from kronos.errors import ConfigError, DataError

FloatArray = npt.NDArray[np.float64]
EXPOSURES: Final = ("volatility", "market")
NEUTRAL: Final = "_neutral"
"""Ending of a signal without what exposures explain."""

PANEL: Final = "signals.parquet"
_PARTS, _SETTINGS = "parts", "settings.json"
_EXPOSURE_SESSIONS = 60  # trailing returns that volatility and beta are measured on


class PathSampler(Protocol):
    """What makes forecasts: sampled closes of many series, each given its past alone.

    ``fingerprint`` names weights and settings, so that signals of another sampler are not taken for this one's.
    """

    fingerprint: str

    def closes(
        self, contexts: Mapping[str, pd.DataFrame], future: pd.DatetimeIndex
    ) -> Iterable[tuple[str, npt.NDArray[Any]]]:
        """(symbol, closes (S, H)) of each context, a bars table whose last bar is the signal's date."""
        ...


@dataclass(frozen=True)
class SignalPlan:
    """Which signals are made.

    Attributes:
        dates: the signal dates, sessions in order.
        lookback: bars of context; one more is handed over, since some models read returns.
        horizon: sessions ahead.
        calendar: MIC code, which names the sessions ahead.
    """

    dates: pd.DatetimeIndex
    lookback: int
    horizon: int
    calendar: str


Told = Callable[[int, int, str], None]
"""Progress: dates done, dates in all, how fast it goes."""

Dated = tuple[pd.Timestamp, pd.DataFrame]
Elsewhere = Callable[[Sequence[pd.Timestamp]], Iterable[Dated]]
"""Makes the signals of dates as ``signals_of_date`` does, in other processes and in any order."""


def path_signals(closes: npt.NDArray[Any], last_close: float) -> dict[str, float]:
    """The signals of one symbol and date.

    Args:
        closes: (S, H) sampled closes; ``last_close``: that of the signal's date.

    Returns:
        With r[s, h] = close / last close - 1 on path s after h sessions: ``last`` the mean of r[:, H], ``median``
        its median, ``prob_up`` the share of paths with r[s, H] > 0, ``mean`` the mean of all r, ``max`` and ``min``
        the mean over paths of each path's extreme, ``mean_over_deviation`` the mean over the standard deviation of
        the paths' own mean returns (0 where all paths agree).
    """
    returns: FloatArray = np.asarray(closes, dtype=np.float64) / last_close - 1.0
    final, average = returns[:, -1], returns.mean(axis=1)
    deviation = float(average.std(ddof=1)) if len(average) > 1 else 0.0
    return {
        "last": float(final.mean()),
        "mean": float(average.mean()),
        "max": float(returns.max(axis=1).mean()),
        "min": float(returns.min(axis=1).mean()),
        "median": float(np.median(final)),
        "prob_up": float((final > 0).mean()),
        "mean_over_deviation": float(average.mean()) / deviation if deviation > 0 else 0.0,
    }


def make_signals(
    bars: pd.DataFrame,
    spans: Spans,
    plan: SignalPlan,
    sampler: PathSampler,
    folder: Path,
    *,
    elsewhere: Elsewhere | None = None,
    progress: Told | None = None,
) -> pd.DataFrame:
    """The panel of signals, made date by date; a run that was stopped goes on at the first date that is missing.

    Args:
        bars: bars table of all symbols, long enough before the first date.
        spans: who is a member when; only members with a bar on the date have a signal.
        folder: ``parts/DATE.parquet`` as they are made, ``signals.parquet`` at the end. A part counts only for the
            very bars that it was made from; where they have changed since, the date is done again.
        elsewhere: makes the dates that are missing from the same bars; None: this process does.

    Returns:
        Index (datetime, instrument), columns ``SIGNALS`` and the exposures ``volatility`` and ``market``.

    Raises:
        ConfigError: the folder holds signals of another model, of other settings or of another version of this package.
        DataError: no symbol has a context on any date, or what made signals elsewhere has other bars.
    """
    parts = folder / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    _claim(folder, _settings(plan, sampler))
    cross_sections = CrossSections(bars, spans, plan)
    made: dict[pd.Timestamp, pd.DataFrame] = {}
    for date in plan.dates:
        if (rows := _kept(_part(parts, date), cross_sections, date)) is not None:
            made[date] = rows
    missing, started = [date for date in plan.dates if date not in made], time.monotonic()
    here = ((date, signals_of_date(cross_sections.past(date), plan, sampler)) for date in missing)
    results = here if elsewhere is None or not missing else _checked(elsewhere(missing), cross_sections)
    for fresh, (date, rows) in enumerate(results, start=1):
        with whole_file(_part(parts, date)) as draft:
            rows.to_parquet(draft)
        made[date] = rows
        if progress is not None:
            left = (time.monotonic() - started) / fresh * (len(missing) - fresh)
            words = f"{date:%Y-%m-%d}, {len(rows)} symbols, {_minutes(left)} left"
            progress(len(made), len(plan.dates), words)
    panel = pd.concat([made[date] for date in plan.dates])
    panel.attrs = {}
    if panel.empty:
        raise DataError(f"no symbol has {plan.lookback + 1} bars before any of the {len(plan.dates)} signal dates")
    with whole_file(folder / PANEL) as draft:
        panel.to_parquet(draft, compression="zstd")
    return panel


def signals_of_date(past: Past, plan: SignalPlan, sampler: PathSampler) -> pd.DataFrame:
    """Signals and exposures of one date, index (datetime, instrument); from bars up to the date alone."""
    rows: dict[str, dict[str, float]] = {}
    if past.contexts:
        future = future_timestamps(past.date, plan.horizon, calendar=plan.calendar, frequency="1d")
        for symbol, closes in sampler.closes(past.contexts, future):
            rows[symbol] = path_signals(closes, float(past.contexts[symbol]["close"].iloc[-1]))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(SIGNALS), dtype=float)
    table = table.join(exposures_of(past.closes))
    names = table.index.astype(str)
    table.index = pd.MultiIndex.from_product([[past.date], names], names=["datetime", "instrument"])
    table.attrs["past"] = past.digest
    return table


@dataclass(frozen=True)
class Past:
    """What is known on a date.

    Attributes:
        contexts: the last ``lookback + 1`` bars of each member that traded on the date and has so many.
        closes: (sessions, symbols) of the last sessions up to the date, for the exposures.
        digest: of every number in it.
    """

    date: pd.Timestamp
    contexts: dict[str, pd.DataFrame]
    closes: pd.DataFrame
    digest: str


class CrossSections:
    """The past of every symbol as of any date."""

    def __init__(self, bars: pd.DataFrame, spans: Spans, plan: SignalPlan) -> None:
        self.plan = plan
        self.tables = {str(s): t.reset_index(drop=True) for s, t in bars.groupby("symbol", sort=True, observed=True)}
        self.times = {symbol: table["timestamp"].to_numpy() for symbol, table in self.tables.items()}
        self.values = {
            symbol: np.ascontiguousarray(table[list(FEATURES)].to_numpy(dtype=float))
            for symbol, table in self.tables.items()
        }
        self.closes = bars.pivot(index="timestamp", columns="symbol", values="close").sort_index()
        self.members = member_mask(spans, pd.Index(list(self.tables)), plan.dates)

    def past(self, date: pd.Timestamp) -> Past:
        """What is known at the close of a date."""
        contexts, moment, digest = {}, date.to_datetime64(), hashlib.blake2b(digest_size=12)
        on_the_date = self.members.loc[date].to_numpy()
        for symbol in self.members.columns[on_the_date]:
            stop = int(np.searchsorted(self.times[symbol], moment, side="right"))
            start = stop - self.plan.lookback - 1
            if start >= 0 and self.times[symbol][stop - 1] == moment:
                contexts[symbol] = self.tables[symbol].iloc[start:stop]
                digest.update(symbol.encode())
                digest.update(self.times[symbol][start:stop].tobytes())
                digest.update(self.values[symbol][start:stop].tobytes())
        stop = int(self.closes.index.searchsorted(date, side="right"))
        closes = self.closes.iloc[max(0, stop - _EXPOSURE_SESSIONS - 1) : stop]
        digest.update(np.ascontiguousarray(closes.to_numpy(dtype=float)).tobytes())
        return Past(date, contexts, closes, digest.hexdigest())


def exposures_of(closes: pd.DataFrame) -> pd.DataFrame:
    """By symbol: ``volatility``, the deviation of daily log returns, and ``market``, their beta to the equal-weight
    mean; NaN where fewer than 30 are known."""
    moves = pd.DataFrame(np.log(closes)).diff().iloc[1:]
    market = moves.mean(axis=1)
    centred = market - market.mean()
    beta = moves.sub(moves.mean()).mul(centred, axis=0).sum() / float((centred**2).sum())
    enough = moves.count() >= _EXPOSURE_SESSIONS // 2
    return pd.DataFrame({"volatility": moves.std(), "market": beta}).where(enough)


def _part(parts: Path, date: pd.Timestamp) -> Path:
    return parts / f"{date:%Y-%m-%d}.parquet"


def _kept(path: Path, cross_sections: CrossSections, date: pd.Timestamp) -> pd.DataFrame | None:
    """The part that an earlier run left, if it was made from the same bars."""
    if not path.exists():
        return None
    rows = pd.read_parquet(path)
    return rows if rows.attrs.get("past") == cross_sections.past(date).digest else None


def _checked(results: Iterable[Dated], cross_sections: CrossSections) -> Iterable[Dated]:
    """What was made elsewhere, of the same bars as here.

    Raises:
        DataError: of others.
    """
    for date, rows in results:
        if rows.attrs.get("past") != cross_sections.past(date).digest:
            raise DataError(
                f"a worker has other bars up to {date:%Y-%m-%d} than this process; give every node the same provider"
            )
        yield date, rows


def neutralise(panel: pd.DataFrame, signal: str, exposures: Iterable[str]) -> pd.Series:
    """A signal without what exposures explain on each date: the residual of a least-squares fit across symbols.

    Symbols without an exposure keep NaN, as do dates with fewer symbols than the fit needs.
    """
    names = list(exposures)
    out = pd.Series(np.nan, index=panel.index, name=signal + NEUTRAL)
    for _, rows in panel[[signal, *names]].dropna().groupby(level="datetime", sort=False):
        if len(rows) <= len(names) + 2:
            continue
        x = np.column_stack([np.ones(len(rows)), rows[names].to_numpy()])
        y = rows[signal].to_numpy()
        out.loc[rows.index] = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return out


def read_panel(path: str | Path) -> pd.DataFrame:
    """A panel of signals, by whatever made it: index or columns ``datetime`` and ``instrument``, numbers beside them.

    Raises:
        DataError: not such a file, or a date and instrument twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no panel of signals at {path}")
    try:
        panel = pd.read_parquet(path)
    except Exception as error:  # Arrow raises many kinds for damaged files
        raise DataError(f"{path} cannot be read as Parquet ({str(error)[:80]})") from error
    if list(panel.index.names) != ["datetime", "instrument"]:
        panel = panel.reset_index(drop=panel.index.names == [None])
        if not {"datetime", "instrument"} <= set(panel.columns):
            raise DataError(
                f"{path} has no datetime and instrument; its columns are {', '.join(map(str, panel.columns))}"
            )
        panel = panel.set_index(["datetime", "instrument"])
    if panel.index.duplicated().any():
        raise DataError(f"{path} has a signal twice for {panel.index[panel.index.duplicated()][0]}")
    return panel.sort_index()


def _settings(plan: SignalPlan, sampler: PathSampler) -> dict[str, Any]:
    return {
        "lookback": plan.lookback,
        "horizon": plan.horizon,
        "calendar": plan.calendar,
        "sampler": sampler.fingerprint,
        "version": version("kronos-kline"),
    }


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix signals of different settings in one folder."""
    path = folder / _SETTINGS
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name in settings if before.get(name) != settings[name]]:
            raise ConfigError(
                f"{folder} holds signals of another run (it differs in {', '.join(differing)}); "
                "remove the folder, name another one with out, or take its panel as it is (kronos backtest --signals)"
            )
        return
    with whole_file(path) as draft:
        draft.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def signal_dates(sessions: pd.DatetimeIndex, every: int) -> pd.DatetimeIndex:
    """Every so many sessions, from the first."""
    return sessions[::every]
