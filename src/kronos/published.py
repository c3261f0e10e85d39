"""The names of the published code, for scripts that import them: ``from kronos.published import …``.

They do what the published functions do, draws from torch's global state included, so that a script which calls
``torch.manual_seed`` gets the tokens that it got there. What a new program should call is
:meth:`kronos.KronosPredictor.forecast`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from kronos.inference.predictor import KronosPredictor
from kronos.inference.sampling import sample_from_logits, top_k_top_p_filtering
from kronos.model import Kronos, KronosTokenizer

__all__ = [
    "Kronos",
    "KronosPredictor",
    "KronosTokenizer",
    "auto_regressive_inference",
    "calc_time_stamps",
    "get_model_class",
    "model_dict",
    "sample_from_logits",
    "top_k_top_p_filtering",
]

model_dict: dict[str, type] = {
    "kronos_tokenizer": KronosTokenizer,
    "kronos": Kronos,
    "kronos_predictor": KronosPredictor,
}


def get_model_class(model_name: str) -> type:
    """The class of a name in ``model_dict``.

    Raises:
        NotImplementedError: no such name, as published.
    """
    if model_name not in model_dict:
        raise NotImplementedError(f"there is no model '{model_name}'; choose one of {', '.join(model_dict)}")
    return model_dict[model_name]


def calc_time_stamps(x_timestamp: Any) -> pd.DataFrame:
    """(T, 5) minute, hour, weekday, day and month of times: a Series, whose index is kept, or a ``DatetimeIndex``."""
    times = x_timestamp if isinstance(x_timestamp, pd.Series) else pd.Series(x_timestamp)
    at = times.dt
    return pd.DataFrame(
        {"minute": at.minute, "hour": at.hour, "weekday": at.day_of_week, "day": at.day, "month": at.month}
    )


@torch.no_grad()
def auto_regressive_inference(
    tokenizer: KronosTokenizer,
    model: Kronos,
    x: Tensor,
    x_stamp: Tensor,
    y_stamp: Tensor,
    max_context: int,
    pred_len: int,
    clip: float = 5,
    T: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.99,
    sample_count: int = 5,
    verbose: bool = False,
) -> npt.NDArray[np.float32]:
    """The published loop: it reads the whole window again for every bar, and averages the paths.

    Args:
        x: (B, T, 6) normalised bars, clipped here to ±``clip``.
        x_stamp, y_stamp: (B, T, 5) and (B, ``pred_len``, 5), the columns of :func:`calc_time_stamps`.
        max_context: bars that are read at most, and returned at most.
        verbose: show progress.

    Returns:
        (B, min(T + ``pred_len``, ``max_context``), 6): what the tokens of the last window decode to, the mean of
        ``sample_count`` paths. The forecast is ``[:, -pred_len:]``.
    """
    n_bars = x.shape[1]
    stamps = torch.cat((x_stamp, y_stamp), dim=1).repeat_interleave(sample_count, 0)
    s1, s2 = tokenizer.encode(x.clip(-clip, clip).repeat_interleave(sample_count, 0), half=True)
    for known in _steps(n_bars, n_bars + pred_len, verbose):
        window = slice(max(0, known - max_context), known)
        s1_logits, hidden = model.decode_s1(s1[:, window], s2[:, window], stamps[:, window])
        coarse = sample_from_logits(s1_logits[:, -1], T, top_k, top_p)
        fine = sample_from_logits(model.decode_s2(hidden, coarse)[:, -1], T, top_k, top_p)
        s1, s2 = torch.cat((s1, coarse), dim=1), torch.cat((s2, fine), dim=1)
    bars = tokenizer.decode((s1[:, -max_context:], s2[:, -max_context:]), half=True)
    paths = bars.view(-1, sample_count, *bars.shape[1:]).cpu().numpy()
    mean: npt.NDArray[np.float32] = paths.mean(axis=1)
    return mean


def _steps(first: int, end: int, verbose: bool) -> Iterable[int]:
    if not verbose:
        return range(first, end)
    from tqdm import trange

    steps: Iterable[int] = trange(first, end)
    return steps
