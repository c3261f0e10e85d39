"""``kronos.calibrate``: make a checkpoint's intervals cover what they say, and show whether they do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, DataError
from kronos.evaluation.calibrate import (
    fit_temperature,
    fit_width,
    judge,
    judge_direction,
    mirrored_closes,
    sample_closes,
    split_by_time,
)
from kronos.evaluation.figures import cluster_labels
from kronos.evaluation.training_dates import warn_of_leaks
from kronos.evaluation.windows import Refusals, Series, Window, draw_windows
from kronos.files import write_json, write_text, writing
from kronos.model.checkpoint import card_fields, change_config, model_card
from kronos.model.layout import CARD_FILE
from kronos.protocol import FloatArray, Forecaster, Progress
from kronos.spec import SAMPLING
from kronos.training.finetune import UNPROVEN, take_over
from kronos.workflows.evaluate import load_markets, read_date
from kronos.workflows.forecasters import WITH_HAR, Configured, load_forecaster, share_of_har

REPORT = "calibration.json"
Sampler = Callable[[Forecaster, Sequence[Window]], tuple[FloatArray, FloatArray]]
FEWEST = 20  # windows, to fit on as to judge on
GRID = (0.8, 0.9, 1.0, 1.1, 1.25)


@dataclass(frozen=True)
class Calibration:
    """What was fitted and what it did to later windows: ``summary`` is the content of ``calibration.json``."""

    summary: dict[str, Any]

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        return str(self.summary["words"])


def calibrate(
    bars: Any,
    model: str,
    out: str | Path,
    *,
    tokenizer: str | None = None,
    horizon: int = 24,
    context: int = 256,
    windows: int = 400,
    temperatures: Sequence[float] | str = GRID,
    num_samples: int = 60,
    after: Any = None,
    seed: int = 0,
    device: str | None = None,
    on_defect: OnDefect = "strict",
    keep_rejected: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Fit a temperature and a width by horizon on past windows, and judge them on later ones.

    The later ones decide too whether it gives directions: where they score better than none beyond the interval. Writes
    ``calibration.json``, and where a gain is shown a copy of the checkpoint whose forecasts use what was fitted from
    then on. What it had of this kind is replaced, but for its share of HAR; ``+har`` behind the name makes that a half.

    Args:
        bars: files, folders, stores or samples (one or a list), a table, or ``{market: any of these}``.
        model: the checkpoint, a name, a folder or a hub id.
        tokenizer: one other than the model's own.
        out: folder for the calibrated copy; it must not hold a checkpoint yet.
        horizon, context: bars ahead, the longest that shall be right, and bars seen.
        windows: how many; the earlier half fits, the later half judges.
        temperatures: to choose from, by CRPS.
        num_samples: paths of each forecast; 19 carry a 90 % interval.
        after: only forecast bars later than this date, the end of the training.
        seed: of the windows and of the paths.
        keep_rejected: write a copy without a gain too, into ``out/unproven``.
        progress: called with (done, total) forecasts.

    Raises:
        ConfigError: ``out`` holds a checkpoint, or a temperature is not positive. DataError: too few windows.
    """
    out = Path(out)
    if (out / "model").exists():
        raise ConfigError(f"{out} holds a checkpoint already; name another --out")
    grid = read_temperatures(temperatures)
    markets, digests = load_markets(bars, on_defect)
    fitting, judging = draw(markets, context, horizon, windows, read_date(after), seed)
    sample = _sampler(num_samples, seed, len(fitting) * len(grid) + 2 * len(judging), progress)
    load = partial(load_forecaster, model, device, tokenizer=tokenizer)
    start = load()  # whose share of HAR stays: the width is that of the model's own paths
    found = _fit(load(calibrated=False), fitting, grid, sample) | {"har_weight": share_of_har(start)}
    before, truth = sample(start, judging)
    later, _ = sample(load(calibrated=found), judging)
    settings = {"context": context, "horizon": horizon, "samples": num_samples, "seed": seed, "temperatures": grid}
    summary = {"model": model.removesuffix(WITH_HAR), **_judge(found, before, later, truth, _clusters(judging))}
    summary |= {"fitted_on": _span(fitting), "judged_on": _span(judging), "settings": settings, "data": digests}
    place = out if summary["better"] else out / UNPROVEN if keep_rejected else None
    summary |= {"written": None if place is None else str(place), "notes": _leaks(start, fitting)}
    _write(summary, out, place, tokenizer)
    return Calibration(summary)


