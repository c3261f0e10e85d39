"""`make setup` says how far it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "pip_progress.py"


def test_what_pip_says_becomes_progress() -> None:
    pip = [f"Collecting package-{n}>=1.{n} (from other)" for n in range(24)]
    pip += ["  Downloading pandas-3.1.1-cp311.whl (11.0 MB)", "Requirement already satisfied: numpy>=1 in /x"]
    pip += ["Installing collected packages: a, b, c", "Successfully installed a-1 b-2 c-3", "WARNING: nothing"]
    done = subprocess.run([sys.executable, str(SCRIPT), "60"], input="\n".join(pip), capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "  25 of about 60 packages: numpy",
        "  unpacking 3 packages, the longest part: a minute or two",
        "  installed 3 packages",
    ]
