"""Until when a forecaster was trained on bars like these: by what they are, not by what their file is called."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from kronos.bars.calendar import infer_calendar
from kronos.errors import ConfigError, DataError
from kronos.evaluation.windows import Series, Window
from kronos.protocol import Forecaster

#: Calendar that bars follow → beginnings of the groups of training bars that share its moves, of any bar size.
MARKETS: Final[dict[str, tuple[str, ...]]] = {
    "24/7": ("crypto",),
    "FX": ("fx", "metal"),
    "XNYS": ("us",),
    "XSHG": ("cn",),
}
METALS: Final = re.compile(r"X(AU|AG|PT|PD)[A-Z]{3}")
SYMBOLS: Final = 5  # that are looked at; more of one market say nothing new


class LeakWarning(UserWarning):
    """A test date lies before the end of a forecaster's training: its scores may be remembered, not forecast."""


def market_of(series: Iterable[Series]) -> str | None:
    """The market that bars are of, such as ``crypto`` or ``us``, by their times and symbols; None: it cannot be told.

    Several series must agree.
    """
    found = set()
    for one in list(series)[:SYMBOLS]:
        calendar = infer_calendar(one.local(), symbol=one.symbol)
        names = MARKETS.get(calendar or "")
        found.add("metal" if METALS.fullmatch(one.symbol.upper()) else names[0] if names else None)
    return found.pop() if len(found) == 1 else None


def training_end(forecaster: Forecaster, market: str | None) -> np.datetime64[Any] | None:
    """The last date of what a forecaster was trained on, as far as a market is concerned; None: it states none.

    Where ``training_cutoffs`` gives dates by group, those of the market count whatever their bar size (``crypto``:
    ``crypto_1h`` and ``crypto_15m``, which share their moves), and those of groups that name no market: what the
    weights started from, and bars known by their size alone (``1d``), which may be of any. A market that is not known,
    or not among the groups, gets ``training_cutoff``, the latest of all.
    """
    by_group = getattr(forecaster, "training_cutoffs", None) or {}
    same = [date for group, date in by_group.items() if market is not None and _is_of(group, market)]
    if same:
        return np.datetime64(max([*same, *(date for group, date in by_group.items() if "_" not in group)]))
    end = getattr(forecaster, "training_cutoff", None)
    return None if end is None else np.datetime64(end)


def _is_of(group: str, market: str) -> bool:
    """Whether a group of training bars shares the moves of a market."""
    kin = next((names for names in MARKETS.values() if market == names[0]), (market,))
    return any(f"{group}_".startswith(f"{name}_") and "_" in group for name in kin)


def check_market(forecasters: Sequence[Forecaster], market: str) -> None:
    """ConfigError: no forecaster states that it was trained on a market of that name; says which there are."""
    groups = {group for one in forecasters for group in getattr(one, "training_cutoffs", None) or {} if "_" in group}
    if not groups:
        raise ConfigError(
            f"--market {market} tells a model's end of training, and no --model here states one by market: name such a "
            "model, or leave --market out"
        )
    if not any(_is_of(group, market) for group in groups):
        known = ", ".join(sorted({group.rpartition("_")[0] for group in groups}))
        raise ConfigError(f"--market {market}: no model states an end of training for it; known are {known}")


def ends_of_training(
    forecasters: Sequence[Forecaster], markets: Mapping[str, Mapping[str, Series]], given: str | None = None
) -> dict[str, np.datetime64[Any]]:
    """For each market of bars the date after which every model's training had ended.

    ``given``: the market that all bars are of; None: as :func:`market_of` tells.

    Raises:
        ConfigError: no model states an end. DataError: bars end before it; the message says what to do.
    """
    found: dict[str, np.datetime64[Any]] = {}
    for name, series in markets.items():
        kind = given or market_of(series.values())
        ends = [(end, one) for one in forecasters if (end := training_end(one, kind)) is not None]
        if not ends:
            raise ConfigError("--after training: no model states until when it was trained; give a date instead")
        end, model = max(ends, key=lambda pair: pair[0])
        last = max(one.timestamps[-1] for one in series.values() if len(one.timestamps))
        if last <= end:
            raise DataError(_too_old(name, last, end, model, kind))
        found[name] = end
    return found


def _too_old(name: str, last: Any, end: Any, model: Forecaster, kind: str | None) -> str:
    days = [np.datetime_as_string(np.datetime64(time), unit="D") for time in (last, end)]
    words = f"market {name!r}: the bars end on {days[0]}, before the training of {model.name} ended ({days[1]}"
    if kind is not None:
        return f"{words}, for bars of the market {kind!r}), so all of them may be remembered: give later bars"
    names = sorted({g.rpartition("_")[0] for g in getattr(model, "training_cutoffs", None) or {} if "_" in g})
    words += "; what market the bars are of cannot be told from them, so the latest date counts): give later bars"
    return f"{words}, or say the market with --market, one of {', '.join(names)}" if names else words


def warn_of_leaks(forecasters: Sequence[Forecaster], windows: Sequence[Window], given: str | None = None) -> list[str]:
    """One sentence, and a :class:`LeakWarning`, for each forecaster whose training reaches into the test dates.

    A forecaster states the end of its training in an attribute ``training_cutoff`` (datetime64), and by market in
    ``training_cutoffs``. One whose attribute is None was trained, but says not until when: that is noted too. One
    without the attribute makes no claim and gets no warning. ``given``: the market of all windows.
    """
    notes: list[str] = []
    trained = [one for one in forecasters if windows and hasattr(one, "training_cutoff")]
    kinds = dict.fromkeys({w.group for w in windows}, given)
    if given is None and any(getattr(one, "training_cutoffs", None) for one in trained):
        kinds = {group: market_of(_series(windows, group)) for group in kinds}
    for forecaster in trained:
        ends = {group: training_end(forecaster, kind) for group, kind in kinds.items()}
        first_dates = [(ends[w.group], w.context.future_timestamps[0], w.group) for w in windows]
        early = [(end, group) for end, first, group in first_dates if end is not None and first <= end]
        if early:
            last = np.datetime_as_string(max(end for end, _ in early), unit="D")
            where = ", ".join(sorted({group for _, group in early} - {""}))
            notes.append(
                f"{forecaster.name} was trained on bars up to {last}: {len(early)} of {len(windows)} test windows "
                f"begin before{f' ({where})' if where else ''}; their scores may be memory, not skill"
            )
        elif all(end is None for end in ends.values()):
            notes.append(
                f"{forecaster.name} does not state until when it was trained: nobody can say which of the test windows "
                "it has seen"
            )
        else:
            continue
        warnings.warn(notes[-1], LeakWarning, stacklevel=2)
    return notes


def _series(windows: Sequence[Window], group: str) -> list[Series]:
    """Of some symbols of a group: all the times that its windows know."""
    contexts: dict[str, list[Any]] = {}
    for window in windows:
        if window.group == group and (window.context.symbol in contexts or len(contexts) < SYMBOLS):
            contexts.setdefault(window.context.symbol, []).append(window.context)
    found = []
    for symbol, some in contexts.items():
        times = np.unique(np.concatenate([part for c in some for part in (c.timestamps, c.future_timestamps)]))
        found.append(Series(symbol, times, np.empty((0, 6)), some[0].zone))
    return found