def _judge(
    fitted: dict[str, Any], before: FloatArray, later: FloatArray, truth: FloatArray, clusters: Any
) -> dict[str, Any]:
    """The calibration with the directions or without, as is decided first, and what ``judge`` says of it."""
    direction = judge_direction(later, truth, clusters)
    after = later if direction["chosen"] == "model" else mirrored_closes(later)
    calibration = fitted | {"direction": direction["chosen"]}
    return {"calibration": calibration, **judge(before, after, truth, clusters), "direction": direction}


def _write(summary: dict[str, Any], out: Path, place: Path | None, tokenizer: str | None) -> None:
    """The report, and the calibrated copy where it has a place."""
    if place is not None:
        take_over(summary["model"], place, tokenizer=tokenizer)
        judged = {key: summary["settings"][key] for key in ("context", "horizon")}  # what the card's figures are about
        change_config(place / "model", calibration=summary["calibration"], judged=judged)
        stated = card_fields(model_card(summary["model"]))[0]
        licence = f"license: {stated['license']}\n" if "license" in stated else ""
        write_text(place / CARD_FILE, _CARD.format(name=place.name, licence=licence, **summary))
    with writing(out / REPORT):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / REPORT, summary, indent=1)


_CARD = """---
{licence}verdict: "{words}"
---
# {name}

{model} with another calibration: a temperature, a width of its intervals by horizon, and whether its directions are
given. {words} {direction[words]}
Figures, settings and sources are in calibration.json.
"""


def _sampler(num_samples: int, seed: int, total: int, progress: Progress | None) -> Sampler:
    """Samples closes of windows, and tells how many of all forecasts are done."""
    done = count(1)

    def tell() -> None:
        if progress is not None:
            progress(next(done), total)

    return lambda forecaster, windows: sample_closes(forecaster, windows, num_samples, seed, tell)


def _fit(bare: Configured, windows: Sequence[Window], grid: Sequence[float], sample: Sampler) -> dict[str, Any]:
    """The temperature of lowest CRPS, then the width of the paths at that temperature."""
    paths = {}
    for temperature in grid:
        paths[temperature], truth = sample(bare.with_settings(**{**SAMPLING, "temperature": temperature}), windows)
    best = fit_temperature(paths, truth)
    return {**SAMPLING, "temperature": best, "width": fit_width(paths[best], truth)}


def read_temperatures(given: Sequence[float] | str) -> list[float]:
    """The grid, ascending; ConfigError: not positive numbers."""
    try:
        grid = sorted({float(part) for part in (given.split(",") if isinstance(given, str) else given)})
    except ValueError:
        grid = []
    if not grid or not all(0 < t < 10 for t in grid):
        raise ConfigError(f"--temperatures '{given}' is not a list of positive numbers; write it as 0.9,1,1.1")
    return grid


def draw(
    markets: Mapping[str, Mapping[str, Series]], context: int, horizon: int, total: int, after: Any, seed: int
) -> tuple[list[Window], list[Window]]:
    """Windows to fit on and later ones to judge on, as many of each market as its bars give; DataError: too few."""
    refused, early, late = Refusals(), [], []
    for place, (market, series) in enumerate(markets.items()):
        share = total // len(markets) + (place < total % len(markets))
        found = draw_windows(series, context, horizon, share, seed, after=after, group=market, refused=refused)
        if found:
            spans = [w.context.future_timestamps[-1] - w.context.cutoff for w in found]
            first, later = split_by_time(np.array([w.context.cutoff for w in found]), max(spans))
            early += [w for w, taken in zip(found, first, strict=True) if taken]
            late += [w for w, taken in zip(found, later, strict=True) if taken]
    if min(len(early), len(late)) < FEWEST:
        reason = "" if early else refused.message(context, horizon) + ". "
        raise DataError(
            f"{reason}{len(early)} windows to fit on and {len(late)} later ones to judge on are too few, {FEWEST} of "
            "each are needed: give more bars, or a smaller --context or --horizon"
        )
    return early, late


def _leaks(forecaster: Configured, windows: Sequence[Window]) -> list[str]:
    """What there is to say about bars that the checkpoint may remember."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = warn_of_leaks([forecaster], windows)
    return [f"{line}. Intervals fitted there come out too narrow: give later bars, or --after" for line in found]


def _clusters(windows: Sequence[Window]) -> Any:
    """(N,) labels of market and time."""
    rows = [(w.group, w.context.cutoff, w.context.future_timestamps[-1] - w.context.cutoff) for w in windows]
    return cluster_labels(pd.DataFrame(rows, columns=["group", "cutoff", "span"]))


def _span(windows: Sequence[Window]) -> dict[str, Any]:
    """How many windows, and from when to when."""
    cutoffs = [w.context.cutoff for w in windows]
    return {"windows": len(windows), "first_cutoff": str(min(cutoffs)), "last_cutoff": str(max(cutoffs))}
