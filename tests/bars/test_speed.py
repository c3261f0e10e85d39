"""Reading is about as fast as the parsers underneath: ratios within one run, best of several."""

from __future__ import annotations

import subprocess
import sys

import pytest
from benchmarks.bars import measure


@pytest.mark.soak  # a ratio of seconds means nothing beside other tests
def test_a_million_rows() -> None:
    """At most 1.5 times pandas' CSV and pyarrow's Parquet. A busy machine gets three chances."""
    csv, parquet = float("inf"), float("inf")
    for _ in range(3):
        result = measure(1_000_000, 3)
        csv, parquet = min(csv, result["csv_ratio"]), min(parquet, result["parquet_ratio"])
        if csv <= 1.5 and parquet <= 1.5:
            break
    assert csv <= 1.5
    assert parquet <= 1.5


def test_importing_is_light() -> None:
    """Neither torch nor calendars nor pandas for the package alone; no torch even when everything is used."""
    code = (
        "import sys; import kronos.bars; "
        "assert not {'torch', 'pandas', 'exchange_calendars', 'pyarrow'} & set(sys.modules), 'heavy import'; "
        "from kronos.bars import sample_bars; sample_bars('sp500'); "
        "assert not {'torch', 'exchange_calendars', 'ccxt'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
