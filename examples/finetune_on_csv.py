"""Both stages of fine-tuning on a CSV, with a verdict from bars that the run never read.

The same as `kronos finetune BARS --out runs/mine`; words after the first go to the command as they are.

python finetune_on_csv.py [BARS.csv] [--set epochs=5 …]
"""

import json
import sys
from pathlib import Path

from kronos.bars import sample_bars
from kronos.cli import main

bars, options = Path("sp500.csv"), sys.argv[1:]
if options and not options[0].startswith("-"):
    bars, options = Path(options[0]), options[1:]
else:
    sample_bars("sp500").tail(1500).to_csv(bars, index=False)

out = Path("runs/mine")
status = main(["finetune", str(bars), "--model", "kronos-nano", "--out", str(out), *options])
if status == 0:
    verdict = json.loads((out / "finetune.json").read_text(encoding="utf-8"))["verdict"]
    print(verdict["words"])
    print(f"Forecast with it: kronos forecast {bars} --model {out}")
sys.exit(status)
