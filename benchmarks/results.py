"""What was measured, kept as JSON in ``benchmarks/results`` and shown as the table of ``docs/performance.md``.

python -m benchmarks.results        # writes the table anew from the kept files; nothing is measured
"""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks.results -->", "<!-- end of figures -->"

CLOCKS = {"wall": "wall clock", "cpu": "processor time"}
_DECODE = {
    "mini-1": "mini, context 400, horizon 120, 1 path",
    "mini-30": "same, 30 paths",
    "small-1": "small, 400/120, 1 path, stride 64",
    "base-5": "base, 400/120, 5 paths, stride 64",
    "universe": "universe: 300 series, 90/10, 5 paths, mini",
}


def keep(name: str, report: dict[str, Any]) -> None:
    """Writes a report with the day, the machine, and its load over the last quarter of an hour."""
    RESULTS.mkdir(exist_ok=True)
    where = {"date": date.today().isoformat(), "machine": machine(), "load": round(os.getloadavg()[2], 1)}
    (RESULTS / f"{name}.json").write_text(json.dumps(where | {"report": report}, indent=2) + "\n", encoding="utf-8")


def kept(name: str) -> dict[str, Any]:
    """What ``keep`` wrote, empty where nothing was."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def machine() -> str:
    """The processor, its cores, and torch's version."""
    from importlib.metadata import version

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} cores of {model}, torch {version('torch')}"


def decode_rows(reports: dict[str, Any]) -> list[str]:
    rows = ["| case | oracle | engine | ratio | target | reached of a plain product |", "|---|---|---|---|---|---|"]
    for name, r in reports.items():
        spread = " ({:.3g}–{:.3g})".format(*r["ratio_range"]) if r["repeats"] > 1 else ""
        share = f"{r['engine_gflops']:.0f} of {r['plain_gflops']:.0f} GFLOP/s"
        if "engine_gbytes" in r:
            share = f"{r['engine_gbytes']:.1f} of {r['plain_gbytes']:.0f} GB/s"
        rows.append(
            f"| {_DECODE.get(name, name)} | {r['oracle_seconds']:.3g} s | {r['engine_seconds']:.3g} s "
            f"| **{r['ratio']:.3g}×**{spread} | {r['target']:g}× | {share} |"
        )
    return rows


def decode_note(found: dict[str, Any]) -> str:
    reports = found["report"].values()
    one = next(iter(reports))
    timed = ", ".join(f"{r['oracle_steps_timed']} of {r['horizon']}" for r in reports)
    clock = CLOCKS[one["clock"]]
    threads = f"{one['threads']} thread{'s' * (one['threads'] > 1)}"
    repeats = f"medians of {one['repeats']} runs" if one["repeats"] > 1 else "one run"
    return (
        f"{found['date']}, {found['machine']}, float32, {one['steps']} steps, {threads}, {clock}, "
        f"{repeats}, load {found['load']} "
        f"(1 is this benchmark alone on one core). Steps of the oracle that were timed: {timed}; of the universe "
        f"{[r['oracle_series'] for r in reports][-1]} series."
    )


def other_rows() -> list[str]:
    rows = []
    if found := kept("memory"):
        r = found["report"]
        rows.append(
            f"| peak memory of 100 paths, 2000/48, mini | {r['needed_mb']:.0f} MB needed, {r['peak_mb']:.0f} MB taken "
            f"| {r['ratio']:.2f} | at most 1.5 |"
        )
    if found := kept("start"):
        r = found["report"]
        rows.append(
            f"| `kronos forecast`, whole process | `import torch` {r['import_torch_seconds']:.2f} s, forecast "
            f"{r['forecast_seconds']:.2f} s | {r['forecast_seconds'] / r['limit_seconds']:.2f} of the limit "
            f"| at most {r['limit_seconds']:.2f} s |"
        )
    if found := kept("windows"):
        r = found["report"]
        rows.append(
            f"| training windows from memory-mapped arrays | {r['arrays_bars_per_second'] / 1e6:.0f} million bars/s, "
            f"slices of a table {r['table_bars_per_second'] / 1e6:.2f} | {r['ratio']:.0f}× | 50× |"
        )
    return ["| what | measured | ratio | target |", "|---|---|---|---|", *rows] if rows else []


def precision_rows() -> list[str]:
    if not (found := kept("precision")):
        return []
    rows = [
        "| dtype | "
        + " | ".join(f"{name}, 1 path" for name in found["report"]["seconds"])
        + " | same greedy pair | same drawn pair | CRPS of the close, ratio to float32 |",
        "|---" * (len(found["report"]["seconds"]) + 4) + "|",
    ]
    for dtype, r in found["report"]["dtypes"].items():
        times = " | ".join(f"{one[dtype]:.3g} s" for one in found["report"]["seconds"].values())
        rows.append(
            f"| {dtype} | {times} | {r['same_greedy']:.1%} | {r['same_drawn']:.1%} | {r['crps_ratio']:.4f} "
            f"± {r['crps_ratio_error']:.4f} |"
        )
    r = found["report"]
    where = f"{found['date']}, {found['machine']}, {r['threads']} thread{'s' * (r['threads'] > 1)}"
    return [*rows, "", f"{where}, {CLOCKS[r['clock']]}, load {found['load']}."]


def forecast_rows() -> list[str]:
    """Milliseconds a forecast, the published loop beside ours in the same run; GPU cells once there are any."""
    if not (found := kept("table")):
        return []
    on_gpus = kept("gpu").get("report", {})
    gpu = {(r["preset"], r["batch"], r["paths"]): r for r in on_gpus.get("rows", [])}
    rows = [
        "| checkpoint | series at once | paths | CPU: published loop | here | GPU: published loop | here |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, r in found["report"].items():
        on_gpu = gpu.get((r["preset"], r["series"], r["samples"]), {})
        cells = [on_gpu.get(way, {}).get("ms_a_forecast") for way in ("oracle", "graphs")]
        theirs, ours = (1000 * r[f"{side}_seconds"] / r["series"] for side in ("oracle", "engine"))
        shown = " | ".join("not measured" if cell is None else f"{cell:,.3g} ms" for cell in cells)
        rows.append(
            f"| {name.split()[0]} | {r['series']} | {r['samples']} | {theirs:,.0f} ms | {ours:,.0f} ms, "
            f"**{r['ratio']:.3g}×** | {shown} |"
        )
    one = next(iter(found["report"].values()))
    clock = CLOCKS[one["clock"]]
    where = f"Context 400, horizon 120; CPU: {found['date']}, {found['machine']}, {one['threads']} thread, {clock}."
    if on_gpus:
        where += f" GPU: {on_gpus['date']}, {on_gpus['device']}."
    return [*rows, "", where]


def table() -> str:
    """The generated part of the page."""
    parts = []
    if found := kept("decode"):
        parts += [decode_note(found), "\n".join(decode_rows(found["report"]))]
    parts += ["\n".join(rows) for rows in (forecast_rows(), other_rows(), precision_rows()) if rows]
    return "\n\n".join(parts)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
