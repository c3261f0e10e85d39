"""Every error that the library raises on purpose.

Messages are one or two lines: what was found, where, and what to do. The built-in bases are there for the ``except``
clauses of other people's scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


def in_words(fault: Mapping[str, Any], *, repeat: bool = True) -> str:
    """What is wrong with a value that pydantic refuses, as people say it, without a full stop.

    Args:
        fault: one of ``ValidationError.errors()``.
        repeat: whether to say the value that was found.
    """
    kind, limits = fault["type"], fault.get("ctx", {})
    if kind in ("missing", "extra_forbidden"):
        return "this is needed and not there" if kind == "missing" else "there is no such setting"
    said = {
        "int": "not a whole number", "float": "not a number", "bool": "neither true nor false", "string": "not a text",
        "list": "not a list", "tuple": "not a list", "dict": "not a mapping", "model": "not a mapping",
        "greater_than_equal": f"below {limits.get('ge')}, the least that is allowed",
        "greater_than": f"not above {limits.get('gt')}",
        "less_than_equal": f"above {limits.get('le')}, the most that is allowed",
        "less_than": f"not below {limits.get('lt')}",
        "literal_error": f"not {limits.get('expected')}",
    }  # fmt: skip
    of_type = kind.endswith(("_type", "_parsing", "_from_float"))
    words = said.get(kind.partition("_")[0] if of_type else kind)
    if words is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    found = repr(fault["input"])
    return f"{found if len(found) <= 40 else found[:39] + '…'} is {words}" if repeat else words
