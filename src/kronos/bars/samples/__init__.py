"""Real bars that ship with the package, so that the first command works offline (see SOURCES.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from kronos.errors import ConfigError

SAMPLES: Final = ("eurusd", "nasdaq", "sp500")
"""Names that ``kronos.bars.sample_bars`` and ``sample_path`` know."""

PREFIX: Final = "sample:"
"""Wherever a file of bars is named, ``sample:sp500`` names a packaged one."""


def sample_path(name: str) -> Path:
    """The Parquet file of a packaged sample.

    Args:
        name: ``sp500`` and ``nasdaq`` (daily, 1999–2018) or ``eurusd`` (hourly, 2017).

    Raises:
        ConfigError: for any other name.
    """
    if name not in SAMPLES:
        raise ConfigError(f"There are no sample bars '{name}'. Choose one of {', '.join(SAMPLES)}.")
    return Path(__file__).with_name(f"{name}.parquet")


def locate(source: str | os.PathLike[str]) -> Path:
    """The file that a source means: ``sample:NAME`` a packaged sample, anything else its own path."""
    text = os.fspath(source)
    return sample_path(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else Path(text)
