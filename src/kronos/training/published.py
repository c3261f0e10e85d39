"""The names of the published fine-tuning code, accepted in run files and with ``--set``."""

from __future__ import annotations

from typing import Any

from kronos.errors import ConfigError

ALIASES = {
    "batch_size": "optim.batch_size",
    "accumulation_steps": "optim.accumulation",
    "adam_weight_decay": "optim.weight_decay",
    "tokenizer_learning_rate": "stages.tokenizer.lr",
    "predictor_learning_rate": "stages.model.lr",
    "n_val_iter": "validation_batches",
    "save_path": "out",
    "dataset_path": "data.arrays",
    "pretrained_tokenizer_path": "tokenizer",
    "pretrained_predictor_path": "model",
}
"""Published name → ours, for values that mean the same."""

_PAIRED = ("lookback_window", "predict_window", "adam_beta1", "adam_beta2")


def translate(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with published names, at the top level, as settings with ours; others are left alone.

    ``lookback_window`` and ``predict_window`` go together (a context of fixed length), and so do the two betas.

    Raises:
        ConfigError: a published name beside ours for the same thing, or one of a pair alone.
    """
    out = {name: value for name, value in values.items() if name not in ALIASES and name not in _PAIRED}
    for name, ours in ALIASES.items():
        if name in values:
            _put(out, ours, values[name], name)
    windows = _pair(values, "lookback_window", "predict_window")
    if windows is not None:
        if not all(isinstance(n, int) for n in windows):
            raise ConfigError(f"lookback_window and predict_window are {windows}; they must be whole numbers of bars")
        _put(out, "data.window", sum(windows) + 1, "lookback_window")
        _put(out, "data.boundary", [windows[0], windows[0]], "lookback_window")
    betas = _pair(values, "adam_beta1", "adam_beta2")
    if betas is not None:
        _put(out, "optim.betas", list(betas), "adam_beta1")
    return out


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` laid over it, section by section."""
    out = dict(base)
    for name, value in over.items():
        known = out.get(name)
        out[name] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out


def _pair(values: dict[str, Any], one: str, other: str) -> tuple[Any, Any] | None:
    if (one in values) != (other in values):
        raise ConfigError(f"{one} and {other} go together; give both")
    return (values[one], values[other]) if one in values else None


def _put(values: dict[str, Any], path: str, value: Any, published: str) -> None:
    """Sets ``section.name`` in nested mappings, which are copied on the way."""
    *sections, last = path.split(".")
    for section in sections:
        inner = values.get(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"'{section}' is {inner!r}; it must be a section of settings")
        copy = dict(inner)
        values[section] = copy
        values = copy
    if last in values:
        raise ConfigError(f"both {published} and {path} are given, which is the same setting; keep one")
    values[last] = value
