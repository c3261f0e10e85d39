"""A real Ray of two workers on this machine: started once for all tests of this file."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from universes import CHECKPOINT, QUICK, SPEC, contents, make_symbols

from kronos import forecast_universe
from kronos.errors import CapacityError, CheckpointError, ConfigError, DataError
from kronos.scale.engines import LocalEngine, RayEngine, make_engine

pytest.importorskip("ray")
Doubler = Callable[[], Callable[[int], int]]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """The session that the engine would start for itself, kept for the whole file."""
    from kronos.scale.engines import connected

    with connected(None, 2):
        yield


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def ray_workers() -> list[int]:
    """Process ids of the busy actors of our own session, from the processes below this one."""
    found = []
    for raylet in children(os.getpid()):
        for pid in children(raylet):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if title.startswith(b"ray::MapWorker"):
                found.append(pid)
    return found


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    folder = make_symbols(tmp_path / "universe", 200)
    forecast = partial(forecast_universe, spec=SPEC, model=str(CHECKPOINT), partition_size=8)
    local = forecast(folder, tmp_path / "local", engine=LocalEngine(1))
    killed: list[int] = []

    def kill_one_halfway(done: int, total: int) -> None:
        if done >= total / 2 and not killed:
            workers = ray_workers()
            assert len(workers) == 2
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    engine = make_engine("ray", workers=2)
    report = forecast(folder, tmp_path / "ray", engine=engine, progress=kill_one_halfway)
    assert killed
    assert (report.series, report.failed, report.partitions, report.kept) == (200, 0, 25, 0)
    assert dataclasses.astuple(report)[:4] == dataclasses.astuple(local)[:4]
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.fixture
def doubler() -> Doubler:
    """Makes workers that double a number; some numbers are special.

    Minus one kills the worker; three is an error that a user can cause, four one that only we can.
    """

    def make() -> Callable[[int], int]:
        def work(number: int) -> int:
            if number == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 3:
                raise DataError("number three")
            if number == 4:
                raise ZeroDivisionError("number four")
            return 2 * number

        return work

    return make


def test_pieces_and_results_are_not_changed_on_the_way() -> None:
    pieces = [pd.Timestamp("2024-02-29 09:30:00.123456789", tz="Asia/Shanghai"), (1, 2.5), {"a": [1]}, None]
    found = list(make_engine("ray", workers=1).map(lambda: lambda piece: (piece, type(piece).__name__), pieces))
    assert sorted(found, key=repr) == sorted([(piece, type(piece).__name__) for piece in pieces], key=repr)


def test_errors_come_back_as_what_they_are(doubler: Doubler) -> None:
    with pytest.raises(DataError, match=r"^number three$"):
        list(make_engine("ray").map(doubler, [3]))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: number four"):
        list(make_engine("ray").map(doubler, [4]))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces each call of the engine was given: results that are equal do not show where they came from."""
    numbers: list[int] = []
    original = RayEngine.map

    def counting(self: RayEngine, make: Any, pieces: Any) -> Iterator[Any]:
        numbers.append(len(pieces))
        return original(self, make, pieces)

    monkeypatch.setattr(RayEngine, "map", counting)
    return numbers


def test_an_evaluation_on_ray_gives_the_scores_of_one_here(tmp_path: Path, sent: list[int]) -> None:
    from kronos.cli import main

    words = ["evaluate", "sample:sp500", "--model", str(CHECKPOINT), "--baselines", "rw-resampled,ewma"]
    words += ["--context", "40", "--horizon", "3", "--windows", "40", "--samples", "5", "--tasks", "price"]
    for name, more in (("here", ["--workers", "1"]), ("ray", ["--engine", "ray", "--workers", "2"])):
        assert main([*words, *more, "-o", str(tmp_path / name)]) == 0
    here, there = (pd.read_parquet(tmp_path / name / "metrics.parquet") for name in ("here", "ray"))
    assert sent == [6]  # three forecasters, a batch of 32 windows and one of 8
    assert len(here) == 3 * 40 * 3
    pd.testing.assert_frame_equal(there, here, check_exact=False, rtol=1e-6)


@pytest.mark.soak
def test_a_piece_that_kills_every_worker_is_given_up_and_the_others_are_done(doubler: Doubler) -> None:
    found: list[int] = []
    results = make_engine("ray", workers=1).map(doubler, [0, 1, -1, 2, 5, 6])
    with pytest.raises(CapacityError, match="1 of 6 pieces of work were lost: their worker died 4 times"):
        found.extend(results)  # takes what comes before the error
    assert sorted(found) == [0, 2, 4, 10, 12]


def test_signals_on_ray_are_those_made_here(tmp_path: Path, sent: list[int]) -> None:
    from tests.backtesting.market import export_market, research

    from kronos.cli import main

    provider = export_market(tmp_path / "provider")
    signals = {"model": str(CHECKPOINT), "every": 8, "num_samples": 3}
    for name, more in (("here", []), ("ray", ["--engine", "ray", "--workers", "2"])):
        file = tmp_path / f"{name}.yaml"
        settings = research(provider, tmp_path / name).model_dump(mode="json", exclude_none=True)
        file.write_text(yaml.safe_dump({**settings, "instrument": "some", "signals": signals}), encoding="utf-8")
        assert main(["qlib", "signals", "--config", str(file), *more]) == 0
    here, there = (pd.read_parquet(tmp_path / name / "signals" / "signals.parquet") for name in ("here", "ray"))
    assert sent == [8]
    assert len(here) == 30 * 8
    pd.testing.assert_frame_equal(there, here, check_exact=True)


@pytest.mark.soak
def test_a_checkpoint_that_is_missing_on_a_worker_is_said(tmp_path: Path) -> None:
    from kronos.scale.work import ForecastWork

    lost = dataclasses.replace(QUICK, model=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match="unknown model"):
        list(make_engine("ray", workers=1).map(partial(ForecastWork, lost, tmp_path, tmp_path, "digest"), [0]))


def test_more_workers_than_the_cluster_holds_are_refused(doubler: Doubler) -> None:
    with pytest.raises(ConfigError, match="Ray has 2 CPUs and 0 GPUs: too few for 3 workers of 1 CPU each"):
        list(make_engine("ray", workers=3).map(doubler, [1]))
    with pytest.raises(ConfigError, match=r"too few for 1 workers of 1 CPU and 0\.5 GPUs each"):
        list(make_engine("ray", gpus=0.5).map(doubler, [1]))


def test_nothing_is_reported_to_anybody() -> None:
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled()
