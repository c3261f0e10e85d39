"""Bars written in Qlib's binary format.

    provider/calendars/day.txt               every session, one a line
    provider/instruments/all.txt             name, first and last session; other sets beside it
    provider/features/aapl/close.day.bin     float32: the first session's index, then a value a session

Prices are stored adjusted, as Qlib expects them: stored price = raw price × factor, stored volume = raw volume /
factor. Sessions without a bar inside a symbol's listing are NaN, which Qlib takes for a suspended day.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.backtesting.provider import load_qlib
from kronos.bars.schema import PRICES
from kronos.errors import ConfigError, DataError
from kronos.files import write_text

FloatArray = npt.NDArray[np.float64]

FIELDS: Final = ("open", "high", "low", "close", "volume", "amount", "vwap", "factor", "change")
"""What is written for each instrument."""

_UNREADABLE: Final = {"NA", "N/A", "NAN", "NULL", "NONE", "#N/A", "<NA>"}  # pandas reads these as missing
_SAFE: Final = " #^.-_=+@$&()[]{}!~,;"


@dataclass(frozen=True)
class Exported:
    """What was written to ``folder``: how much of what, from ``first`` to ``last``."""

    folder: Path
    instruments: int
    sessions: int
    bars: int
    first: pd.Timestamp
    last: pd.Timestamp
    suspended: int  # sessions inside a listing without a bar
    sets: dict[str, int]  # instrument sets by size
    renamed: dict[str, str]  # symbols that Qlib cannot hold → the names they have there


def write_provider(
    bars: pd.DataFrame,
    folder: Path,
    *,
    sets: Mapping[str, Iterable[str] | Path] | None = None,
    factors: pd.DataFrame | Path | None = None,
    adjusted: bool = False,
) -> Exported:
    """Writes daily bars of many symbols as a new provider.

    Args:
        bars: a bars table with a symbol column; timestamps without a zone, one bar a symbol and day.
        folder: does not exist yet, or is empty.
        sets: instrument sets beside ``all``: symbols, or a file with one a line (what follows a tab is passed over).
        factors: ``symbol, timestamp, factor``, as a table, CSV or Parquet: from each time on the factor holds, before
            the first the first one. None: 1 everywhere.
        adjusted: whether the bars' prices are already multiplied by the factor.

    Raises:
        DataError: bars that are not daily, have a zone or no symbols; symbols that differ in case alone.
        ConfigError: the folder is in use, or a set names a symbol without bars.
    """
    load_qlib()
    from qlib.utils import code_to_fname

    calendar = pd.DatetimeIndex(np.unique(_days(bars)))
    groups = {str(name): rows for name, rows in bars.groupby("symbol", sort=True, observed=True)}
    names, by_symbol = instrument_names(groups), _factor_series(factors)
    members = {name.lower(): _members(name, given, groups) for name, given in {"all": groups, **(sets or {})}.items()}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is in use; remove it, or name another folder for the provider")
    for part in ("features", "instruments", "calendars"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    listings, suspended = {}, 0
    for symbol, rows in groups.items():
        where = calendar.get_indexer(pd.DatetimeIndex(rows["timestamp"]).normalize())
        start, stop = int(where[0]), int(where[-1]) + 1
        suspended += stop - start - len(rows)
        home = folder / "features" / code_to_fname(names[symbol]).lower()
        _write_fields(home, where, rows, by_symbol.get(symbol), adjusted)
        listings[symbol] = f"{names[symbol]}\t{calendar[start]:%Y-%m-%d}\t{calendar[stop - 1]:%Y-%m-%d}\n"
    for name, symbols in members.items():
        write_text(folder / "instruments" / f"{name}.txt", "".join(listings[symbol] for symbol in symbols))
    # the calendar comes last: without it a folder is no provider, so a half-written one is not taken for one
    write_text(folder / "calendars" / "day.txt", "".join(f"{day:%Y-%m-%d}\n" for day in calendar))
    return Exported(
        folder=folder,
        instruments=len(groups),
        sessions=len(calendar),
        bars=len(bars),
        first=calendar[0],
        last=calendar[-1],
        suspended=suspended,
        sets={name: len(symbols) for name, symbols in members.items()},
        renamed={symbol: name for symbol, name in names.items() if name != symbol},
    )


def _members(name: str, given: Iterable[str] | Path, known: Container[str]) -> list[str]:
    """The symbols of a set, all of which must have bars."""
    if isinstance(given, Path):
        lines = given.read_text(encoding="utf-8").splitlines()
        given = [line.split("\t")[0].strip() for line in lines if line.strip()]
    symbols = sorted(set(map(str, given)))
    if unknown := [symbol for symbol in symbols if symbol not in known]:
        raise ConfigError(
            f"the set '{name.lower()}' names {len(unknown)} symbols without bars, the first '{unknown[0]}'; "
            "leave them out or export their bars too"
        )
    return symbols


def instrument_names(symbols: Iterable[str]) -> dict[str, str]:
    """Symbol → its name in Qlib: the same, but for characters that no folder can have and names read as missing.

    Raises:
        DataError: two names that Qlib, which ignores case, cannot tell apart.
    """
    names: dict[str, str] = {}
    seen: dict[str, str] = {}
    for symbol in symbols:
        name = quote(symbol, safe=_SAFE)
        if symbol.upper() in _UNREADABLE:
            name = "".join(f"%{ord(letter):02X}" for letter in symbol)
        if (other := seen.setdefault(name.lower(), symbol)) != symbol:
            raise DataError(f"Qlib cannot tell '{other}' from '{symbol}', since it ignores case; rename one")
        names[symbol] = name
    return names


def _factor_series(factors: pd.DataFrame | Path | None) -> dict[str, pd.Series]:
    """Symbol → its factors by time."""
    if factors is None:
        return {}
    if isinstance(factors, Path):
        parquet = factors.suffix == ".parquet"
        try:
            table = pd.read_parquet(factors) if parquet else pd.read_csv(factors, dtype={"symbol": str})
            factors = table.assign(timestamp=pd.to_datetime(table["timestamp"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{factors} cannot be read as factors (symbol, timestamp, factor): {error}") from error
    if missing := {"symbol", "timestamp", "factor"} - set(factors.columns):
        raise DataError(f"the factors have no column {', '.join(sorted(missing))}; they need symbol, timestamp, factor")
    table = factors.set_index(pd.DatetimeIndex(factors["timestamp"])).astype({"symbol": str, "factor": float})
    if wrong := int((~np.isfinite(table["factor"]) | (table["factor"] <= 0)).sum()):
        raise DataError(f"{wrong} factors are not positive numbers")
    return {str(name): part["factor"] for name, part in table.sort_index(kind="stable").groupby("symbol")}


def _days(bars: pd.DataFrame) -> pd.DatetimeIndex:
    if "symbol" not in bars.columns:
        raise DataError("the bars name no symbol; a provider holds instruments by name (--symbol for a single series)")
    times = pd.DatetimeIndex(bars["timestamp"])
    if times.tz is not None:
        raise DataError(f"the bars' times are in the zone {times.tz}; a daily bar of Qlib is named by its plain date")
    days = times.normalize()
    twice = pd.DataFrame({"symbol": bars["symbol"].to_numpy(), "day": days}).duplicated()
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise DataError(
            f"{bars['symbol'].iloc[row]} has several bars on {days[row].date()}; only daily bars can be exported. "
            "Make them with: kronos bars resample --to 1d"
        )
    return days


def _write_fields(
    home: Path, where: npt.NDArray[Any], rows: pd.DataFrame, factors: pd.Series | None, adjusted: bool
) -> None:
    """The nine fields of one symbol, a file each; ``where``: the places of its bars in the calendar."""
    factor = np.ones(len(rows))
    if factors is not None:
        place = np.searchsorted(factors.index.to_numpy(), rows["timestamp"].to_numpy(), side="right") - 1
        factor = factors.to_numpy()[np.maximum(place, 0)]
    values = {name: rows[name].to_numpy(dtype=float) for name in (*PRICES, "volume", "amount")}
    if not adjusted:
        values |= {name: values[name] * factor for name in PRICES} | {"volume": values["volume"] / factor}
    with np.errstate(divide="ignore", invalid="ignore"):
        values["vwap"] = np.where(values["volume"] > 0, values["amount"] / values["volume"], np.nan)
        values["change"] = np.concatenate([[np.nan], values["close"][1:] / values["close"][:-1] - 1])
    home.mkdir()
    for name, field in {**values, "factor": factor}.items():
        dense = np.full(where[-1] - where[0] + 2, np.nan, dtype="<f4")
        dense[0] = where[0]
        dense[1 + where - where[0]] = field
        dense.tofile(home / f"{name}.day.bin")
