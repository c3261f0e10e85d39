"""What a second worker brings, and what many series cost the driver: minutes each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from universes import CHECKPOINT, make_folder

pytest.importorskip("ray")
pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]


def test_a_second_pinned_worker_brings_seven_tenths_or_more() -> None:
    """On a machine with two cores to spare; others who use it take them away from both."""
    from benchmarks.workers import SETTINGS, measure

    found = measure(SETTINGS, series=96, size=4, repeats=3)
    assert found["one"]["workers"] == 1
    assert found["two"]["workers"] == 2
    if found["load"] > 3:
        pytest.skip(f"others use this machine (load {found['load']:.1f}); the gain was {found['gain']:.2f}")
    assert found["gain"] >= 1.7


PEAK = """
import resource, sys
from pathlib import Path
from kronos import ForecastSpec, forecast_universe
from kronos.scale.engines import make_engine
folder, out, engine, checkpoint = sys.argv[1:]
spec = ForecastSpec(horizon=3, num_samples=4, context_length=48)
forecast_universe(folder, out, spec, model=checkpoint, engine=make_engine(engine, workers=2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_the_memory_of_the_driver_does_not_grow_with_the_series(engine: str, tmp_path: Path) -> None:
    peaks = {}
    for count in (100, 1000):
        folder = make_folder(tmp_path / f"{count}", count)
        words = [sys.executable, "-c", PEAK, str(folder), str(tmp_path / f"out-{count}"), engine, str(CHECKPOINT)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        peaks[count] = int(done.stdout.split()[-1])
    assert peaks[1000] <= 1.2 * peaks[100], peaks
