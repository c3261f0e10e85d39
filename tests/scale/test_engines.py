"""The local engine, and what is said about engines that cannot be had."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
import torch

from kronos.errors import ConfigError, DataError, MissingExtraError
from kronos.scale.engines import LocalEngine, make_engine


def squarer() -> Callable[[int], int]:
    return lambda number: number * number


@pytest.mark.parametrize("workers", [1, 3])
def test_every_piece_is_computed_once(workers: int) -> None:
    assert sorted(LocalEngine(workers).map(squarer, range(50))) == [n * n for n in range(50)]
    assert list(LocalEngine(workers).map(squarer, [])) == []


def test_few_pieces_are_on_their_way_at_once() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    results = LocalEngine(2).map(lambda: work, range(1000))
    for _ in range(10):
        next(results)
    assert len(begun) <= 14
    results.close()  # type: ignore[attr-defined]


def test_workers_compute_on_one_thread_each_and_the_setting_returns() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = set(LocalEngine(2).map(lambda: lambda _: (torch.get_num_threads(), threading.get_ident()), range(20)))
        assert {threads for threads, _ in seen} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_of_a_piece_is_raised() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise DataError("number three")
        return number

    with pytest.raises(DataError, match="number three"):
        list(LocalEngine(2).map(lambda: work, range(10)))


def test_engines_are_made_by_name() -> None:
    assert make_engine("local", workers=2) == LocalEngine(2)
    with pytest.raises(ConfigError, match="no engine 'dask'"):
        make_engine("dask")
    with pytest.raises(ConfigError, match="belong to the engine 'ray'"):
        make_engine("local", address="auto")
    with pytest.raises(ConfigError, match="at least one"):
        make_engine("local", workers=0)


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ray\[data\]"):
        make_engine("ray")
