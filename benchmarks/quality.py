"""How good is a checkpoint? One command, one page of figures, each beside its yardstick.

    python -m benchmarks.quality --model kronos-nano --json
    python -m benchmarks.quality --model none                 # the baselines alone

Windows: context 256, horizon 24, later dates of held-apart symbols of ../shared/data, the same number of windows
from every file as far as its bars go, truths never overlapping within a symbol; every window weighs the same.
Scores are of the close, in log price over the context's one-bar volatility. Intervals are 95 %, by a bootstrap of
clusters (market × block of time no shorter than the horizon). ``--horizon 96 --at 1,6,24,96`` judges the close at each
of these bars ahead, by market, on the same forecasts. Without ../shared/data the bars that ship in the package are
used, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.quality_data import DATA, WANTED, random_walks, real_windows, sample_windows
from benchmarks.quality_tables import by_horizon, by_market, show_horizon, show_market, volatility_and_touch

from kronos.evaluation import metrics
from kronos.evaluation.baselines import BASELINES, make_baselines
from kronos.evaluation.rolling import score_window
from kronos.evaluation.statistics import cluster_bootstrap, first_mean, ratio_of_means, slope, time_blocks
from kronos.evaluation.touches import EVENTS, FIRST
from kronos.evaluation.windows import Window
from kronos.protocol import Forecaster, sample_in_batches
from kronos.spec import ForecastSpec
from kronos.workflows.forecasters import load_forecaster

YARDSTICK = "rw-resampled"
_WANTED = ("rw-resampled", "rw-resampled-drift", "rw-gaussian", "ewma", "garch", "har", "last-close")
DEFAULT_BASELINES = tuple(name for name in _WANTED if name in BASELINES)


def say(text: str) -> None:
    """Progress goes to stderr, so that --json prints one document only."""
    print(text, file=sys.stderr, flush=True)


def scored(forecaster: Forecaster, windows: list[Window], samples: int, seed: int) -> pd.DataFrame:
    """One row per window: horizon means of the step scores, and the whole-window numbers."""
    rows, began = [], time.perf_counter()
    contexts = [window.context for window in windows]
    horizon = len(windows[0].truth)
    for index, paths in sample_in_batches(
        forecaster, contexts, ForecastSpec(horizon=horizon, num_samples=samples, seed=seed)
    ):
        score = score_window(windows[index], paths, seed)
        row: dict[str, Any] = {name: float(v.mean()) for name, v in score.steps.items() if name != "hit"}
        row["hit"] = float(score.steps["hit"][-1])
        row["mean_move"], row["true_last_move"] = score.steps["predicted_move"][-1], score.steps["true_move"][-1]
        row["pit_values"], row["crps_steps"] = score.steps["pit"], score.steps["crps"]
        row["covered_steps"] = score.steps["covered_90"]
        rows.append(row | score.whole | of_window(windows[index]))
        if sys.stderr.isatty() or (index + 1) % 256 == 0:
            say(f"{forecaster.name}: {index + 1}/{len(windows)} windows, {time.perf_counter() - began:.0f} s")
    table = pd.DataFrame(rows)
    table["qlike"] = metrics.qlike(table["true_volatility"] ** 2, table["variance"])
    for name, events in (("brier", EVENTS), ("first_brier", FIRST)):
        table[name] = table[[f"brier_{event}" for event in events]].mean(axis=1)
    table.attrs["seconds"] = time.perf_counter() - began
    return table


def of_window(window: Window) -> dict[str, Any]:
    """Where and when, as the figures of the evaluation want it."""
    cutoff, times = window.context.cutoff, window.context.future_timestamps
    whole = {"steps": len(times), "span": pd.Timedelta(times[-1] - cutoff)}
    return {"group": window.group, "cutoff": cutoff, "date": cutoff, **whole}


def cluster_labels(windows: list[Window]) -> np.ndarray:
    """Market (the file name without its bar size) and block of time."""
    cutoffs = np.array([w.context.cutoff for w in windows])
    spans = np.array([w.context.future_timestamps[-1] - w.context.cutoff for w in windows])
    steps = {}  # one block length per file: the usual span, not stretched by a holiday
    for group in {w.group for w in windows}:
        here = np.array([w.group == group for w in windows])
        steps[group] = np.median(spans[here].astype(np.int64)).astype("timedelta64[ns]")
    lengths = np.array([steps[w.group] for w in windows])
    blocks = time_blocks(cutoffs, lengths)
    return np.array([f"{w.group.rsplit('_', 1)[0]}|{block}" for w, block in zip(windows, blocks, strict=True)])


def figures(table: pd.DataFrame, yardstick: pd.DataFrame, clusters: np.ndarray) -> dict[str, Any]:
    """The summary of one forecaster on the real windows."""
    pairs = np.column_stack([table["crps"], yardstick["crps"]])
    by_file = pd.DataFrame(pairs, columns=["m", "y"]).groupby(table["group"]).mean()
    out: dict[str, Any] = {
        "crps": float(table["crps"].mean()),
        "crps_ratio": cluster_bootstrap(clusters, pairs, ratio_of_means).as_dict(),
        "crps_ratio_files_equal": float((by_file["m"] / by_file["y"]).mean()),
        "energy_ratio": float(table["energy"].mean() / yardstick["energy"].mean()),
        "absolute_error_ratio": float(table["absolute_error"].mean() / yardstick["absolute_error"].mean()),
    }
    for level in ("50", "80", "90"):
        if table[f"covered_{level}"].notna().any():
            out[f"coverage_{level}"] = cluster_bootstrap(clusters, table[f"covered_{level}"], first_mean).as_dict()
            out[f"width_{level}"] = float(table[f"width_{level}"].mean())
    pit = np.concatenate(table["pit_values"].to_list())
    out |= {
        "pit_ks": metrics.ks_distance(pit),
        "pit_histogram": (np.histogram(pit, bins=10, range=(0, 1))[0] / pit.size).round(4).tolist(),
        "first_open_gap_median": float(table["first_gap"].median()),
        "first_open_gap_true_median": float(table["true_first_gap"].median()),
        "invalid_bars": float(table["invalid"].mean()),
        "hit_rate_last_step": float(table["hit"].mean()),
        "slope_predicted_on_past": slope(table["past_move"], table["mean_move"]),
        "slope_true_on_past": slope(table["past_move"], table["true_last_move"]),
        **volatility_and_touch(table, yardstick),
        "crps_ratio_by_step": _by_step(table, yardstick),
        "seconds": round(table.attrs["seconds"], 1),
    }
    return out


def _by_step(table: pd.DataFrame, yardstick: pd.DataFrame) -> list[float]:
    mine, theirs = (np.stack(t["crps_steps"].to_list()).mean(axis=0) for t in (table, yardstick))
    return [round(float(v), 4) for v in mine / theirs]


def against(table: pd.DataFrame, others: dict[str, pd.DataFrame], clusters: np.ndarray) -> dict[str, Any]:
    """CRPS of one forecaster over that of each other one on the same windows, with its interval."""
    return {
        name: cluster_bootstrap(clusters, np.column_stack([table["crps"], other["crps"]]), ratio_of_means).as_dict()
        for name, other in others.items()
    }


def walk_figures(forecaster: Forecaster, walks: list[Window], samples: int, seed: int) -> dict[str, float]:
    """Mean reversion or momentum that is not there: the slope on synthetic random walks (truth 0)."""
    table = scored(forecaster, walks, samples, seed)
    x, y = table["past_move"].to_numpy(), table["mean_move"].to_numpy()
    found = slope(x, y)
    residual = (y - y.mean()) - found * (x - x.mean())
    error = float(np.sqrt(residual @ residual / (len(x) - 2) / ((x - x.mean()) @ (x - x.mean()))))
    return {
        "slope": found,
        "standard_error": error,
        "coverage_90": float(table["covered_90"].mean()),
        "first_open_gap_median": float(table["first_gap"].median()),
    }


def tokenizer_figures(forecaster: Forecaster, windows: list[Window]) -> dict[str, Any] | None:
    """What the tokenizer loses and how much of its codebooks it uses; None for a forecaster without one.

    Mean squared error per feature of decode(encode(context)) in the units that the tokenizer reads; per codebook the
    share of codes seen at least once, and the perplexity (the number of equally used codes of the same entropy) as a
    share. Both shares depend on how many bars were read, which is given beside them.
    """
    predictor = getattr(forecaster, "inner", None)
    if predictor is None:
        return None
    import torch

    tokenizer, transform = predictor.tokenizer, predictor.transform
    errors: list[np.ndarray] = []
    used = [np.zeros(1 << bits, dtype=np.int64) for bits in (tokenizer.config.s1_bits, tokenizer.config.s2_bits)]
    with torch.inference_mode():
        for window in windows:
            values = window.context.values
            features = torch.from_numpy(transform.encode(values, transform.fit(values, clip=predictor.clip)))[None]
            features = features.to(predictor.device)
            ids = tokenizer.encode(features, half=True)
            errors.append(((tokenizer.decode(ids, half=True) - features) ** 2)[0].float().cpu().numpy())
            for counts, code in zip(used, ids, strict=True):
                counts += np.bincount(code.cpu().numpy().ravel(), minlength=len(counts))
    mean = np.concatenate(errors).mean(axis=0)
    out: dict[str, Any] = {"bars": int(used[0].sum()), "mse_by_feature": [round(float(v), 5) for v in mean]}
    for name, counts in zip(("s1", "s2"), used, strict=True):
        share = counts[counts > 0] / counts.sum()
        out[f"{name}_used"] = float((counts > 0).mean())
        out[f"{name}_perplexity_share"] = float(np.exp(-(share * np.log(share)).sum()) / len(counts))
    return out


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the document that --json prints."""
    folder = Path(args.data)
    if folder.is_dir() and any(folder.glob("*.parquet")):
        windows, record = real_windows(folder, args.context, args.horizon, args.windows, args.seed, args.scope)
    else:
        say(f"no bars in {folder}: using the small sample that ships with the package. Its figures decide nothing.")
        windows, record = sample_windows(args.context, args.horizon, args.windows, args.seed)
    if not windows:
        raise SystemExit("no test window could be drawn; see --context, --horizon and --data")
    say(f"{len(windows)} windows from {len(record['windows_by_file'])} files")
    names = list(dict.fromkeys([YARDSTICK, *args.baselines.split(",")]))
    forecasters: list[Forecaster] = list(make_baselines(names))
    if args.model != "none":
        options = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
        forecasters.append(load_forecaster(args.model, args.device, **options))
    clusters = cluster_labels(windows)
    steps = sorted({min(int(step), args.horizon) for step in args.at.split(",")})
    walks = random_walks(args.walks, args.context, args.horizon, args.seed)
    tables: dict[str, pd.DataFrame] = {}
    for forecaster in forecasters:
        table = tables[forecaster.name] = scored(forecaster, windows, args.samples, args.seed)
        ratio = table["crps"].mean() / tables[YARDSTICK]["crps"].mean()
        say(f"{forecaster.name}: CRPS ratio {ratio:.4f}, 90 % interval covers {table['covered_90'].mean():.1%}")
    fallbacks = {f.name: getattr(f, "fallbacks", 0) for f in forecasters}  # before the walks add theirs
    results = {}
    for forecaster in forecasters:
        table = tables[forecaster.name]
        result = figures(table, tables[YARDSTICK], clusters)
        result["random_walks"] = walk_figures(forecaster, walks, args.samples, args.seed)
        result["by_file"] = by_market(table, tables[YARDSTICK])
        if forecaster is forecasters[-1]:
            result["against"] = against(table, {n: t for n, t in tables.items() if n != forecaster.name}, clusters)
            result["by_horizon"] = by_horizon(tables, forecaster.name, clusters, steps)
        result["fallbacks"] = fallbacks[forecaster.name]
        tokens = tokenizer_figures(forecaster, windows)
        results[forecaster.name] = result | ({"tokenizer": tokens} if tokens else {})
    settings = {k: v for k, v in vars(args).items() if k not in {"json", "output"}}
    command = f"python -m benchmarks.quality --model {args.model} --windows {args.windows} --horizon {args.horizon} "
    command += f"--seed {args.seed} --scope {args.scope} --data {args.data} --json"
    return {
        "command": command,
        "settings": settings,
        "yardstick": YARDSTICK,
        "windows": len(windows),
        "clusters": len(set(clusters)),
        "selection": record,
        "forecasters": results,
    }


