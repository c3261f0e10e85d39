"""The long version of the damaged files: run by ``make soak``, about half an hour on a quiet core."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak_readers import READERS, soak


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", READERS)
def test_a_hundred_thousand_damaged_files(reader: str, tmp_path: Path) -> None:
    tally = soak(reader, 100_000, 0, tmp_path)
    assert tally.files == 100_000
    assert tally.read > 0
    assert tally.refused > 0
