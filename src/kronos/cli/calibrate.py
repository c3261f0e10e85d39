"""``kronos calibrate``: make a checkpoint's intervals cover what they say, and show whether they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.common import emit_json, note, output, progress
from kronos.cli.options import AsJson, Defects, Device

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kronos.evaluation.calibrate import Judgement, WidthCurve
    from kronos.evaluation.windows import Series, Window
    from kronos.protocol import Progress
    from kronos.workflows.forecasters import Configured

REPORT = "calibration.json"
FEWEST = 20  # windows, to fit on as to judge on


def calibrate(
    bars: Annotated[
        list[str], typer.Argument(metavar="BARS", help="Files of bars, folders or stores of them, or samples.")
    ],
    model: Annotated[str, typer.Option(help="The checkpoint: a name, a folder or a hub id.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the calibrated copy of the checkpoint.")],
    horizon: Annotated[int, typer.Option(min=1, help="Bars ahead: the longest that shall be right.")] = 24,
    context: Annotated[int, typer.Option(min=3, help="Bars seen.")] = 256,
    windows: Annotated[int, typer.Option(min=2 * FEWEST, help="The earlier half fits, the later half judges.")] = 400,
    temperatures: Annotated[str, typer.Option(help="To choose from, by CRPS.")] = "0.8,0.9,1,1.1,1.25",
    samples: Annotated[int, typer.Option(min=19, help="Sample paths; 19 carry a 90 % interval.")] = 60,
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only forecast bars later than this: the end of the training.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the windows and of the paths.")] = 0,
    device: Device = None,
    on_defect: Defects = "strict",
    as_json: AsJson = False,
) -> None:
    """Fit a temperature and a width by horizon on past windows, and judge them on later ones.

    Writes a copy of the checkpoint whose forecasts use them from then on. What the checkpoint had of this kind is
    replaced, not added to.
    """
    from kronos.errors import ConfigError
    from kronos.evaluation.calibrate import sample_closes
    from kronos.evaluation.rolling import warn_of_leaks
    from kronos.workflows.forecasters import load_forecaster
    from kronos.workflows.markets import find_bars, load_markets, read_date

    if (out / "model").exists():
        raise ConfigError(f"{out} holds a checkpoint already; name another --out")
    grid = read_temperatures(temperatures)
    markets, hashes = load_markets(find_bars(bars), on_defect)
    fitting, judging = draw(markets, context, horizon, windows, read_date(after), seed)
    own = load_forecaster(model, device)
    notes = leaks(warn_of_leaks, own, fitting)
    with progress("Calibrating") as report:
        told = Rounds(report, [len(fitting)] * len(grid) + [len(judging)] * 2)
        bare = load_forecaster(model, device, calibrated=False)
        temperature, width = fit(bare, fitting, grid, samples, seed, told)
        before, truth = sample_closes(own, judging, samples, seed, told.next())
        settings = {"temperature": temperature, "top_k": 0, "top_p": 1.0, "width": width.as_dict()}
        store(model, out, settings)
        after_paths, _ = sample_closes(load_forecaster(str(out), device), judging, samples, seed, told.next())
    judged = judgement(before, after_paths, truth, judging)
    document = {
        "model": model,
        "calibration": settings,
        "words": judged.words,
        **figures(judged),
        "fitted_on": span(fitting),
        "judged_on": span(judging),
        "settings": {"context": context, "horizon": horizon, "samples": samples, "seed": seed, "temperatures": grid},
        "data": hashes,
        "notes": notes,
    }
    (out / REPORT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        emit_json(document)
        return
    show(document, judged)


class Rounds:
    """One bar over several passes through windows.

    Args:
        report: told the windows done of all.
        sizes: windows of each pass.
    """

    def __init__(self, report: Progress, sizes: Sequence[int]) -> None:
        self._report, self._sizes, self._pass = report, sizes, -1

    def next(self) -> Callable[[int], None]:
        """The listener of the next pass."""
        self._pass += 1
        before = sum(self._sizes[: self._pass])
        return lambda done: self._report(before + done, sum(self._sizes))


def read_temperatures(text: str) -> list[float]:
    """The grid.

    Raises:
        ConfigError: not positive numbers.
    """
    from kronos.errors import ConfigError

    try:
        grid = sorted({float(part) for part in text.split(",")})
    except ValueError:
        grid = []
    if not grid or not all(0 < t < 10 for t in grid):
        raise ConfigError(f"--temperatures '{text}' is not a list of positive numbers; write it as 0.9,1,1.1")
    return grid


def draw(
    markets: dict[str, dict[str, Series]], context: int, horizon: int, total: int, after: Any, seed: int
) -> tuple[list[Window], list[Window]]:
    """Windows to fit on and later ones to judge on, the same number of each market as far as its bars go.

    Raises:
        DataError: too few.
    """
    import numpy as np

    from kronos.errors import DataError
    from kronos.evaluation.calibrate import split_by_time
    from kronos.evaluation.rolling import no_windows_message
    from kronos.evaluation.windows import Refusals, draw_windows

    refused, early, late = Refusals(), [], []
    for place, (market, series) in enumerate(markets.items()):
        share = total // len(markets) + (place < total % len(markets))
        found = draw_windows(series, context, horizon, share, seed, after=after, group=market, refused=refused)
        if not found:
            continue
        spans = [w.context.future_timestamps[-1] - w.context.cutoff for w in found]
        first, later = split_by_time(np.array([w.context.cutoff for w in found]), max(spans))
        early += [w for w, taken in zip(found, first, strict=True) if taken]
        late += [w for w, taken in zip(found, later, strict=True) if taken]
    if min(len(early), len(late)) < FEWEST:
        reason = "" if early else no_windows_message(context, horizon, refused) + ". "
        raise DataError(
            f"{reason}{len(early)} windows to fit on and {len(late)} later ones to judge on are too few, {FEWEST} of "
            "each are needed: give more bars, or a smaller --context or --horizon"
        )
    return early, late


def leaks(warn: Callable[..., list[str]], forecaster: Configured, windows: list[Window]) -> list[str]:
    """What there is to say about bars that the checkpoint may remember."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = warn([forecaster], windows)
    return [f"{line}. Intervals fitted there come out too narrow: give later bars, or --after" for line in found]