def show(document: dict[str, Any]) -> None:
    """The document as plain text."""
    print(f"{document['windows']} windows, {document['clusters']} clusters; CRPS against {document['yardstick']}")
    print(f"files without windows: {', '.join(document['selection'].get('files_without_windows', [])) or 'none'}")
    head = f"{'forecaster':20} {'CRPS ratio [95 %]':25} {'files =':>7} {'cov50':>6} {'cov80':>6} {'cov90':>6}"
    head += f" {'PIT KS':>6} {'gap':>5} {'invalid':>7} {'QLIKE':>6} {'vol corr':>8} {'vol slope':>9}"
    print(f"{head} {'slope':>6} {'RW slope (se)':>15}")
    for name, f in document["forecasters"].items():
        r, walk = f["crps_ratio"], f["random_walks"]
        cover = " ".join(f"{f.get(f'coverage_{c}', {}).get('value', float('nan')):6.3f}" for c in (50, 80, 90))
        ratio = f"{r['value']:.4f} [{r['low']:.4f}, {r['high']:.4f}]"
        print(
            f"{name:20} {ratio:25} {f['crps_ratio_files_equal']:7.4f} {cover} {f['pit_ks']:6.3f} "
            f"{f['first_open_gap_median']:5.2f} {f['invalid_bars']:7.4f} {f['qlike']['value']:6.3f} "
            f"{f['log_correlation']['value']:8.3f} {f['slope']['value']:9.3f} "
            f"{f['slope_predicted_on_past']:6.3f} {walk['slope']:7.3f} ({walk['standard_error']:.3f})"
        )
    name, last = list(document["forecasters"].items())[-1]
    for title, lines in (
        ("by market and bar size, CRPS over " + document["yardstick"], show_market(last["by_file"])),
        ("by bars ahead and market, CRPS", show_horizon(last["by_horizon"])),
    ):
        print(f"\n{name} {title}:")
        print(*lines, sep="\n")
    print(f"repeat with: {document['command']}")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kronos-nano", help="checkpoint name or folder; 'none': baselines only")
    parser.add_argument("--baselines", default=",".join(DEFAULT_BASELINES), help="comma-separated")
    parser.add_argument("--data", default=str(DATA), help="folder of parquet files")
    parser.add_argument("--scope", choices=list(WANTED), default="held-apart")
    parser.add_argument("--windows", type=int, default=600)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--at", default="1,6,24", help="bars ahead at which the close is judged, up to --horizon")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--walks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--output", help="also write the JSON document to this file")
    args = parser.parse_args(argv)
    document = measure(args)
    text = json.dumps(document, indent=1, default=str)
    if args.output:
        Path(args.output).write_text(text + "\n", encoding="utf-8")
    if args.json:
        print(text)
    else:
        show(document)


if __name__ == "__main__":
    main()
