"""Signals from sample paths, in return space: for each symbol and date what the paths say about the sessions to come.

The published signal was the difference of two z-scored prices, which ranks symbols by their volatility. Here every
path becomes returns on the last close first.

The signal of date t sees bars up to t alone. Each date is a batch of its own, so that not even rounding can carry
anything back from later bars: what is computed together has the same date.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtesting.config import SIGNALS
from kronos.backtesting.provider import Spans, member_mask
from kronos.bars.calendar import future_timestamps
from kronos.errors import ConfigError, DataError
from kronos.files import digest, replacing, write_json
from kronos.protocol import CLOSE, FEATURES, Context, Forecaster, Progress, check_paths
from kronos.spec import ForecastSpec

FloatArray = npt.NDArray[np.float64]
EXPOSURES: Final = ("volatility", "market")
NEUTRAL: Final = "_neutral"
"""Ending of a signal without what exposures explain."""

_EXPOSURE_SESSIONS = 60  # trailing returns that volatility and beta are measured on

Dated = tuple[pd.Timestamp, pd.DataFrame]
Remote = Callable[[Sequence[pd.Timestamp]], Iterable[Dated]]
"""Makes the signals of dates as ``DateSignals`` does, in other processes and in any order."""


def path_signals(closes: npt.NDArray[Any], last_close: float) -> dict[str, float]:
    """The signals of one symbol and date.

    Args:
        closes: (S, H) sampled closes.
        last_close: the close of the signal's date.

    Returns:
        With r[s, h] = close / last close - 1 on path s after h sessions: ``last`` the mean of r[:, H], ``median``
        its median, ``prob_up`` the share of paths with r[s, H] > 0, ``mean`` the mean of all r, ``max`` and ``min``
        the mean over paths of each path's extreme, ``mean_over_deviation`` the mean over the standard deviation of
        the paths' mean returns (0 where all paths agree).
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


class DateSignals:
    """Makes the signals of any date, from bars up to that date alone.

    Args:
        bars: bars table of all symbols, long enough before the first date.
        spans: who is a member when; only members with a bar on the date have a signal.
        dates: the signal dates, sessions in order.
        spec: what is asked on each of them: ``horizon`` sessions ahead, named by ``calendar``, from
            ``context_length`` bars; one more is handed over, since some models read returns.
    """

    def __init__(
        self, bars: pd.DataFrame, spans: Spans, dates: pd.DatetimeIndex, spec: ForecastSpec, forecaster: Forecaster
    ) -> None:
        self.spec, self.forecaster, self.length = spec, forecaster, (spec.context_length or 0) + 1
        tables = {str(symbol): table for symbol, table in bars.groupby("symbol", sort=True, observed=True)}
        self.times = {symbol: table["timestamp"].to_numpy() for symbol, table in tables.items()}
        self.values = {symbol: table[list(FEATURES)].to_numpy(dtype=float) for symbol, table in tables.items()}
        self.closes = bars.pivot(index="timestamp", columns="symbol", values="close").sort_index()
        self.members = member_mask(spans, pd.Index(list(tables)), dates)

    def __call__(self, date: pd.Timestamp) -> Dated:
        """Signals and exposures of one date, index (datetime, instrument)."""
        known, spec = self._contexts(date), self.spec
        rows: dict[str, dict[str, float]] = {}
        if known:
            future = future_timestamps(date, spec.horizon, calendar=spec.calendar, frequency="1d").to_numpy()
            contexts = [Context(symbol, *context, future) for symbol, context in known.items()]
            sampled = self.forecaster.sample_paths(contexts, spec)
            paths = check_paths(sampled, contexts, spec.horizon, self.forecaster.name)
            rows = {
                one.symbol: path_signals(p[..., CLOSE], one.last_close) for one, p in zip(contexts, paths, strict=True)
            }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=list(SIGNALS), dtype=float)
        table = table.join(exposures_of(self._recent_closes(date)))
        names = ["datetime", "instrument"]
        table.index = pd.MultiIndex.from_product([[date], table.index.astype(str)], names=names)
        table.attrs["past"] = self.past_digest(date)
        return date, table

    def past_digest(self, date: pd.Timestamp) -> str:
        """Of every number that the signals of a date depend on; signals keep that of the bars they were made from."""
        parts = [part for symbol, context in self._contexts(date).items() for part in (symbol, *context)]
        return digest(*parts, self._recent_closes(date).to_numpy(dtype=float), size=12)

    def _contexts(self, date: pd.Timestamp) -> dict[str, tuple[npt.NDArray[np.datetime64], FloatArray]]:
        """(timestamps, values) of the last bars of each member that traded on the date and has this many."""
        contexts, moment = {}, date.to_datetime64()
        for symbol in self.members.columns[self.members.loc[date].to_numpy()]:
            stop = int(np.searchsorted(self.times[symbol], moment, side="right"))
            start = stop - self.length
            if start >= 0 and self.times[symbol][stop - 1] == moment:
                contexts[symbol] = (self.times[symbol][start:stop], self.values[symbol][start:stop])
        return contexts

    def _recent_closes(self, date: pd.Timestamp) -> pd.DataFrame:
        """(sessions, symbols) of the last sessions up to the date, for the exposures."""
        stop = int(self.closes.index.searchsorted(date, side="right"))
        return self.closes.iloc[max(0, stop - _EXPOSURE_SESSIONS - 1) : stop]


