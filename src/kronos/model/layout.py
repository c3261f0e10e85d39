"""The files of a checkpoint's folder, and the two layouts of ``config.json``.

A checkpoint that the published code computes rightly has the published layout, a flat mapping. One that it would load
and then misforecast (``consistent`` networks; tokenizers with another quantizer or transform of the bars, or with
tokens of unequal width) holds the same mapping a level down::

    {"format": "kronos-kline/2", "model": {"d_model": 256, …}}

The published constructors find none of their arguments there and fail at once. Both layouts are read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kronos.errors import CheckpointError
from kronos.files import write_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
KINDS = ("model", "tokenizer")

PUBLISHED_CUTOFF = "2024-07-01"  # the published weights were trained on bars up to June 2024
_FORMAT = "kronos-kline/2"
_MAX_CONFIG_BYTES = 1 << 20


def behaves_as_published(config: Mapping[str, Any]) -> bool:
    """Whether the published code computes what a checkpoint with this config computes here."""
    if kind_of(config) == "model":
        return not config.get("consistent")
    bits, group = (config["s1_bits"], config["s2_bits"]), config["group_size"]
    own = config.get("quantizer", "bsq") != "bsq" or config.get("bar_transform", "zscore") != "zscore"
    return not own and bits[0] == bits[1] and sum(bits) % group == 0


def kind_of(config: Mapping[str, Any]) -> str | None:
    """Which half of a pair a config describes; None: neither."""
    return "tokenizer" if "n_enc_layers" in config else "model" if "n_layers" in config else None


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes a checkpoint's config, in the layout that it needs; the file is replaced in one step."""
    nested = not behaves_as_published(config)
    values = {"format": _FORMAT, str(kind_of(config)): dict(config)} if nested else dict(config)
    write_json(folder / CONFIG_FILE, values, sort_keys=True, durable=True)


def change_config(folder: Path, **changes: Any) -> None:
    """Writes values into a checkpoint's config, which is replaced in one step."""
    write_config(folder, {**read_config(folder / CONFIG_FILE), **changes})


def read_config(path: Path) -> dict[str, Any]:
    """``config.json`` of either layout as a flat mapping. Refuses what is missing, too large, or no JSON object."""
    try:
        small = path.stat().st_size <= _MAX_CONFIG_BYTES
        values = json.loads(path.read_text(encoding="utf-8")) if small else None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); the folder holds no checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again") from error
    if not small:
        raise CheckpointError(f"{path} is larger than {_MAX_CONFIG_BYTES:,} bytes; this is no checkpoint's config")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not a JSON object")
    if "format" not in values:
        return values
    if values["format"] != _FORMAT:
        raise CheckpointError(
            f"{path} has format {values['format']!r}, this version reads {_FORMAT!r}; update kronos-kline"
        )
    half = [kind for kind in KINDS if isinstance(values.get(kind), dict)]
    if len(values) != 2 or len(half) != 1:
        found = ", ".join(sorted(values.keys() - {"format"})[:5]) or "nothing"
        raise CheckpointError(f"{path} needs one section beside 'format', model or tokenizer, and has {found}")
    return dict(values[half[0]])


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes in a safetensors file, checked against its length; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            entries = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            return {key: (entry.get_dtype(), tuple(entry.get_shape())) for key, entry in entries.items()}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the folder holds no weights") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error


def state_cutoffs(folder: Path, ends: Mapping[str, str]) -> None:
    """Writes up to when a network has seen bars into its config: ISO dates by group, of which the later ones stay."""
    stated = stated_cutoffs(read_config(folder / CONFIG_FILE))
    change_config(folder, training_cutoff=stated | {g: max(end, stated.get(g, end)) for g, end in ends.items()})


def stated_cutoffs(config: Mapping[str, Any]) -> dict[str, str]:
    """The last dates of a checkpoint's training, ISO by group, as its config states them.

    The group ``start`` is what its weights went on from. Published weights state nothing; theirs is known.
    """
    stated = config.get("training_cutoff")
    dates = {"start": stated} if isinstance(stated, str) else dict(stated or {})
    if not config.get("consistent"):
        dates["start"] = max(PUBLISHED_CUTOFF, dates.get("start", PUBLISHED_CUTOFF))
    return dates
