"""The five tasks of the paper as presets: how much past, how far ahead, which sampling.

Look-back and horizon by bar size, and the sampling of each task, are the published evaluation settings (paper,
section 5; model specification, section 8). They are the paper's, not advice: a temperature of .6 makes intervals far
too narrow, so the report's default is each checkpoint's own sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kronos.errors import ConfigError

#: Bar size in minutes → (look-back, horizon), in bars.
PAPER_WINDOWS: dict[int, tuple[int, int]] = {
    5: (480, 96),
    15: (160, 32),
    60: (80, 12),
    240: (90, 18),
    1440: (40, 12),
}


@dataclass(frozen=True)
class EvaluationTask:
    """One question put to a forecaster.

    Args:
        name: as on the command line.
        question: in words, for the report.
        temperature, top_p, num_samples: the paper's sampling.
        loss: what the verdict compares; lower is better.
    """

    name: str
    question: str
    temperature: float
    top_p: float
    num_samples: int
    loss: str


TASKS: dict[str, EvaluationTask] = {
    "price": EvaluationTask(
        "price", "Where will the close be, and how sure is that?", 0.6, 0.9, 10, "CRPS of the close, mean over steps"
    ),
    "return": EvaluationTask(
        "return", "Which way, and which symbol more than the others?", 0.6, 0.9, 10, "minus the RankIC of a date"
    ),
    "volatility": EvaluationTask(
        "volatility", "How much will it move?", 0.9, 0.9, 10, "QLIKE of the realised variance"
    ),
    "generation": EvaluationTask(
        "generation", "Do sampled bars look and behave like real ones?", 1.0, 0.95, 1, "accuracy of a discriminator"
    ),
    "investment": EvaluationTask(
        "investment", "Does a portfolio built on it earn more than it costs?", 0.6, 0.9, 10, "excess return"
    ),
}


def check_tasks(names: list[str]) -> list[str]:
    """The names, each once.

    Raises:
        ConfigError: an unknown task.
    """
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise ConfigError(f"unknown task(s) {', '.join(unknown) or '(none given)'}; known: {', '.join(TASKS)}")
    return list(dict.fromkeys(names))


def paper_window(step: np.timedelta64) -> tuple[int, int]:
    """The paper's (look-back, horizon) for the preset whose bar size is nearest (in ratio) to ``step``."""
    minutes = max(float(step / np.timedelta64(1, "m")), 1e-9)
    nearest = min(PAPER_WINDOWS, key=lambda size: abs(np.log(minutes / size)))
    return PAPER_WINDOWS[nearest]
