"""Real forecasts as the judge of a training run: during validation, for the choice at the end, for the verdict.

The model card of the pair says what came of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import DataError
from kronos.evaluation.baselines import make_baselines
from kronos.evaluation.figures import cluster_labels, per_window
from kronos.evaluation.rolling import score_windows
from kronos.evaluation.run import YARDSTICK
from kronos.evaluation.statistics import FEWEST, cluster_bootstrap, ratio_of_means, slope
from kronos.evaluation.training_dates import LeakWarning, warn_of_leaks
from kronos.evaluation.windows import Series, Window, as_series, common_cutoffs, rolling_windows, some_symbols
from kronos.evaluation.windows import draw_windows as draw_from
from kronos.inference.predictor import KronosPredictor
from kronos.model import Kronos, KronosTokenizer
from kronos.protocol import Context, Forecaster, Progress
from kronos.spec import ForecastSpec
from kronos.training.config import RunConfig
from kronos.training.data import open_arrays, split_of
from kronos.training.finetune import FinetunePlan
from kronos.training.run import ForecastScores
from kronos.workflows.forecasters import load_forecaster

WINDOWS = 96  # forecasts of each model for the verdict, about
SAMPLES = 50  # paths of each
MAX_SYMBOLS = 24
TUNED, START, LAST_CLOSE = "fine-tuned", "start", "last-close"


@dataclass
class PathsOnly:
    """A forecaster under another name whose likelihoods nobody needs: to compute them costs as much as to forecast."""

    name: str
    inner: Forecaster

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[Any]:
        return self.inner.sample_paths(contexts, spec)


class ForecastJudge:
    """Scores candidates during training, always on the same windows with the same seed, so that they can be compared.

    Windows of the validation period that are not given are drawn from the run's bars when the first candidate comes.
    """

    def __init__(self, config: RunConfig, windows: list[Window] | None = None) -> None:
        self.config, self.windows = config, windows
        self._yardsticks: dict[str, float] = {}

    def __call__(self, model: Kronos, tokenizer: KronosTokenizer) -> ForecastScores:
        if not self._yardsticks:
            found = self._rows(make_baselines([YARDSTICK, LAST_CLOSE])).groupby("forecaster")["crps"].mean()
            self._yardsticks = {str(name): float(value) for name, value in found.items()}
        rows = self._rows([PathsOnly(TUNED, KronosPredictor(model, tokenizer, device=_device(self.config)))])
        crps = float(rows["crps"].mean())
        return ForecastScores(
            crps=crps / self._yardsticks[YARDSTICK],
            crps_to_last_close=crps / self._yardsticks[LAST_CLOSE],
            coverage_90=float(rows["covered_90"].mean()),
            slope=slope(rows["past_move"], rows["predicted_move"]),
        )

    def _rows(self, forecasters: Sequence[Forecaster]) -> pd.DataFrame:
        self.windows = self.windows or validation_windows(self.config)
        return per_window(score_windows(self.windows, forecasters, self.config.forecasts.samples, self.config.seed))


def _device(config: RunConfig) -> str | None:
    return None if config.device == "auto" else config.device


def validation_windows(config: RunConfig) -> list[Window]:
    """Forecasts to make in the validation period of a run's arrays, spread over its groups; DataError: not one fits."""
    arrays, wanted, context = open_arrays(config), config.forecasts, config.data.boundary[1]
    segments = [one for one in split_of(config, arrays)[1] if len(one) >= context + wanted.horizon]
    groups = sorted({segment.group for segment in segments})
    rng = np.random.default_rng([config.seed, len(segments)])
    windows: list[Window] = []
    for group in groups:
        members = [segment for segment in segments if segment.group == group]
        share, series = -(-wanted.windows // len(groups)), {}
        for segment in (members[i] for i in sorted(rng.permutation(len(members))[: 4 * share].tolist())):
            rows = slice(segment.start, segment.stop)
            times = arrays.times[rows].astype("datetime64[s]").astype("datetime64[ns]")
            name = f"{segment.symbol}/{segment.start}"
            series[name] = Series(segment.symbol, times, arrays.values[rows].astype(float))
        windows += draw_from(series, context, wanted.horizon, share, config.seed, group=group)
    if not windows:
        raise DataError(
            f"the validation period holds no forecast of {wanted.horizon} bars after {context} of context; give more "
            f"bars, a smaller forecasts.horizon or data.boundary, or set forecasts.windows to 0"
        )
    return windows


def draw_windows(plan: FinetunePlan, *, validation: bool = False) -> list[Window]:
    """Forecasts to make in the judged period, or about ``forecasts.windows`` of them in that of validation.

    They are spread over the period, at dates that the symbols share. DataError: not one fits into the judged period.
    """
    windows: list[Window] = []
    if not validation and not plan.config.data.gives_verdict:
        return windows
    periods = plan.periods(validation=validation)
    wanted = plan.config.forecasts.windows if validation else WINDOWS
    for group, (after, before) in periods.items():
        kept = some_symbols(as_series(plan.judged_tables(group)), MAX_SYMBOLS, plan.config.seed)
        if before is not None:
            for name, one in kept.items():
                known = int((one.timestamps <= before).sum())
                kept[name] = replace(one, timestamps=one.timestamps[:known], values=one.values[:known])
        judged = max(int((one.timestamps > after).sum()) for one in kept.values())
        dates = max(8, wanted // (len(kept) * len(periods)))
        step = max(1, plan.horizon // 4, judged // dates)
        cutoffs = common_cutoffs(kept.values(), plan.horizon, max(1, judged // step), step)
        windows += rolling_windows(kept, plan.context, plan.horizon, cutoffs=list(cutoffs), after=after, group=group)
    if not windows and not validation:
        raise DataError(
            f"the last bars, kept for the verdict, hold no forecast of {plan.horizon} bars after "
            f"{plan.context} of context without a gap; give more bars"
        )
    return windows


def choose(plan: FinetunePlan, windows: list[Window], report: Progress) -> dict[str, Any]:
    """Which weights the run ends with: the new ones if their forecasts of the validation period are shown to be better.

    Shown means that the interval of the ratio of CRPS lies below one: the best of several candidates looks better than
    it is on the very forecasts that picked it, and noise alone must not replace weights that work.
    """
    if not windows:
        words = f"Kept the weights of {plan.start}: the validation period is too short for forecasts."
        return {"kept": START, "forecasts": 0, "words": words}
    found = ratio(_score(plan, windows, report)[0], START, plan.config.seed)
    enough = found["blocks"] >= FEWEST
    shown = found["high"] < 1 and enough
    words = (
        "Kept the new weights"
        if shown
        else f"Kept the weights of {plan.start}, since the new ones are not shown to be better"
    )
    words += f": CRPS {found['ratio']:.3f} of the start's in {len(windows)} forecasts of the validation period"
    words += f", interval {found['low']:.3f} to {found['high']:.3f}." if enough else "."
    return {"kept": TUNED if shown else START, "forecasts": len(windows), "crps_to_start": found, "words": words}


def judge(plan: FinetunePlan, windows: list[Window], report: Progress) -> dict[str, Any]:
    """CRPS of the close of the new checkpoint against the one it started from and a resampled random walk."""
    if not windows:
        unknown = dict.fromkeys(("ratio", "low", "high"), float("nan"))
        figures = dict.fromkeys(("crps_to_start", "crps_to_random_walk", "start_to_random_walk"), unknown)
        words = "Not judged: no share of the bars was kept for a verdict."
        rest = {"coverage_90": float("nan"), "forecasts": 0, "first": "nothing", "last": "nothing", "notes": []}
        return {"better": False, "words": words, **figures, **rest}
    rows, notes = _score(plan, windows, report, YARDSTICK)
    seed = plan.config.seed
    against_start = ratio(rows, START, seed)
    return {
        "better": bool(against_start["high"] < 1),
        "words": in_words(against_start, plan.start, plan.config.out.name),
        "crps_to_start": against_start,
        "crps_to_random_walk": ratio(rows, YARDSTICK, seed),
        "start_to_random_walk": ratio(rows, YARDSTICK, seed, of=START),
        "coverage_90": float(rows.loc[rows["forecaster"] == TUNED, "covered_90"].mean()),
        "forecasts": len(windows),
        "first": str(min(w.context.future_timestamps[0] for w in windows)),
        "last": str(max(w.context.future_timestamps[-1] for w in windows)),
        "notes": notes,
    }


def _score(
    plan: FinetunePlan, windows: list[Window], report: Progress, *baselines: str
) -> tuple[pd.DataFrame, list[str]]:
    """Scores of the new weights, of the start and of baselines, one row a forecast; and notes on leaks."""
    pairs = ((str(plan.config.out), None), (plan.start, plan.tokenizer))
    tuned, start = (load_forecaster(name, _device(plan.config), tokenizer=belonging) for name, belonging in pairs)
    start.name = START
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        notes = warn_of_leaks([start], windows)  # what the start has seen, the new weights have seen too
    forecasters = [PathsOnly(TUNED, tuned), PathsOnly(START, start), *make_baselines(list(baselines))]
    return per_window(score_windows(windows, forecasters, SAMPLES, plan.config.seed, progress=report)), notes


def ratio(rows: pd.DataFrame, other: str, seed: int, of: str = TUNED) -> dict[str, float]:
    """Mean CRPS over another's, in units of each context's own volatility, with a 95 % block-bootstrap interval."""
    ours = rows[rows["forecaster"] == of].set_index("window_id")
    theirs = rows[rows["forecaster"] == other].set_index("window_id").loc[ours.index]
    labels = cluster_labels(ours)
    found = cluster_bootstrap(labels, np.column_stack([ours["crps"], theirs["crps"]]), ratio_of_means, seed=seed)
    return {"ratio": found.value, "low": found.low, "high": found.high, "blocks": len(np.unique(labels))}


def in_words(found: dict[str, float], start: str, name: str) -> str:
    """The verdict in a sentence or two."""
    figures = f"CRPS {found['ratio']:.3f} of the start's"
    if found["blocks"] < FEWEST:
        return f"Not shown to be better than {start}: {figures}, but the judged period is too short for an interval."
    figures += f", 95% interval {found['low']:.3f} to {found['high']:.3f}"
    if found["high"] < 1:
        return f"Better than {start}: {figures}."
    if found["low"] > 1:
        return f"Not better than {start}, but worse: {figures}. Keep using {start}; more bars or fewer epochs may help."
    return (
        f"Not better than {start}, as far as these bars can tell: {figures}. There is no reason to use {name} instead."
    )


_CARD = """---
tags: [time-series, finance, candlesticks, kronos]
verdict: "{kept} {verdict[words]}"
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


_UNFINISHED = """---
verdict: "unfinished: no verdict was reached; go on with --resume"
---
# {name}

A fine-tuning run from {start} that has not ended, by `kronos finetune`. The weights are the best so far of what was
trained, and were not judged: whether they are better than {start} is not known. The same command with `--resume` goes
on from the last state that was saved, and ends with a verdict.
"""


def unfinished_card(out: PurePath, start: str) -> str:
    """Markdown: what lies in the folder of a run until it ends."""
    return _UNFINISHED.format(name=out.name, start=start)


def model_card(report: dict[str, Any], *, aside: bool = False) -> str:
    """Markdown: what the pair is, how it did, what it was made from.

    Args:
        report: what ``kronos.finetune`` returns.
        aside: of the new weights that were set aside, because they were not shown to be better.
    """
    settings, verdict = report["settings"], report["verdict"]
    kept = "The weights are the new ones."
    if aside:
        kept = f"The weights are new ones that were not shown to be better than {report['start']}."
    elif report["chosen"]["kept"] == START:
        kept = f"The weights are those of {report['start']}: the new ones were not shown to be better."
    interval = "{ratio:.3f} [{low:.3f}, {high:.3f}]"
    stages = [
        f"- {stage}: {found['steps']:,} steps, best validation "
        f"{'CRPS' if found['chosen_by'] == 'crps' else 'loss'} {found['best_validation']:.4f}"
        for stage, found in report["stages"].items()
    ]
    times = [f"{group} {time[:16].replace('T', ' ')}" for group, time in report["judged_after"].items()]
    return _CARD.format(
        **report,
        name=PurePath(settings["out"].replace("\\", "/")).name,
        kept=kept,
        to_start=interval.format(**verdict["crps_to_start"]),
        to_walk=interval.format(**verdict["crps_to_random_walk"]),
        stage_lines="\n".join(stages),
        optim={**settings["optim"], **settings["stages"]["model"]},
        data=settings["data"],
        lora=f", LoRA of rank {settings['lora']['rank']}" if settings["lora"] else "",
        source_names=", ".join(report["sources"]),
        cutoffs=", ".join(times),
    )
