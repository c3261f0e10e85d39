"""Runs stages one after the other as one of several processes: ``python two_ranks.py RUNS.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kronos.training.config import RunConfig
from kronos.training.parallel import leave_group
from kronos.training.run import train

if __name__ == "__main__":
    for stage, resume, config in json.loads(Path(sys.argv[1]).read_text()):
        train(stage, RunConfig.from_dict(config), resume=resume)
    leave_group()