def fit(
    bare: Configured, windows: list[Window], grid: list[float], samples: int, seed: int, told: Rounds
) -> tuple[float, WidthCurve]:
    """The temperature of lowest CRPS, then the width of the paths at that temperature."""
    from kronos.evaluation.calibrate import fit_temperature, fit_width, sample_closes

    paths = {}
    for temperature in grid:
        asked = bare.asked(temperature, top_k=0, top_p=1.0)
        paths[temperature], truth = sample_closes(asked, windows, samples, seed, told.next())
    best = fit_temperature(paths, truth)
    return best, fit_width(paths[best], truth)


def store(model: str, out: Path, calibration: dict[str, Any]) -> None:
    """A copy of the pair with the calibration in the network's config."""
    from kronos.model.checkpoint import CONFIG_FILE, read_config
    from kronos.training.finetune import take_over

    take_over(model, out)
    path = out / "model" / CONFIG_FILE
    values = {**read_config(path), "calibration": calibration}
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def judgement(
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    windows: list[Window],
) -> Judgement:
    """Before and after on windows that were not fitted, in clusters of market and time."""
    import pandas as pd

    from kronos.evaluation.calibrate import judge
    from kronos.evaluation.summary import cluster_labels

    rows = pd.DataFrame(
        {
            "group": [w.group for w in windows],
            "cutoff": [w.context.cutoff for w in windows],
            "span": [w.context.future_timestamps[-1] - w.context.cutoff for w in windows],
        }
    )
    return judge(before, after, truth, cluster_labels(rows))


def figures(judged: Judgement) -> dict[str, Any]:
    """The judgement for JSON."""
    sides = {"before": judged.before, "after": judged.after}
    coverage = {
        side: {f"{level:.0%}": found.as_dict() for level, found in levels.items()} for side, levels in sides.items()
    }
    return {"coverage": coverage, "crps_ratio": judged.crps_ratio.as_dict()}


def span(windows: list[Window]) -> dict[str, Any]:
    """How many windows, and from when to when."""
    first, last = min(w.context.cutoff for w in windows), max(w.context.cutoff for w in windows)
    return {"windows": len(windows), "first_cutoff": str(first), "last_cutoff": str(last)}


def show(document: dict[str, Any], judged: Judgement) -> None:
    """The coverage before and after, and the verdict."""
    from rich.table import Table

    for line in document["notes"]:
        note(f"Warning: {line}.")
    found = document["calibration"]
    curve = ", ".join(f"{h}: {f:g}" for h, f in zip(found["width"]["horizon"], found["width"]["factor"], strict=True))
    output.print(f"Temperature {found['temperature']:g}; width by bars ahead {curve}.", markup=False)
    table = Table(title=f"Coverage of {document['judged_on']['windows']} later windows", title_justify="left")
    for title in ("interval", "before", "95 %", "after", "95 %"):
        table.add_column(title, justify="right")
    for level, before in judged.before.items():
        cells = [f"{level:.0%}"]
        for side in (before, judged.after[level]):
            cells += [f"{side.value:.3f}", f"{side.low:.3f} – {side.high:.3f}"]
        table.add_row(*cells)
    output.print(table)
    output.print(document["words"], markup=False, soft_wrap=True)
