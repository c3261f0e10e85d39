"""The words of a bars table: its columns, their order, and how other table types become pandas."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from kronos.errors import DataError
from kronos.protocol import FEATURES

__all__ = ["COLUMNS", "FEATURES", "PRICES", "TIME_FEATURES", "to_table"]

PRICES: Final = FEATURES[:4]
"""The four prices of a bar, in feature order."""

TIME_FEATURES: Final = ("minute", "hour", "weekday", "day", "month")
"""The five time features, in the order that the model knows (a test compares them); Monday is weekday 0."""

COLUMNS: Final = ("timestamp", "symbol", *FEATURES)
"""Every column that a bars table may have, in order; ``symbol`` is optional."""


def to_table(obj: Any) -> pd.DataFrame:
    """Return ``obj`` as a pandas DataFrame without copying more than the conversion needs.

    Accepts pandas, polars (also lazy), Arrow tables and record batches, and anything with the
    Arrow stream interface.

    Args:
        obj: the table.

    Raises:
        DataError: for anything else.
    """
    if isinstance(obj, pd.DataFrame):
        return obj
    if isinstance(obj, pd.Series):
        raise DataError(
            f"A Series is one column; bars need a table with {', '.join(PRICES)}. Pass the whole DataFrame."
        )
    module = type(obj).__module__.partition(".")[0]
    if module == "polars" and hasattr(obj, "collect"):
        obj = obj.collect()
    if module == "pyarrow" or hasattr(obj, "__arrow_c_stream__"):
        import pyarrow as pa

        if isinstance(obj, pa.RecordBatch):
            obj = pa.Table.from_batches([obj])
        frame: pd.DataFrame = (obj if isinstance(obj, pa.Table) else pa.table(obj)).to_pandas()
        return frame
    raise DataError(
        f"A {type(obj).__name__} cannot be read as bars. "
        "Pass a path, a pandas, polars or Arrow table with open, high, low, close and a timestamp, a list of rows or "
        "of dicts, or a dict of arrays."
    )
