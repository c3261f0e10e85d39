"""Settings by the names of the published fine-tuning code: each means what it means there, or is refused by name.

Two files are read as they are: the YAML of ``finetune_csv`` (sections ``data``, ``training``, ``model_paths`` …) and
``finetune/config.py``, of which literals are read and nothing is run. Single names may stand among settings of ours.

- :data:`SAME`: the value of one of our settings.
- :data:`SAID`: accepted, and without influence here; :func:`notes` says why.
- :data:`REFUSED`: what cannot be done, and what to do instead.
- :data:`TRANSLATED`: what takes a sum, or says what is trained (:func:`skipped_stages`, :func:`fresh_stages`,
  :func:`skips_existing`) rather than how.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from kronos.errors import ConfigError

SAME = {
    "tokenizer_learning_rate": "stages.tokenizer.lr",
    "predictor_learning_rate": "stages.model.lr",
    "adam_weight_decay": "optim.weight_decay",
    "log_interval": "log_every",
    "clip": "data.clip",
    "comet_name": "comet.name",
    "comet_tag": "comet.tag",
    "train_time_range": "data.dates.training",
    "val_time_range": "data.dates.validation",
    "test_time_range": "data.dates.judged",
    "save_path": "out",
    "pretrained_tokenizer_path": "tokenizer",
    "pretrained_predictor_path": "model",
}
"""Published name → ours, for values that mean the same."""

_FOLDERS = "the pair lies in tokenizer/ and model/ of the run's folder"
_RESEARCH = "it belongs to a research file (kronos qlib, docs/backtesting.md)"
SAID = {
    "max_context": "the window bounds what is trained on, and a checkpoint states how many bars it reads",
    "tokenizer_save_folder_name": _FOLDERS,
    "predictor_save_folder_name": _FOLDERS,
    "finetuned_tokenizer_path": _FOLDERS,
    "finetuned_predictor_path": _FOLDERS,
    **dict.fromkeys(("qlib_data_path", "instrument", "backtest_time_range"), _RESEARCH),
    **dict.fromkeys(("dataset_begin_time", "dataset_end_time"), "the bars are those of the ranges"),
    **dict.fromkeys(("backtest_save_folder_name", "backtest_result_path", "backtest_batch_size"), _RESEARCH),
    **dict.fromkeys(("backtest_n_symbol_hold", "backtest_n_symbol_drop", "backtest_hold_thresh"), _RESEARCH),
    **dict.fromkeys(("inference_T", "inference_top_p", "inference_top_k", "inference_sample_count"), _RESEARCH),
    "backtest_benchmark": _RESEARCH,
    "exp_name": "it names the folder of the run",
    "base_path": "it names the folder of the run",
    "tokenizer_save_name": _FOLDERS,
    "basemodel_save_name": _FOLDERS,
    "name": "a run is called after its folder",
    "description": "the model card is written from the run",
    "use_ddp": "several processes are started by torchrun or accelerate",
    "ddp_backend": "several processes are started by torchrun or accelerate",
    "backend": "several processes are started by torchrun or accelerate",
}
"""Names that are accepted and have no influence on a run, and why."""

_PICKLES = "dataset_path names pickles, which run code when they are read; name the files of bars (data.bars)"
REFUSED = {"dataset_path": _PICKLES}
"""Names that a run cannot follow, and what to do."""

TRANSLATED = (
    "lookback_window", "predict_window", "batch_size", "accumulation_steps", "n_train_iter", "n_val_iter",
    "adam_beta1", "adam_beta2", "epochs", "seed", "feature_list", "time_feature_list", "use_comet", "comet_config",
    "data_path", "train_ratio", "val_ratio", "test_ratio", "tokenizer_epochs", "basemodel_epochs", "base_save_path",
    "finetuned_tokenizer", "pretrained_tokenizer", "pretrained_predictor", "train_tokenizer", "train_basemodel",
    "pre_trained", "pre_trained_tokenizer", "pre_trained_predictor", "use_cuda", "device_id", "num_workers",
    "skip_existing",
)  # fmt: skip
KNOWN = frozenset((*SAME, *SAID, *REFUSED, *TRANSLATED))
"""Every name of both files."""

_CSV = {"data", "training", "model_paths", "experiment", "device", "distributed"}
_LEFT_OUT = {
    "lookback_window": 512, "predict_window": 48, "clip": 5.0, "epochs": 30, "batch_size": 160, "log_interval": 50,
    "num_workers": 6, "seed": 100, "tokenizer_learning_rate": 2e-4, "predictor_learning_rate": 4e-5, "adam_beta1": 0.9,
    "adam_beta2": 0.95, "adam_weight_decay": 0.1,
    "train_ratio": 0.9, "val_ratio": 0.1, "test_ratio": 0.0,
}  # fmt: skip
"""What a name means that the CSV file leaves out."""
_FEATURES = (("open", "high", "low", "close", "vol", "amt"), ("open", "high", "low", "close", "volume", "amount"))
_STAMPS = ("minute", "hour", "weekday", "day", "month")
_MANY = 12  # names from which settings are a whole published file
_FRESH = "pre_trained, false: the model is trained on the tokenizer of this run; there it is on another random one"
_LEAVES = "a window is normalised by its context alone; there it is by the bars to come as well"


def is_published_file(values: Mapping[str, Any]) -> bool:
    """Whether settings are a whole file of the published code, not names of it among ours."""
    return "model_paths" in values or len(KNOWN & values.keys()) >= _MANY


def notes(values: Mapping[str, Any]) -> list[str]:
    """What to tell whoever brings a published file: names without influence here, and what is done otherwise."""
    if not is_published_file(values):
        return []
    by_reason: dict[str, list[str]] = {}
    for name in _flat(values):
        if name in SAID or name in REFUSED:
            by_reason.setdefault(SAID.get(name) or REFUSED[name], []).append(name)
    said = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    said += [_LEAVES] if "model_paths" in values else []
    return [*said, _FRESH] if "tokenizer" in fresh_stages(values) else said


def skipped_stages(values: Mapping[str, Any]) -> list[str]:
    """The stages that a published file leaves as they are."""
    flat = _flat(values) if is_published_file(values) else {}
    names = {"tokenizer": "train_tokenizer", "model": "train_basemodel"}
    return [stage for stage, name in names.items() if not flat.get(name, True)]


def fresh_stages(values: Mapping[str, Any]) -> list[str]:
    """The stages that begin with random weights, in the shape of the checkpoint that is named."""
    flat = _flat(values)
    both = flat.get("pre_trained")
    names = {"tokenizer": "pre_trained_tokenizer", "model": "pre_trained_predictor"}
    return [stage for stage, name in names.items() if flat.get(name, both) not in (True, None)]


def skips_existing(values: Mapping[str, Any]) -> bool:
    """Whether what an earlier run has trained is left as it is."""
    return bool(_flat(values).get("skip_existing"))


def translate(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with published names, at the top level or in the sections of a published file, as settings with ours.

    Others are left alone. ``lookback_window`` and ``predict_window`` go together, and so do the two betas.

    Raises:
        ConfigError: a published name beside ours for the same thing, one of a pair alone, a name of the file that is
            unknown, or a value that cannot be followed here.
    """
    whole = is_published_file(values)
    flat = _flat(values) if whole else values
    left_out = _LEFT_OUT if "model_paths" in values else {}
    for name in REFUSED.keys() & flat.keys() if not whole else ():
        raise ConfigError(f"{REFUSED[name]}; kronos bars import reads them")
    names = left_out | {name: value for name, value in flat.items() if name in KNOWN and value is not None}
    if "n_train_iter" not in names and not whole:
        names.pop("epochs", None)  # of `kronos finetune`, see docs/training.md
    given = {SAME[name]: (name, value) for name, value in names.items() if name in SAME and value != ""}
    for part in (_windows, _batches, _passes, _betas, _choices, _shares, _places):
        given |= part(names)
    if whole:
        ours: dict[str, Any] = {"optim.schedule": "one_cycle", "optim.warmup": 0.03, "choose_by": "loss"}
        ours |= {"stages.tokenizer.clip_norm": 2.0, "stages.model.clip_norm": 3.0}
        given = {path: ("", value) for path, value in ours.items()} | given
    out = copy.deepcopy({name: value for name, value in flat.items() if name not in names})
    for path, (name, value) in given.items():
        section, last = section_of(out, path)
        if last in section and name in flat:
            raise ConfigError(f"both {name} and {path} are given, which is the same setting; keep one")
        section.setdefault(last, value)  # what a published file does not say is laid under ours
    return out


