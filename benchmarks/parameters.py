"""Which temperature, top_p, number of paths and context length? CRPS and coverage of each choice, by bar size.

    nice -n 19 python -m benchmarks.parameters --folder /tmp/parameters           # goes on where it stopped
    python -m benchmarks.parameters --folder /tmp/parameters --table             # what is there so far, as Markdown

One setting at a time moves away from the reference (temperature 1, top_p 1, 256 bars of context). Windows are later
dates of symbols that training saw: the held-apart symbols, which judge a checkpoint, are not spent on choosing its
settings. Every setting sees the same windows and the same random numbers, so the ratios to the reference are paired
and their intervals narrow. The checkpoint's own calibration is switched off. All settings of a batch of windows are
run before the next batch, and windows are shuffled: an unfinished study is a smaller study, not a lopsided one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.quality import cluster_labels, say
from benchmarks.quality_data import DATA, real_windows

from kronos.evaluation import metrics
from kronos.evaluation.calibrate import relative_closes
from kronos.evaluation.statistics import cluster_bootstrap, first_mean, ratio_of_means
from kronos.evaluation.windows import Window
from kronos.protocol import Context, Forecaster
from kronos.spec import ForecastSpec
from kronos.workflows.forecasters import load_forecaster

LONGEST = 480  # every window has this much past, so that all context lengths see the same windows
BATCH = 8


@dataclass(frozen=True)
class Setting:
    """One way to ask the model."""

    what: str  # the parameter that moves
    value: float
    temperature: float = 1.0
    top_p: float = 1.0
    context: int = 256
    paths: int = 60


REFERENCE = Setting("reference", 0.0, paths=100)
SETTINGS = (
    REFERENCE,
    *(Setting("temperature", t, temperature=t) for t in (0.6, 0.8, 0.9, 1.1, 1.25)),
    *(Setting("top_p", p, top_p=p) for p in (0.8, 0.9, 0.95, 0.99)),
    *(Setting("context", n, context=n) for n in (32, 64, 128, LONGEST)),
)
#: The first so many of the reference's paths: more paths keep the earlier ones, so these cost nothing.
PATHS = (5, 10, 20, 30, 60, 100)


def study_windows(folder: Path, horizon: int, per_size: int, seed: int) -> list[Window]:
    """At most ``per_size`` windows of each bar size, shuffled."""
    found, _ = real_windows(folder, LONGEST, horizon, 40 * per_size, seed, "later-seen")
    rng = np.random.default_rng([seed, len(found)])
    taken: dict[str, int] = {}
    chosen = []
    for place in rng.permutation(len(found)):
        size = bar_size(found[place].group)
        if taken.setdefault(size, 0) < per_size:
            taken[size] += 1
            chosen.append(found[place])
    return [chosen[i] for i in rng.permutation(len(chosen))]


def bar_size(group: str) -> str:
    """``1h`` of ``crypto_1h``."""
    return group.rsplit("_", 1)[-1]


def shortened(context: Context, length: int) -> Context:
    """The last bars of a context."""
    last = slice(-length, None)
    return dataclasses.replace(context, timestamps=context.timestamps[last], values=context.values[last])


def scores(window: Window, paths: np.ndarray) -> dict[str, float]:
    """Means over the steps, in units of the full context's volatility whatever the model saw of it.

    ``crps`` is the fair estimator, the score of the distribution behind the paths; ``crps_as_is`` scores the paths
    themselves as the forecast, which is what somebody who draws so few of them has.
    """
    close, truth = relative_closes(window, paths)
    samples = close.T
    fair, size = metrics.crps(truth, samples), samples.shape[-1]
    accuracy = np.abs(samples - truth[:, None]).mean(axis=-1)
    out = {"crps": fair.mean(), "crps_as_is": (accuracy - (accuracy - fair) * (size - 1) / size).mean()}
    for level in metrics.LEVELS:
        out[f"covered_{level:.0%}"] = metrics.covered(truth, samples, level).mean()
        out[f"width_{level:.0%}"] = metrics.interval_width(samples, level).mean()
    return {name: float(value) for name, value in out.items()}


def raw_forecaster(model: str, device: str | None, temperature: float, top_p: float) -> Forecaster:
    """The checkpoint with its own calibration switched off, all tokens allowed."""
    return load_forecaster(model, device, calibrated=False, temperature=temperature, top_k=0, top_p=top_p)


def rows_of(setting: Setting, windows: Sequence[Window], model: str, device: str | None, seed: int) -> Iterator[Any]:
    """One row per window; for the reference one per window and number of paths."""
    forecaster = raw_forecaster(model, device, setting.temperature, setting.top_p)
    contexts = [shortened(window.context, setting.context) for window in windows]
    answer = forecaster.sample_paths(
        contexts, ForecastSpec(horizon=len(windows[0].truth), num_samples=setting.paths, seed=seed)
    )
    for window, paths in zip(windows, answer, strict=True):
        where = {"window": window.key, "group": window.group, "what": setting.what, "value": setting.value}
        yield {**where, **scores(window, paths)}
        if setting == REFERENCE:
            for count in PATHS:
                yield {**where, "what": "paths", "value": float(count), **scores(window, paths[:count])}


def run(args: argparse.Namespace) -> None:
    """Fill the folder: one file per (batch of windows, setting)."""
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    windows = study_windows(Path(args.data), args.horizon, args.windows, args.seed)
    record = {key: getattr(args, key) for key in ("model", "horizon", "windows", "seed")} | {
        "clusters": dict(zip([w.key for w in windows], map(str, cluster_labels(windows)), strict=True))
    }
    (folder / "study.json").write_text(json.dumps(record))
    batches = [windows[i : i + BATCH] for i in range(0, len(windows), BATCH)]
    say(f"{len(windows)} windows, {len(SETTINGS)} settings, {len(batches) * len(SETTINGS)} steps")
    for number, batch in enumerate(batches):
        for place, setting in enumerate(SETTINGS):
            final = folder / f"part-{number:03d}-{place:02d}.parquet"
            if final.exists():
                continue
            rows = pd.DataFrame(rows_of(setting, batch, args.model, args.device, args.seed))
            draft = final.with_suffix(".draft")
            rows.to_parquet(draft, index=False)
            os.replace(draft, final)
        say(f"batch {number + 1} of {len(batches)}")


def table(folder: Path) -> pd.DataFrame:
    """Every setting against the reference, by bar size and over all; only batches where every setting is there."""
    parts = sorted(folder.glob("part-*.parquet"))
    by_batch: dict[str, list[Path]] = {}
    for part in parts:
        by_batch.setdefault(part.stem.split("-")[1], []).append(part)
    whole = [part for batch in by_batch.values() if len(batch) == len(SETTINGS) for part in batch]
    if not whole:
        raise SystemExit(f"{folder}: no batch of windows is finished yet; run the study first")
    rows = pd.concat([pd.read_parquet(part) for part in whole], ignore_index=True)
    clusters = json.loads((folder / "study.json").read_text())["clusters"]
    rows["size"] = rows["group"].map(bar_size)
    rows["cluster"] = rows["window"].map(clusters)
    base = rows[rows["what"] == "reference"].set_index("window")
    out = []
    for (what, value), group in rows.groupby(["what", "value"], sort=False):
        score = "crps_as_is" if what == "paths" else "crps"
        for size in ["all", *sorted(rows["size"].unique(), key=_minutes)]:
            mine = group if size == "all" else group[group["size"] == size]
            theirs = base.loc[mine["window"]]
            labels = mine["cluster"].to_numpy()
            pairs = np.column_stack([mine[score], theirs[score]])
            ratio = cluster_bootstrap(labels, pairs, ratio_of_means)
            line = {"what": what, "value": value, "size": size, "windows": len(mine), "clusters": len(set(labels))}
            line |= {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            for level in ("50%", "80%", "90%"):
                line[f"covered_{level}"] = mine[f"covered_{level}"].mean()
            ninety = cluster_bootstrap(labels, mine["covered_90%"], first_mean)
            line |= {"ninety_low": ninety.low, "ninety_high": ninety.high}
            out.append(line)
    return pd.DataFrame(out)


def _minutes(size: str) -> float:
    return float(size[:-1]) * {"m": 1, "h": 60, "d": 1440}[size[-1]]


def markdown(found: pd.DataFrame) -> str:
    """The tables of docs/parameters.md."""
    sizes = [size for size in found["size"].unique() if size != "all"]
    reference = found[(found["what"] == "reference")].set_index("size")
    lines = []
    for what in ("temperature", "top_p", "context", "paths"):
        part = found[found["what"] == what]
        lines += [f"| {what} | CRPS / reference | covers 50 / 80 / 90 % | " + " | ".join(sizes) + " |"]
        lines += ["|---" * (3 + len(sizes)) + "|"]
        shown = {"temperature": 1.0, "top_p": 1.0, "context": 256.0}.get(what)
        everything = [*part["value"].unique(), *([shown] if shown else [])]
        for value in sorted(everything):
            mine = reference if value == shown else part[part["value"] == value].set_index("size")
            row = mine.loc[["all"]].iloc[0]
            cells = [f"**{value:g}**" if value == shown else f"{value:g}", _ratio(row)]
            cells.append(" / ".join(_share(row[f"covered_{level}"]) for level in ("50%", "80%", "90%")))
            cells += [f"{mine.loc[size, 'ratio']:.3f}, {_share(mine.loc[size, 'covered_90%'])}" for size in sizes]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    counts = ", ".join(f"{size} {reference.loc[size, 'windows']}" for size in sizes)
    whole = reference.loc["all"]
    lines.append(f"{whole['windows']} windows ({counts}) in {whole['clusters']} clusters of market and time.")
    return "\n".join(lines)


def _ratio(row: pd.Series) -> str:
    return "1" if row["low"] == row["high"] == 1.0 else f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}".removeprefix("0")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run or print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parameters", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, help="where finished parts are kept")
    parser.add_argument("--table", action="store_true", help="only print what the folder holds, as Markdown")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead")
    parser.add_argument("--model", default="kronos-nano")
    parser.add_argument("--data", default=str(DATA), help="folder of parquet files")
    parser.add_argument("--windows", type=int, default=40, help="of each bar size")
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    args = parser.parse_args(argv)
    if not (args.table or args.json):
        run(args)
    found = table(Path(args.folder))
    print(json.dumps(found.to_dict("records"), indent=1) if args.json else markdown(found))


if __name__ == "__main__":
    main()
