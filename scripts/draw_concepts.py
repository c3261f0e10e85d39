"""Draws the pictures of docs/concepts.md from the packaged model and the packaged S&P 500 bars.

python scripts/draw_concepts.py [OUT]        # default: docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from kronos import KronosPredictor
from kronos.bars import sample_bars
from kronos.bars.arrays import time_features
from kronos.bars.schema import FEATURES

INK, UP, DOWN, SOFT = "#1f2937", "#0f9d7a", "#d1495b", "#9ca3af"
SHOWN = 20  # bars in the picture of tokens
CONTEXT = 256


def candles(axis: Axes, bars: np.ndarray, title: str) -> None:
    """Draws (T, 4+) open, high, low, close."""
    for i, (start, high, low, end) in enumerate(bars[:, :4]):
        colour = UP if end >= start else DOWN
        axis.plot([i, i], [low, high], color=colour, linewidth=1)
        axis.bar(i, max(abs(end - start), 4e-4 * end), 0.62, min(start, end), color=colour)
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=INK)
    axis.set_xticks([])


def draw_tokens(predictor: KronosPredictor, values: np.ndarray, path: Path) -> None:
    """Real bars, what the coarse tokens alone keep of them, and what both keep."""
    transform, tokenizer = predictor.transform, predictor.tokenizer
    state = transform.fit(values)
    features = torch.from_numpy(transform.encode(values, state))[None]
    with torch.no_grad():
        (coarse, full), *_ = tokenizer(features)
        s1, s2 = tokenizer.encode(features, half=True)
    rows = [("Bars as they were", values[-SHOWN:])]
    for title, read in (("Read back from s1 alone", coarse), ("Read back from s1 and s2", full)):
        # Every bar is read back upon the true close before it, so that errors do not add up.
        steps = read[0, -SHOWN:].double().numpy()
        bars = [
            transform.decode(step[None, None], transform.fit(values[: len(values) - SHOWN + i]))[0, 0]
            for i, step in enumerate(steps)
        ]
        rows.append((title, np.stack(bars)))
    figure, axes = plt.subplots(3, 1, figsize=(9, 6.6), sharex=True, sharey=True)
    for axis, (title, bars) in zip(axes, rows, strict=True):
        candles(axis, bars, title)
    for i in range(SHOWN):
        for offset, ids, name in ((-0.16, s1, "s1"), (-0.32, s2, "s2")):
            text = str(int(ids[0, -SHOWN + i]))
            axes[2].text(
                i, offset, text, transform=axes[2].get_xaxis_transform(), ha="center", va="top", fontsize=7.5, color=INK
            )
            if i == 0:
                axes[2].text(
                    -1.2, offset, name, transform=axes[2].get_xaxis_transform(), ha="right", va="top", fontsize=8
                )
    figure.subplots_adjust(left=0.09, right=0.98, top=0.95, bottom=0.12, hspace=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_dependency(predictor: KronosPredictor, values: np.ndarray, times: np.ndarray, path: Path) -> None:
    """The fine token's distribution under each of the likeliest coarse tokens."""
    transform, tokenizer, model = predictor.transform, predictor.tokenizer, predictor.model
    features = torch.from_numpy(transform.encode(values, transform.fit(values)))[None]
    stamp = torch.from_numpy(times[transform.lost :])[None]
    with torch.no_grad():
        s1, s2 = tokenizer.encode(features, half=True)
        logits, hidden = model.decode_s1(s1, s2, stamp)
        likely = logits[0, -1].softmax(-1).topk(4)
        given = [
            model.decode_s2(hidden, torch.full_like(s1, int(token)))[0, -1].softmax(-1) for token in likely.indices
        ]
    union = torch.stack(given).amax(0).topk(36).indices.sort().values
    figure, axes = plt.subplots(4, 1, figsize=(9, 5.2), sharex=True)
    for axis, token, chance, fine in zip(axes, likely.indices, likely.values, given, strict=True):
        axis.bar(range(len(union)), fine[union].numpy(), color=INK, width=0.7)
        axis.set_title(f"p(s2 | s1 = {int(token)}),  p(s1) = {float(chance):.1%}", loc="left", fontsize=9, color=INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7, colors=INK)
    axes[-1].set_xticks(range(len(union)), [str(int(i)) for i in union], rotation=90)
    axes[-1].set_xlabel("fine token s2 (the likeliest 36)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_paths(predictor: KronosPredictor, path: Path) -> None:
    """Sampled futures, and the quantiles that they become."""
    bars = sample_bars("sp500")
    forecast = predictor.forecast(bars, 24, 200, seed=0, calendar="XNYS")
    past = bars["close"].to_numpy()[-40:]
    ahead = np.arange(len(past) - 1, len(past) + 24)
    close = np.concatenate(
        [np.full((200, 1), past[-1]), forecast.samples[:, :, forecast.columns.index("close")]], axis=1
    )
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axis, title in zip(axes, ("200 sampled futures", "Their median, 50 % and 90 % bands"), strict=True):
        axis.plot(past, color=INK, linewidth=1.2)
        axis.set_title(title, loc="left", fontsize=10, color=INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    axes[0].plot(ahead, close.T, color=UP, linewidth=0.5, alpha=0.2)
    low, lower, middle, upper, high = np.quantile(close, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axes[1].fill_between(ahead, low, high, color=UP, alpha=0.18, linewidth=0)
    axes[1].fill_between(ahead, lower, upper, color=UP, alpha=0.3, linewidth=0)
    axes[1].plot(ahead, middle, color=UP)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    predictor = KronosPredictor.from_pretrained("kronos-nano", device="cpu")
    bars = sample_bars("sp500")
    values = bars[list(FEATURES)].to_numpy(float)[-CONTEXT:]
    times = time_features(bars["timestamp"].dt)[-CONTEXT:]  # type: ignore[arg-type]
    draw_tokens(predictor, values, folder / "tokens.png")
    draw_dependency(predictor, values, times, folder / "dependency.png")
    draw_paths(predictor, folder / "paths.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
