"""One reading of a file or table: what the caller decided about it, and what was noted on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kronos.errors import ConfigError

OnDefect = Literal["strict", "drop"]


@dataclass(frozen=True, kw_only=True)
class ReadContext:
    """The options of ``read_bars``, the name of the source in errors, and the notes for its report.

    Raises:
        ConfigError: ``on_defect`` is neither ``strict`` nor ``drop``.
    """

    where: str = "The table"
    symbol: str | None = None
    columns: dict[str, str | int] | None = None
    timezone: str | None = None
    on_defect: OnDefect = "strict"
    min_rows: int = 1
    dayfirst: bool | None = None
    epoch: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    newest_first: bool | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.on_defect not in ("strict", "drop"):
            raise ConfigError(f"on_defect must be 'strict' or 'drop', not '{self.on_defect}'.")

    def note(self, text: str) -> None:
        """Add a reading that was chosen to the report, once."""
        if text not in self.notes:
            self.notes.append(text)
