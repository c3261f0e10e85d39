"""Writes bars tables as CSV, Parquet and Feather."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pandas as pd

from kronos.errors import ConfigError
from kronos.files import replacing

_ROW_GROUP: Final = 1 << 13  # bars: 150 kB of minutes, a month of sessions, the latest of which forecasts read

ENDINGS: Final = (".csv", ".parquet", ".feather")
"""File endings that ``write_bars`` knows; ``.csv.gz`` too."""


def write_bars(bars: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a bars table as CSV, Parquet or Feather, chosen by the ending.

    Raises:
        ConfigError: another ending, or no such folder.
        CapacityError: it cannot be written; see :func:`kronos.files.replacing`.
    """
    target = Path(path)
    name = target.name.lower()
    if not name.endswith((*ENDINGS, ".csv.gz")):
        raise ConfigError(f"{target}: the ending must be one of {', '.join(ENDINGS)} or .csv.gz.")
    with replacing(target) as part:
        if name.endswith(".parquet"):
            write_parquet(bars, part)
        elif name.endswith(".feather"):
            import pyarrow.feather as feather

            feather.write_feather(to_arrow(bars), str(part))
        else:
            bars.to_csv(part, index=False, compression="gzip" if name.endswith(".gz") else None)
    return target


def to_arrow(bars: pd.DataFrame) -> Any:
    """A bars table as Arrow, without pandas' own metadata."""
    import pyarrow as pa

    plain = bars.copy(deep=False)
    plain.attrs = {}
    return pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)


def write_parquet(bars: pd.DataFrame, path: Path) -> None:
    """Parquet with zstd; the same bars give the same bytes. The last bars can be read without the others."""
    import pyarrow.parquet as pq

    pq.write_table(to_arrow(bars), path, compression="zstd", row_group_size=_ROW_GROUP)