Given = dict[str, tuple[str, Any]]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the CSV file's sections at one level; a flat file as it is."""
    if "model_paths" not in values:
        return dict(values)
    out: dict[str, Any] = {}
    for name, value in values.items():
        inner = dict(value) if name in _CSV and isinstance(value, Mapping) else {name: value}
        unknown = sorted(inner.keys() - KNOWN) if name in _CSV else []
        if unknown and name == "data":  # ours, laid over it by --set
            out["data"] = {key: inner.pop(key) for key in unknown}
        elif unknown:
            raise ConfigError(f"{name} has {', '.join(unknown)}, which the published code does not know; take it out")
        out |= inner
    return out


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number from 1")
    return value


def _together(names: Mapping[str, Any], one: str, other: str) -> list[Any] | None:
    if (one in names) != (other in names):
        raise ConfigError(f"{one} and {other} go together; give both")
    return [names[one], names[other]] if one in names else None


def _windows(names: Mapping[str, Any]) -> Given:
    """A context of fixed length."""
    pair = _together(names, "lookback_window", "predict_window")
    if pair is None:
        return {}
    if not all(isinstance(n, int) for n in pair):
        raise ConfigError(f"lookback_window and predict_window are {tuple(pair)}; they must be whole numbers of bars")
    name = "lookback_window"
    return {"data.window": (name, sum(pair) + 1), "data.boundary": (name, [pair[0], pair[0]])}


