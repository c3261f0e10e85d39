"""Bars, calendars and instrument sets read from any provider in Qlib's format, through Qlib's data layer.

``qlib.init`` would also start Qlib's experiment manager (which writes to the working directory), replace the
interpreter's exception hook and use as many processes as there are cores. Here the data layer alone is set up, quiet
and in this process, and it can be pointed at another provider at any time.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from kronos.bars.reading import read_bars
from kronos.bars.report import OnDefect
from kronos.bars.schema import FEATURES, PRICES
from kronos.errors import ConfigError, DataError, MissingExtraError

Day = pd.Timestamp | date

Spans = Mapping[str, Sequence[tuple[pd.Timestamp, pd.Timestamp]]]
"""Instrument → the periods, ends included, in which it is a member."""


def load_qlib() -> Any:
    """Qlib's global configuration, imported when it is first needed.

    Raises:
        MissingExtraError: Qlib is not installed.
    """
    try:
        from qlib.config import C
    except ImportError as error:
        raise MissingExtraError("pyqlib", "qlib", "Qlib's data format and backtest") from error
    return C


def use_provider(folder: Path) -> Any:
    """Qlib's data interface ``D``, reading from ``folder``.

    Raises:
        MissingExtraError: Qlib is not installed.
    """
    config = load_qlib()
    with contextlib.redirect_stderr(io.StringIO()):  # one of the packages that Qlib imports prints a greeting
        import qlib.backtest
        import qlib.contrib.strategy  # noqa: F401
    from qlib.data import D
    from qlib.data.cache import H
    from qlib.data.data import register_all_wrappers
    from qlib.data.ops import register_all_ops
    from qlib.log import get_module_logger

    H.clear()
    config.set(
        "client",
        provider_uri=str(folder.resolve()),
        region="us",  # without limits and lots; a backtest names its own
        kernels=1,
        logging_level=logging.CRITICAL,
        logging_config={},
    )
    get_module_logger.setLevel(logging.CRITICAL)  # of the loggers made before
    register_all_ops(config)
    register_all_wrappers(config)
    config._registered = True  # or the first read would start the experiment manager after all
    return D


class Provider:
    """A folder in Qlib's format.

    Args:
        folder: with ``calendars/day.txt``, ``instruments/`` and ``features/``.

    Raises:
        DataError: it is none.
        MissingExtraError: Qlib is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DataError(
                f"there is no Qlib provider at {self.folder}; write one with: kronos qlib export BARS --out {folder}"
            )
        parts = ("calendars/day.txt", "instruments", "features")
        if missing := [name for name in parts if not (self.folder / name).exists()]:
            raise DataError(f"{self.folder} is no Qlib provider of daily bars: it has no {', '.join(missing)}")

    def calendar(self) -> pd.DatetimeIndex:
        """Every session, in order."""
        path = self.folder / "calendars/day.txt"
        try:
            days = pd.DatetimeIndex(pd.to_datetime(path.read_text(encoding="utf-8").split()))
        except ValueError as error:
            raise DataError(f"{path} holds something that is no date") from error
        if not len(days) or not days.is_monotonic_increasing:
            raise DataError(f"{path} is empty, or its dates do not ascend")
        return days

    def sessions(self, start: Day, end: Day, what: str = "the dates") -> pd.DatetimeIndex:
        """The sessions from ``start`` to ``end``.

        Raises:
            ConfigError: the calendar does not reach that far.
        """
        days = self.calendar()
        first, last = pd.Timestamp(start), pd.Timestamp(end)
        week = pd.Timedelta(days=14)  # a range may begin or end on days without a session
        if first < days[0] - week or last > days[-1] + week or first > days[-1]:
            raise ConfigError(
                f"{what} {first.date()} … {last.date()} lie outside the provider's calendar, "
                f"{days[0].date()} … {days[-1].date()} ({self.folder})"
            )
        return days[(days >= first) & (days <= last)]

    def sets(self) -> list[str]:
        """Names of the instrument sets."""
        return sorted(path.stem for path in (self.folder / "instruments").glob("*.txt"))

    def members(self, instrument: str | Sequence[str]) -> Spans:
        """The periods in which each instrument belongs to a set, or to a list of symbols.

        Raises:
            ConfigError: there is no such set or symbol.
        """
        chosen = instrument.lower() if isinstance(instrument, str) else "all"
        if chosen not in self.sets():
            raise ConfigError(
                f"the provider {self.folder} has no instrument set '{chosen}' but {', '.join(self.sets())}; "
                "write one as a line a symbol (name, first and last date, by tabs) into its folder instruments/"
            )
        data = use_provider(self.folder)
        found = data.list_instruments(data.instruments(chosen), as_list=False)
        listed = {str(symbol): [(pd.Timestamp(a), pd.Timestamp(b)) for a, b in when] for symbol, when in found.items()}
        names = list(listed) if isinstance(instrument, str) else instrument
        if unknown := [symbol for symbol in names if symbol not in listed]:
            raise ConfigError(
                f"the provider {self.folder} has no instrument '{unknown[0]}' ({len(unknown)} are unknown)"
            )
        return {symbol: listed[symbol] for symbol in names}

    def lacks(self, names: Iterable[str]) -> list[str]:
        """Those of the names that have no bars here; an index may have bars and stand in no set."""
        from qlib.utils import code_to_fname

        return [name for name in names if not (self.folder / "features" / code_to_fname(name).lower()).is_dir()]

    def features(
        self, instruments: Sequence[str], fields: Sequence[str], start: Day | None = None, end: Day | None = None
    ) -> pd.DataFrame:
        """Fields by (instrument, datetime), float32, as Qlib reads them; NaN on suspended days."""
        since, until = (None if day is None else pd.Timestamp(day) for day in (start, end))
        named = [f"${name}" for name in fields]
        table: pd.DataFrame = use_provider(self.folder).features(list(instruments), named, since, until)
        return table.set_axis(list(fields), axis=1)

    def table(self, names: Sequence[str], start: Day, end: Day, field: str = "close") -> pd.DataFrame:
        """(sessions, instruments) of one field, float64; NaN on suspended days."""
        table = self.features(names, [field], start, end)[field].unstack(level="instrument")
        return table.reindex(columns=list(names)).sort_index().astype(float)

    def bars(
        self,
        instrument: str | Sequence[str],
        start: Day | None = None,
        end: Day | None = None,
        *,
        prices: Literal["adjusted", "raw"] = "adjusted",
        on_defect: OnDefect = "strict",
    ) -> pd.DataFrame:
        """Bars of a set, or of symbols, as a bars table; suspended days have none.

        All bars of every instrument that is ever a member are returned, also those outside its membership: a context
        may reach back to before it.

        Args:
            prices: as stored, or divided by the factor (and the volume multiplied).
            on_defect: what to do with days of which a price is missing or impossible.

        Raises:
            DataError: defective days, or no bars at all.
            ConfigError: there is no such set or symbol.
        """
        fields = [*FEATURES, "factor"] if prices == "raw" else list(FEATURES)
        found = self.features(list(self.members(instrument)), fields, start, end)
        table = found.dropna(subset=list(PRICES), how="all").reset_index()  # no price at all: suspended, no defect
        if table.empty:
            raise DataError(f"the provider {self.folder} has no bars of '{instrument}' from {start} to {end}")
        table = table.rename(columns={"datetime": "timestamp", "instrument": "symbol"}).astype({"symbol": str})
        if prices == "raw":
            factor = table.pop("factor").fillna(1.0)
            table[list(PRICES)] = table[list(PRICES)].div(factor, axis=0)
            table["volume"] = table["volume"] * factor
        return read_bars(table, on_defect=on_defect)


def member_mask(spans: Spans, symbols: pd.Index, days: pd.DatetimeIndex) -> pd.DataFrame:
    """(days, symbols) booleans: who is a member when."""
    mask = pd.DataFrame(False, index=days, columns=symbols)
    for symbol in symbols:
        for first, last in spans.get(symbol, ()):
            mask.loc[(days >= first) & (days <= last), symbol] = True
    return mask
