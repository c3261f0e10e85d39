"""How fast signals are made: symbols × dates through the backtest's own road, beside the loop that recomputes all.

    python -m benchmarks.signals                                        # 300 symbols × 20 dates × 5 paths, wall clock
    python -m benchmarks.signals --dates 2 --threads 1 --clock cpu      # a part, in processor time, on a busy machine

Symbols are windows of the packaged index samples, dated onto one calendar. The road is that of ``kronos backtest``:
past of each date, ``KronosPredictor.sample_paths`` with the packaged checkpoint, signals, one Parquet file a date. The
oracle encodes every path, computes the whole window for every bar and sorts all tokens to sample, as the published loop
does; it is timed on a part of the symbols of one date and a few of its steps, in the same process, and scaled up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks import decode

from kronos.backtesting.signals import make_signals
from kronos.bars import sample_bars
from kronos.bars.arrays import time_features
from kronos.bars.schema import FEATURES
from kronos.bars.transform import get_transform
from kronos.inference.oracle import recompute_everything
from kronos.inference.predictor import KronosPredictor
from kronos.inference.sampling import uniforms
from kronos.inference.settings import DecodeSettings
from kronos.spec import ForecastSpec

LOOKBACK, HORIZON = 90, 10
EVERY = 5  # sessions from one date to the next
TARGET = 120.0  # seconds for 300 symbols × 20 dates × 5 paths on two quiet cores


def market(symbols: int, sessions: int) -> pd.DataFrame:
    """So many symbols on one calendar: windows of the S&P 500 and Nasdaq samples, 13 bars apart."""
    tables = []
    for name in ("sp500", "nasdaq"):
        bars = sample_bars(name)
        days = bars["timestamp"].tail(sessions).to_numpy()
        count = min((len(bars) - sessions) // 13, -(-symbols // 2))
        for number in range(count):
            piece = bars.iloc[number * 13 : number * 13 + sessions]
            tables.append(piece.assign(timestamp=days, symbol=f"{name}{number:03d}"))
    joined = pd.concat(tables[:symbols], ignore_index=True)
    joined.attrs = {}
    return joined


def oracle_seconds(predictor: Any, bars: pd.DataFrame, paths: int, series: int, steps: int) -> float:
    """Seconds a (symbol, date) of the slow loop: ``series`` symbols, ``steps`` of the horizon, the rest scaled up."""
    transform = get_transform(predictor.tokenizer.config.bar_transform)
    features, stamps = [], []
    for _, table in list(bars.groupby("symbol"))[:series]:
        values = table[list(FEATURES)].to_numpy(float)[: LOOKBACK + transform.lost]
        features.append(transform.encode(values, transform.fit(values, clip=predictor.clip)))
        whole = time_features(pd.DatetimeIndex(table["timestamp"]))
        stamps.append(whole[transform.lost : LOOKBACK + HORIZON + transform.lost])
    draws = uniforms(0, [number.to_bytes(4, "little") for number in range(series)], paths, HORIZON)
    x, times, drawn = (torch.from_numpy(np.stack(part)) for part in (features, stamps, list(draws)))
    asked = ForecastSpec(window_stride=1)
    settings = DecodeSettings.resolve(asked, predictor.model.config, predictor.max_context)
    settings = replace(settings, follows_torch=True)

    def timed(chosen: list[int]) -> float:
        return decode.seconds(
            lambda: recompute_everything(
                predictor.model,
                predictor.tokenizer,
                x,
                times,
                drawn,
                settings,
                steps=chosen,
            )
        )

    timed([])
    rest = timed([])
    step = max(0.0, timed(decode.spread(HORIZON, steps)) - rest) / steps
    return (rest + step * HORIZON) / series


def measure(symbols: int, dates: int, paths: int, oracle_series: int, oracle_steps: int) -> dict[str, Any]:
    """Our road on all of it, the oracle on a part."""
    bars = market(symbols, LOOKBACK + 2 + EVERY * (dates - 1) + HORIZON)
    predictor = KronosPredictor.from_pretrained("kronos-nano", device="cpu")
    spec = ForecastSpec(horizon=HORIZON, num_samples=paths, context_length=LOOKBACK, calendar="XNYS")
    sessions = pd.DatetimeIndex(np.unique(bars["timestamp"]))[LOOKBACK + 1 :]
    days = sessions[::EVERY][:dates]
    spans = {symbol: [(sessions[0], sessions[-1])] for symbol in bars["symbol"].unique()}
    with tempfile.TemporaryDirectory() as folder:
        make_signals(bars, spans, days[:1], spec, predictor, Path(folder) / "warm")
        theirs = oracle_seconds(predictor, bars, paths, oracle_series, oracle_steps)
        ours = decode.seconds(lambda: make_signals(bars, spans, days, spec, predictor, Path(folder) / "timed"))
    count = symbols * dates
    return {
        "symbols": symbols,
        "dates": dates,
        "paths": paths,
        "threads": torch.get_num_threads(),
        "clock": decode._clock,
        "seconds": ours,
        "milliseconds_each": 1000 * ours / count,
        "signals_per_second": count / ours,
        "oracle_series": oracle_series,
        "oracle_steps_timed": oracle_steps,
        "oracle_milliseconds_each": 1000 * theirs,
        "ratio": theirs * count / ours,
        "seconds_of_300_by_20": ours / count * 6000,
        "target_seconds": TARGET,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("symbols", 300), ("dates", 20), ("paths", 5), ("oracle-series", 20), ("oracle-steps", 2)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=decode.CLOCKS, default="wall", help="cpu: processor time, with --threads 1")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu adds up the threads' time; use it with --threads 1")
    decode._clock = args.clock
    torch.set_num_threads(args.threads)
    found = measure(args.symbols, args.dates, args.paths, args.oracle_series, args.oracle_steps)
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['symbols']} symbols × {found['dates']} dates × {found['paths']} paths: {found['seconds']:.1f} s "
        f"({found['clock']}, {found['threads']} threads), {found['milliseconds_each']:.1f} ms each; the oracle "
        f"{found['oracle_milliseconds_each']:.0f} ms each, {found['ratio']:.1f}x; 300 × 20 would take "
        f"{found['seconds_of_300_by_20']:.0f} s of the {TARGET:.0f} s allowed"
    )


if __name__ == "__main__":
    main()