def _batches(names: Mapping[str, Any]) -> Given:
    """``accumulation_steps`` splits the tokenizer's batch there, and does nothing for the predictor."""
    out: Given = {}
    if "batch_size" in names:
        out["optim.batch_size"] = "batch_size", names["batch_size"]
    if "accumulation_steps" in names:
        parts = _whole_number("accumulation_steps", names["accumulation_steps"])
        batch = _whole_number("batch_size", names.get("batch_size", 1 if parts == 1 else None))
        if batch % parts:
            raise ConfigError(
                f"accumulation_steps {parts} splits a batch into equal parts and leaves the rest out: it must divide "
                f"batch_size {batch} (ours that multiplies is optim.accumulation)"
            )
        if parts > 1:
            name = "accumulation_steps"
            out["stages.tokenizer.batch_size"] = name, batch // parts
            out["stages.tokenizer.accumulation"] = name, parts
    if "n_val_iter" in names:
        samples = _whole_number("n_val_iter", names["n_val_iter"])
        batch = _whole_number("batch_size (n_val_iter counts samples)", names.get("batch_size"))
        out["validation_batches"] = "n_val_iter", math.ceil(samples / batch)
    return out


def _passes(names: Mapping[str, Any]) -> Given:
    """Epochs: of ``n_train_iter`` samples, or of all windows."""
    epochs = names.get("epochs")
    by_stage = {"tokenizer": names.get("tokenizer_epochs", epochs), "model": names.get("basemodel_epochs", epochs)}
    if "n_train_iter" in names:
        if epochs is None:
            raise ConfigError("n_train_iter and epochs go together; give both, or optim.steps")
        samples, batch = (_whole_number(name, names.get(name)) for name in ("n_train_iter", "batch_size"))
        each = max(1, samples // batch)
        steps = {f"stages.{stage}.steps": _whole_number("epochs", epochs) * each for stage in by_stage}
        due = dict.fromkeys(("validate_every", "save_every"), each)
        return {path: ("n_train_iter", count) for path, count in (steps | due).items()}
    passes = {stage: _whole_number(f"{stage}'s epochs", n) for stage, n in by_stage.items() if n is not None}
    return {"passes": ("epochs", passes)} if passes else {}


def _betas(names: Mapping[str, Any]) -> Given:
    """They are the predictor's there; the tokenizer has those of torch."""
    pair = _together(names, "adam_beta1", "adam_beta2")
    if pair is None:
        return {}
    return {"stages.model.betas": ("adam_beta1", pair), "stages.tokenizer.betas": ("adam_beta1", [0.9, 0.999])}


def _choices(names: Mapping[str, Any]) -> Given:
    out: Given = {}
    if "seed" in names:
        out["seed"] = "seed", names["seed"]
    if "feature_list" in names and tuple(names["feature_list"]) not in _FEATURES:
        raise ConfigError(f"feature_list is {names['feature_list']}; a bar has {', '.join(_FEATURES[1])} here, all six")
    if "time_feature_list" in names and tuple(names["time_feature_list"]) != _STAMPS:
        raise ConfigError("time_feature_list differs from the published one; set time_features, those that count")
    if names.get("use_comet"):
        out["tracking"] = "use_comet", ["comet"]
    comet = names.get("comet_config") or {}
    secret = comet.get("api_key", "")
    for ours, name in (("project", "project_name"), ("workspace", "workspace")):
        if comet.get(name):
            out[f"comet.{ours}"] = "comet_config", comet[name]
    if names.get("use_comet") and secret and not str(secret).startswith("YOUR_"):
        raise ConfigError("comet_config has an api_key: secrets stay out of settings; set COMET_API_KEY")
    if names.get("use_cuda") is False:
        out["device"] = "use_cuda", "cpu"
    elif "device_id" in names and _cuda():
        out["device"] = "device_id", f"cuda:{names['device_id']}"
    if "num_workers" in names:  # 0: no process beside the one that trains, which is a thread here
        readers = names["num_workers"]
        out["workers"] = "num_workers", 1 if readers == 0 else _whole_number("num_workers", readers)
    return out


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _shares(names: Mapping[str, Any]) -> Given:
    """Periods in order of time; with a test share of 0 nothing is judged."""
    train, validate, test = (names.get(f"{name}_ratio") for name in ("train", "val", "test"))
    if train is None and validate is None and test is None:
        return {}
    shares = [0.9 if train is None else train, 0.1 if validate is None else validate, 0.0 if test is None else test]
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in shares)
    if not numbers or abs(sum(shares) - 1) > 1e-6 or min(shares[:2]) <= 0 or shares[2] < 0:
        raise ConfigError(
            f"train_ratio, val_ratio and test_ratio are {shares}; they must add up to 1, and the first two be above 0"
        )
    later = shares[1] / (shares[0] + shares[1])
    return {"data.later_share": ("val_ratio", later), "data.judged_share": ("test_ratio", float(shares[2]))}


def _places(names: Mapping[str, Any]) -> Given:
    """Where things are read from and written to."""
    out: Given = {}
    if "data_path" in names:
        out["data.bars"] = "data_path", [str(names["data_path"])]
    if "exp_name" in names or names.get("base_save_path"):
        experiment = str(names.get("exp_name", ""))
        place = names.get("base_save_path") or f"{names.get('base_path', '.')}/{experiment}"
        out["out"] = "base_save_path", str(place).replace("{exp_name}", experiment)
    start = names.get("finetuned_tokenizer") if names.get("train_tokenizer") is False else None
    for ours, name, value in (
        ("tokenizer", "pretrained_tokenizer", start or names.get("pretrained_tokenizer")),
        ("model", "pretrained_predictor", names.get("pretrained_predictor")),
    ):
        if value:
            out[ours] = name, str(value)
    return out


def section_of(values: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The mapping, made where there is none, that a setting such as ``optim.lr`` stands in, and its name there."""
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"'{section}' is {values!r}, a value; it must be a section of settings")
    return values, last
