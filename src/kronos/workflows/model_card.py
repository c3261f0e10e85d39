"""The model card of a fine-tuned pair, written from the run's report."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

_CARD = """---
tags: [time-series, finance, candlesticks, kronos]
---
# {name}

Fine-tuned from {start}. {kept}

## How good it is

{verdict[words]}

CRPS of the close over {verdict[forecasts]} forecasts of {horizon} bars, context {context}, \
from {verdict[first]:.16} to {verdict[last]:.16}; the run never
read these bars. 95 % intervals from a bootstrap over blocks of time.

| new weights against | CRPS ratio |
|---|---|
| {start} | {to_start} |
| a resampled random walk | {to_walk} |

The 90 % interval covered {verdict[coverage_90]:.1%}. {chosen[words]}

## How it was made

{stage_lines}

Rate {optim[lr]:g} ({optim[schedule]}), {windows_a_step} windows of {data[window]} bars a step, \
context {data[boundary][0]} to {data[boundary][1]} bars, seed {settings[seed]}{lora}.

## Sources and cut-off dates

{training_bars:,} bars to train on, data hash `{data_hash}`, from: {source_names}. Their licence is yours to know.
The run knew no bar later than: {cutoffs}.

## Known limits

- One period of one set of bars was judged; another may come out differently.
- Horizons beyond {horizon} bars and contexts beyond {data[boundary][1]} were neither trained nor judged here.
- It is no advice to trade.
"""


def model_card(report: dict[str, Any], *, kept_start: bool) -> str:
    """Markdown: what the pair is, how it did, what it was made from.

    Args:
        report: what ``kronos.finetune`` returns.
        kept_start: whether the folder holds the weights that the run started from.
    """
    settings, verdict = report["settings"], report["verdict"]
    kept = f"The weights are those of {report['start']}: the new ones were not shown to be better."
    stages = [
        f"- {stage}: {found['steps']:,} steps, best validation "
        f"{'CRPS' if found['chosen_by'] == 'crps' else 'loss'} {found['best_validation']:.4f}"
        for stage, found in report["stages"].items()
    ]
    times = [f"{group} {time[:16].replace('T', ' ')}" for group, time in report["judged_after"].items()]
    return _CARD.format(
        **report,
        name=PurePath(settings["out"].replace("\\", "/")).name,
        kept=kept if kept_start else "The weights are the new ones.",
        to_start=_interval(verdict["crps_to_start"]),
        to_walk=_interval(verdict["crps_to_random_walk"]),
        stage_lines="\n".join(stages),
        optim={**settings["optim"], **settings["stages"]["model"]},
        data=settings["data"],
        lora=f", LoRA of rank {settings['lora']['rank']}" if settings["lora"] else "",
        source_names=", ".join(report["sources"]),
        cutoffs=", ".join(times),
    )


def _interval(found: dict[str, float]) -> str:
    return "{ratio:.3f} [{low:.3f}, {high:.3f}]".format(**found)