def make_signals(
    bars: pd.DataFrame,
    spans: Spans,
    dates: pd.DatetimeIndex,
    spec: ForecastSpec,
    forecaster: Forecaster,
    folder: Path,
    *,
    remote: Remote | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The panel of signals, made date by date; a run that was stopped goes on at the first date that is missing.

    Args:
        bars, spans, dates, spec, forecaster: see :class:`DateSignals`.
        folder: ``parts/DATE.parquet`` as they are made, ``signals.parquet`` at the end. A part counts only for the
            very bars that it was made from; where they have changed since, the date is done again.
        remote: makes the dates that are missing from the same bars; None: this process does.
        progress: told the dates done, and how long the rest will take.

    Returns:
        Index (datetime, instrument), columns ``SIGNALS`` and the exposures ``volatility`` and ``market``.

    Raises:
        ConfigError: the folder holds signals of another model, of other settings or of another version of this package.
        DataError: no symbol has a context on any date, or a remote worker has other bars.
    """
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _claim(folder, spec, forecaster)
    source = DateSignals(bars, spans, dates, spec, forecaster)
    files = {date: folder / "parts" / f"{date:%Y-%m-%d}.parquet" for date in dates}
    found = {date: pd.read_parquet(file) for date, file in files.items() if file.exists()}
    made = {date: rows for date, rows in found.items() if rows.attrs.get("past") == source.past_digest(date)}
    missing, started = [date for date in dates if date not in made], time.monotonic()
    results = map(source, missing) if remote is None or not missing else remote(missing)
    for fresh, (date, rows) in enumerate(results, start=1):
        if rows.attrs.get("past") != source.past_digest(date):
            raise DataError(
                f"a worker has other bars up to {date:%Y-%m-%d} than this process; give every node the same provider"
            )
        with replacing(files[date]) as part:
            rows.to_parquet(part)
        made[date] = rows
        if progress is not None:
            left = (time.monotonic() - started) / fresh * (len(missing) - fresh)
            words = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
            progress(len(made), len(dates), f"{date:%Y-%m-%d}, {len(rows)} symbols, {words} left")
    panel = pd.concat([made[date] for date in dates])
    panel.attrs = {}
    if panel.empty:
        raise DataError(f"no symbol has {source.length} bars before any of the {len(dates)} signal dates")
    with replacing(folder / "signals.parquet") as part:
        panel.to_parquet(part, compression="zstd")
    return panel


def _claim(folder: Path, spec: ForecastSpec, forecaster: Forecaster) -> None:
    """Refuse to mix signals of different settings in one folder."""
    sampling = spec.to_dict()
    settings = {
        "lookback": sampling.pop("context_length"),
        "horizon": sampling.pop("horizon"),
        "calendar": sampling.pop("calendar"),
        "sampler": f"{getattr(forecaster, 'fingerprint', forecaster.name)}|{sorted(sampling.items())}",
        "version": version("kronos-kline"),
    }
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, settings, indent=1)
    before = json.loads(path.read_text(encoding="utf-8"))
    if differing := [name for name in settings if before.get(name) != settings[name]]:
        raise ConfigError(
            f"{folder} holds signals of another run (it differs in {', '.join(differing)}); "
            "remove the folder, name another one with out, or take its panel as it is (kronos backtest --signals)"
        )


def exposures_of(closes: pd.DataFrame) -> pd.DataFrame:
    """By symbol: ``volatility``, the deviation of daily log returns, and ``market``, their beta to the equal-weight
    mean; NaN where fewer than 30 are known."""
    moves = pd.DataFrame(np.log(closes)).diff().iloc[1:]
    market = moves.mean(axis=1)
    centred = market - market.mean()
    beta = moves.sub(moves.mean()).mul(centred, axis=0).sum() / float((centred**2).sum())
    enough = moves.count() >= _EXPOSURE_SESSIONS // 2
    return pd.DataFrame({"volatility": moves.std(), "market": beta}).where(enough)


def neutralise(panel: pd.DataFrame, signal: str, exposures: Iterable[str]) -> pd.Series:
    """A signal without what exposures explain on each date: the residual of a least-squares fit across symbols; NaN
    for symbols without an exposure, and on dates with fewer symbols than the fit needs."""
    names = list(exposures)
    out = pd.Series(np.nan, index=panel.index, name=signal + NEUTRAL)
    for _, rows in panel[[signal, *names]].dropna().groupby(level="datetime", sort=False):
        x, y = np.column_stack([np.ones(len(rows)), rows[names].to_numpy()]), rows[signal].to_numpy()
        if len(rows) > len(names) + 2:
            out.loc[rows.index] = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return out


def random_signal(index: pd.Index, seed: int) -> pd.Series:
    """Independent normal numbers for each (datetime, instrument)."""
    return pd.Series(np.random.default_rng(seed).standard_normal(len(index)), index=index)


def momentum_signal(index: pd.Index, closes: pd.DataFrame, lookback: int) -> pd.Series:
    """The return over the last ``lookback`` sessions of each (datetime, instrument); ``closes``: (sessions,
    instruments), where suspended days take the last known close."""
    known = closes.ffill()
    past = known / known.shift(lookback) - 1.0
    past.index.name, past.columns.name = "datetime", "instrument"
    return pd.Series(past.stack()).reindex(index)


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
