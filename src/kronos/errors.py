"""Every error that the library raises on purpose, and its one warning.

Messages are one or two lines: what was found, where, and what to do. The built-in bases are there for the ``except``
clauses of other people's scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


class KronosError(Exception):
    """Base class: catching it catches everything the library raises on purpose."""


class DataError(KronosError, ValueError):
    """A table that cannot be read as bars."""


class CalendarError(KronosError):
    """An unknown exchange, or a date that its calendar does not reach."""


class CheckpointError(KronosError, OSError):
    """A checkpoint that is missing, damaged, or shaped differently from its config."""


class ConfigError(KronosError, ValueError):
    """A setting outside its range, or settings that contradict each other."""


class CapacityError(KronosError):
    """A request larger than the machine, or than a limit that was set."""


class Cancelled(KronosError):
    """The caller's cancel hook asked to stop; nothing was written."""


class FewPathsWarning(UserWarning):
    """A chance, a quantile or a risk was asked of a forecast whose distinct paths are too few to tell."""


class MissingExtraError(KronosError):
    """An optional package is not installed.

    Args:
        package: the distribution that could not be imported.
        extra: the extra of this package that brings it.
        purpose: what it was needed for, as the beginning of a sentence.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install {_requirements(extra) or package}"
        )
        self._given = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        """Comes back whole from another process."""
        return type(self), self._given


def _requirements(extra: str) -> str:
    """What an extra installs, as pip takes it anywhere: this package itself need not be on an index."""
    from importlib.metadata import PackageNotFoundError, requires  # 40 ms that only this message is worth

    try:
        lines = requires("kronos-kline") or []
    except PackageNotFoundError:  # run from its source folder
        return ""
    parts = (line.partition(";") for line in lines)
    return " ".join(
        f"'{name.strip()}'" for name, _, marker in parts if re.search(rf"extra == ['\"]{extra}['\"]", marker)
    )


def some_of(names: Sequence[object], most: int = 6) -> str:
    """The first few of many names, for a message that lists what there is."""
    return ", ".join(map(str, names[:most])) + (" …" if len(names) > most else "")


def settings_in_words(faults: Sequence[Mapping[str, Any]], whole: str, most: int = 3, *, repeat: bool = True) -> str:
    """What is wrong with settings, in our words: each one's name, what it is and what it must be.

    Args:
        faults: as pydantic lists them (``error.errors()``).
        whole: what to call a fault of no single setting.
        most: of them that are told.
        repeat: whether to say what was given.
    """
    return "; ".join(_fault_in_words(fault, whole, repeat) for fault in faults[:most])


def _fault_in_words(fault: Mapping[str, Any], whole: str, repeat: bool) -> str:
    name, kind = ".".join(map(str, fault["loc"])) or whole, fault["type"]
    must = f"{name} is {fault.get('input')!r}; it must be" if repeat else f"{name} must be"
    limits = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    signs = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}
    kinds |= {"list": "a list", "tuple": "a list", "dict": "a section of settings", "model": "a section of settings"}
    if kind == "extra_forbidden":
        return f"there is no setting {name}"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":
        return f"{name}: {str(fault['msg']).removeprefix('Value error, ')}"
    if kind in limits:
        key = limits[kind]
        return f"{must} {signs[key]} {fault['ctx'][key]}"
    if kind == "literal_error":
        return f"{must} {fault['ctx']['expected']}"
    of_type = kind.endswith(("_type", "_parsing", "_from_float"))  # not text too long, or a list too short
    wanted = kinds.get(kind.partition("_")[0]) if of_type else None
    return f"{must} {wanted}" if wanted else f"{name}: {fault['msg']}"
