from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos.errors import ConfigError
from kronos.inference.settings import SlidingWindow


@given(st.integers(1, 60), st.integers(2, 40), st.data())
def test_the_window_holds_the_newest_bars(context: int, max_context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, max_context - 1))
    window = SlidingWindow(context, max_context, stride)
    starts = [window.start(known) for known in range(context, context + 100)]
    for known, start in enumerate(starts, start=context):
        length = known - start
        assert length <= max_context
        assert length >= min(known, max_context - stride + 1)
    assert starts == sorted(starts)
    assert starts[0] == max(0, context - max_context)


def test_a_stride_of_one_is_the_published_window() -> None:
    window = SlidingWindow(30, 40, 1)
    assert [window.start(known) for known in (30, 40, 41, 55)] == [0, 0, 1, 15]


@given(st.integers(1, 60), st.integers(2, 40), st.integers(1, 150), st.data())
def test_decode_blocks_cover_the_horizon_once(
    context: int, max_context: int, horizon: int, data: st.DataObject
) -> None:
    window = SlidingWindow(context, max_context, data.draw(st.integers(1, max_context - 1)))
    blocks = list(window.decode_blocks(horizon))
    assert [bar for _, first, end in blocks for bar in range(first, end)] == list(range(horizon))
    for start, first, end in blocks:
        assert context + end - start <= max_context
        assert start <= context + first
    if window.stride > 1:  # a longer horizon keeps every window
        starts = {bar: start for start, first, end in blocks for bar in range(first, end)}
        longer = {bar: start for start, first, end in window.decode_blocks(horizon + 37) for bar in range(first, end)}
        assert all(longer[bar] == start for bar, start in starts.items())
    elif horizon <= max_context:
        assert blocks == [(max(0, context + horizon - max_context), 0, horizon)]


@pytest.mark.parametrize("sizes", [(0, 10, 1), (5, 1, 1), (5, 10, 0), (5, 10, 10)])
def test_windows_that_cannot_be(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        SlidingWindow(*sizes)
