"""The whole way through Qlib: bars to a provider, a data set, fine-tuning, signals, a backtest with costs, a report.

The symbols are pieces of two years of the packaged indices, dated as if all had been traded in 2017 and 2018: real
bars, enough of them to see every step at work, but no market that ever was. Put files of your own in their place.

python qlib_pipeline.py [--finetune]
"""

import json
import sys
from pathlib import Path

import pandas as pd

from kronos.bars import sample_bars, write_bars
from kronos.cli import main

RESEARCH = """
provider: provider
out: run
instrument: sp500                             # a set of the provider; 'all' is always there
calendar: XNYS
lookback_window: 60
predict_window: 5
train_time_range: [2017-01-03, 2017-11-30]
val_time_range: [2017-09-05, 2018-05-31]      # begins with its context, as in the published recipe
test_time_range: [2018-03-05, 2018-12-31]
backtest_time_range: [2018-07-02, 2018-12-31]
training:
  tokenizer: kronos-nano
  model: kronos-nano
  batch_size: 8
  stages:
    tokenizer: {steps: 4, lr: 1.0e-4}         # thousands, on a GPU, when it is meant
    model: {steps: 4, lr: 4.0e-5}
  validation_batches: 2
signals:
  model: kronos-nano
  every: 5
backtest:
  signals: [mean, prob_up]
  neutralise: [volatility]                    # each signal also without what volatility explains
  benchmark: universe
  topk: 3
  n_drop: 1
  groups: 3
  random_runs: 2
"""


def write_symbols(folder: Path) -> None:
    """Twenty symbols in two files; the ten of each index are a set of instruments."""
    folder.mkdir(exist_ok=True)
    days = sample_bars("sp500")["timestamp"].tail(502).to_numpy()
    for name in ("sp500", "nasdaq"):
        bars = sample_bars(name)
        starts = range(len(bars) % 502, len(bars), 502)
        pieces = [bars[at : at + 502].assign(timestamp=days, symbol=f"{name}-{at}") for at in starts]
        table = pd.concat([piece.reset_index(drop=True) for piece in pieces], ignore_index=True)
        write_bars(table, folder / f"{name}.parquet")
        (folder / f"{name}.txt").write_text("\n".join(table["symbol"].unique()), encoding="utf-8")


def kronos(*words: str) -> None:
    """One command, as in the shell."""
    print("$ kronos", *words, flush=True)
    if status := main(list(words)):
        sys.exit(status)


write_symbols(Path("bars"))
Path("research.yaml").write_text(RESEARCH.lstrip(), encoding="utf-8")
config = ["--config", "research.yaml"]

if not Path("provider").exists():
    files = ["bars/sp500.parquet", "bars/nasdaq.parquet"]
    kronos("qlib", "export", *files, "--out", "provider", "--instruments", "sp500=bars/sp500.txt")
kronos("qlib", "prepare", *config)
if "--finetune" in sys.argv[1:]:
    for stage in ("tokenizer", "model"):
        kronos("train", stage, "--config", "run/finetune.yaml")
    config += ["--set", "signals.model=run/finetuned", "--set", "out=finetuned"]  # other signals, another folder
kronos("qlib", "signals", *config)
kronos("backtest", *config, "--output", "report")

summary = json.loads(Path("report/summary.json").read_text(encoding="utf-8"))
for name, figures in summary["strategies"].items():
    excess = figures["excess_annual"]
    print(f"{name:15} {figures['annual_return']:+7.1%} a year after cost, {excess['value']:+7.1%} against the universe")
