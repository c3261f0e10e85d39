"""The model card of a fine-tuned pair, written from the run's report."""

from __future__ import annotations

from typing import Any

from kronos.workflows.verdict import START

_CARD = """---
tags: [time-series, finance, candlesticks, kronos]
---
# {name}

Fine-tuned from {start}. {kept}

## How good it is

{verdict}

CRPS of the close over {forecasts} forecasts of {horizon} bars, context {context}, from {first} to {last}; the run never
read these bars. 95 % intervals from a bootstrap over blocks of time.

| new weights against | CRPS ratio |
|---|---|
| {start} | {to_start} |
| a resampled random walk | {to_walk} |

The 90 % interval covered {coverage:.1%}. {chosen}

## How it was made

{stages}

Rate {rate:g} ({schedule}), {windows} windows of {window} bars a step, context {low} to {high} bars, seed {seed}{lora}.

## Sources and cut-off dates

{bars:,} bars to train on, data hash `{data_hash}`, from: {sources}. Their licence is yours to know.
The run knew no bar later than: {cutoffs}.

## Known limits

- One period of one set of bars was judged; another may come out differently.
- Horizons beyond {horizon} bars and contexts beyond {high} were neither trained nor judged here.
- It is no advice to trade.
"""


def model_card(report: dict[str, Any]) -> str:
    """Markdown: what the pair is, how it did, what it was made from."""
    settings, verdict, chosen = report["settings"], report["verdict"], report["chosen"]
    optim = {**settings["optim"], **settings["stages"]["model"]}
    kept = f"The weights are those of {report['start']}: the new ones were not shown to be better."
    lines = [
        f"- {stage}: {found['steps']:,} steps, best validation "
        f"{'CRPS' if found['chosen_by'] == 'crps' else 'loss'} {found['best_validation']:.4f}"
        for stage, found in report["stages"].items()
    ]
    return _CARD.format(
        name=settings["out"].replace("\\", "/").rstrip("/").rpartition("/")[2],
        start=report["start"],
        kept=kept if chosen["kept"] == START else "The weights are the new ones.",
        verdict=verdict["words"],
        forecasts=verdict["forecasts"],
        horizon=report["horizon"],
        context=report["context"],
        first=verdict["first"][:16],
        last=verdict["last"][:16],
        to_start=_interval(verdict["crps_to_start"]),
        to_walk=_interval(verdict["crps_to_random_walk"]),
        coverage=verdict["coverage_90"],
        chosen=chosen["words"],
        stages="\n".join(lines),
        rate=optim["lr"],
        schedule=optim["schedule"],
        windows=report["windows_a_step"],
        window=settings["data"]["window"],
        low=settings["data"]["boundary"][0],
        high=settings["data"]["boundary"][1],
        seed=settings["seed"],
        lora=f", LoRA of rank {settings['lora']['rank']}" if settings["lora"] else "",
        bars=report["training_bars"],
        data_hash=report["data_hash"],
        sources=", ".join(report["sources"]),
        cutoffs=", ".join(f"{group} {time[:16].replace('T', ' ')}" for group, time in report["judged_after"].items()),
    )


def _interval(found: dict[str, float]) -> str:
    return f"{found['ratio']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
