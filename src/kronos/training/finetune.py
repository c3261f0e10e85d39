"""A fine-tuning run planned from its bars: what is kept back, how long windows are, how many steps make sense.

Three periods of each group (bars of one size), in order of time: training, validation (which picks the weights and
stops the run), and a last one that the run never reads, on which the result is judged. Between training and validation
lies an embargo of one window.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from kronos.bars.arrays import INDEX_FILE, BarArrays, write_arrays
from kronos.errors import ConfigError, DataError, settings_in_words
from kronos.files import remove_folder, replacing, replacing_folder, writing
from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.model.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    find_checkpoint,
    read_config,
    state_cutoffs,
    tokenizer_of,
)
from kronos.training.config import STAGE_NAMES, DataSettings, DateSettings, RunConfig, merge
from kronos.training.data import (
    cutoffs_of,
    ends_before,
    find_files,
    held_apart,
    last_second,
    read_tables,
    split_of,
)
from kronos.training.published import translate

UNPROVEN = "unproven"  # folder of new weights that were not shown to be better than the start
PRESETS = {"daily": (128, 12), "intraday": (256, 24)}  # longest context, horizon
_NOTHING_READ = "1970-01-01"  # the cutoff of weights that were not trained
_DAY = 20 * 3600  # seconds between bars from which bars are called daily
_SHORTEST = 16  # bars of context that a model is given at least
_STEPS = (60, 2000)  # fewest and most of the model's stage
_EPOCHS = 30  # how often each bar is predicted

Tables = dict[str, dict[str, pd.DataFrame]]
"""Bars by symbol by group."""


@dataclass(frozen=True)
class FinetunePlan:
    """What :func:`plan_finetune` decided."""

    config: RunConfig
    start: str  # the checkpoint to go on from …
    tokenizer: str | None  # … and its tokenizer; None: the one that belongs to it
    tables: Tables  # all bars, the judged ones included
    judged_after: dict[str, np.datetime64]  # by group: the last time that the run knows
    context: int  # bars that the judged forecasts see …
    horizon: int  # … and forecast
    preset: str
    training_bars: int
    data_hash: str

    def periods(self, *, validation: bool = False) -> dict[str, tuple[np.datetime64, np.datetime64 | None]]:
        """By group: the time after which the judged period lies, or (after, last) of the one for validation."""
        if not validation:
            dates = self.config.data.dates
            if dates is None or dates.judged is None:
                return {group: (after, None) for group, after in self.judged_after.items()}
            after = np.datetime64(ends_before(dates.validation, dates.judged), "s")
            return dict.fromkeys(self.judged_after, (after, None))
        arrays = BarArrays.open(self.config.out / "arrays")
        cut = cutoffs_of(self.config.data, arrays)
        return {group: (np.datetime64(cut[group], "s"), last) for group, last in self.judged_after.items()}

    def judged_tables(self, group: str) -> dict[str, pd.DataFrame]:
        """The series of a group to judge on: those held apart, where symbols are."""
        tables = self.tables[group]
        apart = {name: table for name, table in tables.items() if held_apart(name)}
        return apart if apart and self.config.data.hold_out == "symbols" else tables


def plan_finetune(
    sources: Sequence[str],
    start: str,
    out: Path,
    *,
    tokenizer: str | None = None,
    preset: str | None = None,
    unseen_symbols: bool = False,
    given: dict[str, Any] | None = None,
    write: bool = True,
) -> FinetunePlan:
    """Reads the bars, writes those before the judged period into ``out/arrays``, and sets the run up.

    Args:
        sources: files of bars, folders of them, ``sample:NAME``.
        start, tokenizer: the checkpoint to go on from, and another tokenizer than the one that belongs to it.
        preset: "daily" or "intraday"; None: by the bars' size.
        unseen_symbols: keep some symbols out of training, and judge on those.
        given: settings that count before what is planned here, as in a run file; also ``epochs``.
        write: False where another process has written the arrays.

    Raises:
        DataError: the bars cannot be read, or are too few for three periods.
        ConfigError: a setting does not hold, or there is no such preset.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"there is no preset '{preset}'; choose one of {', '.join(PRESETS)}")
    given = translate(dict(given or {}))
    _check_given(given)
    epochs = float(given.pop("epochs", _EPOCHS))
    on_defect, share, dates = _read_first(given)
    tables = _read(sources, on_defect, unseen_symbols)
    if dates is None:
        judged_after = {group: _judged_after(series, share) for group, series in tables.items()}
    else:
        tables = _of_days(tables, dates)
        judged_after = dict.fromkeys(tables, np.datetime64(last_second(dates.validation[1]), "s"))
    every = [(group, name, table) for group, series in tables.items() for name, table in series.items()]
    if write:
        known = ((group, name, table[_times(table) <= judged_after[group]]) for group, name, table in every)
        with writing(out / "arrays" / INDEX_FILE):
            write_arrays(known, out / "arrays", min_length=2 * _SHORTEST)
    arrays = BarArrays.open(out / "arrays")
    if preset is None:
        steps = [np.median(np.diff(_times(table)).astype(np.int64)) for *_, table in every if len(table) > 1]
        preset = "daily" if not steps or np.median(steps) / 1e9 >= _DAY else "intraday"
    longest, horizon = PRESETS[preset]
    values = merge(_leave_to(given, _defaults(start, tokenizer, out, arrays, longest, unseen_symbols)), given)
    first = RunConfig.from_dict(values)  # whatever is wrong with the settings is told here
    lengths, context = [len(s) for s in split_of(first, arrays)[0]], first.data.boundary[1]
    bars, windows = sum(lengths), sum(max(0, length - first.data.window + 1) for length in lengths)
    horizon = min(horizon, max(4, context // 4))
    planned = merge(_leave_to(given, _lengths(bars, epochs, first)), {"forecasts": {"horizon": horizon}})
    planned = merge(planned, {"stages": _passes(first, windows)})
    config = RunConfig.from_dict(merge(merge(values, planned), given))
    return FinetunePlan(
        config, start, tokenizer, tables, judged_after, context, horizon, preset, bars, arrays.data_hash
    )


def fresh_start(start: str, tokenizer: str | None, out: Path, kinds: Sequence[str], seed: int) -> str:
    """A pair in ``out/start`` whose halves ``kinds`` have random weights in the shape of the start's; its folder.

    It states that it was trained on nothing; what lies there already is left alone.
    """
    folder = out / "start"
    classes: dict[str, tuple[Any, Any]] = {
        "tokenizer": (KronosTokenizer, TokenizerConfig),
        "model": (Kronos, KronosConfig),
    }
    learnt: dict[str, dict[str, Any]] = {  # what a config tells of weights, as it is for random ones
        "tokenizer": {"move_gain": 1.0},
        "model": {"consistent": True, "calibration": None, "judged": None, "training_cutoff": _NOTHING_READ},
    }
    for kind, (cls, config_class) in classes.items():
        if (folder / kind / WEIGHTS_FILE).is_file():
            continue
        if kind not in kinds:
            take_over(start, folder, [kind], tokenizer)
            continue
        source = tokenizer_of(start, tokenizer) if kind == "tokenizer" else start
        config = config_class.from_dict(read_config(find_checkpoint(source, kind) / CONFIG_FILE))
        cls.init(dataclasses.replace(config, **learnt[kind]), seed).save_pretrained(folder / kind)
    return str(folder)


def take_over(start: str, out: Path, kinds: Sequence[str] = STAGE_NAMES, tokenizer: str | None = None) -> None:
    """Copies the pair of a checkpoint, or half of it, into a run's folder as it is."""
    for kind in kinds:
        _copy(find_checkpoint(tokenizer_of(start, tokenizer) if kind == "tokenizer" else start, kind), out / kind)


def set_aside(out: Path) -> None:
    """Copies a run's new pair, whole or not at all, into ``unproven/``, where it can still be loaded."""
    with replacing_folder(out / UNPROVEN) as folder:
        take_over(str(out), folder)


def put_back(out: Path) -> None:
    """Undoes what a run that was stopped at its very end has put in the place of its new pair."""
    if (out / UNPROVEN).is_dir():
        take_over(str(out / UNPROVEN), out)
        remove_folder(out / UNPROVEN)


def state_end(plan: FinetunePlan) -> None:
    """Writes the end of the period that picks the weights into the new model's config, beside what its start saw."""
    ends = {group: np.datetime_as_string(time, "s") for group, time in plan.judged_after.items()}
    state_cutoffs(plan.config.out / "model", ends)


def _copy(source: Path, target: Path) -> None:
    """A checkpoint's two files, each replaced in one step."""
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        with replacing(target / name) as part:
            shutil.copyfile(source / name, part)


def _read(sources: Sequence[str], on_defect: Any, unseen_symbols: bool) -> Tables:
    tables: Tables = {}
    for group, name, table in read_tables(find_files(sources), on_defect):
        series = tables.setdefault(group, {})
        if name in series:
            raise DataError(f"two files hold {group} bars of '{name}'; join them, or rename one")
        series[name] = table.reset_index(drop=True)
    apart = [held_apart(name) for series in tables.values() for name in series]
    if unseen_symbols and len(set(apart)) == 1:
        raise DataError(
            f"--unseen-symbols keeps an eighth of the symbols apart, by a hash of the name: here {sum(apart)} of "
            f"{len(apart)}, so none is left to {'train' if apart[0] else 'judge'} on; give more, or leave it out"
        )
    return tables


def _times(table: pd.DataFrame) -> np.ndarray:
    """(N,) datetime64[ns]; those with a zone in UTC."""
    times = pd.DatetimeIndex(table["timestamp"])
    return np.asarray(times.tz_convert(None) if times.tz is not None else times, "datetime64[ns]")


def _of_days(tables: Tables, dates: DateSettings) -> Tables:
    """Bars from the first to the last day of all periods; DataError: there are none."""
    first, last = dates.training[0], (dates.judged or dates.validation)[1]
    low, high = (np.datetime64(last_second(day), "s") for day in (first - timedelta(days=1), last))
    found: Tables = {}
    for group, series in tables.items():
        kept = {name: table[(_times(table) > low) & (_times(table) <= high)] for name, table in series.items()}
        if kept := {name: table.reset_index(drop=True) for name, table in kept.items() if len(table)}:
            found[group] = kept
    if not found:
        times = np.concatenate([_times(table) for series in tables.values() for table in series.values()])
        lie = " to ".join(np.datetime_as_string(time, unit="D") for time in (times.min(), times.max()))
        raise DataError(f"no bar lies in the periods of data.dates, {first} to {last}: the bars are from {lie}")
    return found


def _read_first(given: dict[str, Any]) -> tuple[Any, float, DateSettings | None]:
    """``on_defect``, ``judged_share`` and ``dates`` of the data: needed before the run's settings can be built."""
    data = {name: field.default for name, field in DataSettings.model_fields.items()} | (given.get("data") or {})
    try:
        dates = None if data["dates"] is None else DateSettings.model_validate(data["dates"])
        return data["on_defect"], float(data["judged_share"]), dates
    except ValidationError as error:
        faults = settings_in_words(error.errors(), "run")
        raise ConfigError(f"the periods of data.dates do not hold: {faults}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.judged_share is {data['judged_share']!r}; it must be a number") from error


def _judged_after(series: dict[str, pd.DataFrame], share: float) -> np.datetime64:
    times = np.sort(np.concatenate([_times(table) for table in series.values()]))
    return np.datetime64(times[max(0, int(len(times) * (1 - share)) - 1)])


def _defaults(
    start: str, tokenizer: str | None, out: Path, arrays: BarArrays, longest: int, unseen_symbols: bool
) -> dict[str, Any]:
    """A context of which eight fit into a typical series, so that embargo and validation leave most for training."""
    typical = float(np.quantile([len(s) for s in arrays.segments], 0.75)) if arrays.segments else 0.0
    if typical < 8 * _SHORTEST:
        raise DataError(
            f"the bars are too few to learn from: before the judged period their runs without a gap have "
            f"{typical:.0f} bars; give more bars, at least {8 * _SHORTEST}"
        )
    context = int(np.clip(typical // 8, _SHORTEST, longest))
    return {
        "out": out,
        "data": {
            "arrays": out / "arrays",
            "window": context + max(8, context // 2) + 1,
            "boundary": [max(4, context // 4), context],
            "hold_out": "symbols" if unseen_symbols else "dates",
        },
        "optim": {"batch_size": 8, "weight_decay": 0.1, "warmup": 0.1, "clip_norm": 2.0},
        "stages": {"tokenizer": {"lr": 1e-4}, "model": {"lr": 4e-5, "clip_norm": 3.0}},
        "tokenizer": str(tokenizer_of(start, tokenizer)),
        "model": start,
        **{"validate_first": True, "patience": 5, "validation_batches": 8},
        **{"forecasts": {"windows": 96, "samples": 20}, "choose_by": "crps"},
    }


def _lengths(bars: int, epochs: float, config: RunConfig) -> dict[str, Any]:
    """Steps such that each bar is predicted ``epochs`` times, within limits; the tokenizer needs half of it."""
    predicted = config.data.window - sum(config.data.boundary) / 2
    optim = config.optim_of("model")
    steps = int(np.clip(round(epochs * bars / (predicted * optim.batch_size * optim.accumulation)), *_STEPS))
    stages = {"tokenizer": {"steps": max(30, steps // 2)}, "model": {"steps": steps}}
    return {"stages": stages} | dict.fromkeys(("validate_every", "save_every"), max(10, steps // 10))


def _passes(config: RunConfig, windows: int) -> dict[str, dict[str, int]]:
    """By stage the steps of this many passes over all windows, where the settings say so."""
    sizes = {stage: config.optim_of(stage) for stage in config.passes}
    return {
        stage: {"steps": config.passes[stage] * max(1, windows // (optim.batch_size * optim.accumulation))}
        for stage, optim in sizes.items()
    }


def _leave_to(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Our settings of the stages, less those that are given for both of them: a stage's own would outrank them."""
    both = set(given.get("optim") or {})
    kept = {stage: {k: v for k, v in ours.items() if k not in both} for stage, ours in values["stages"].items()}
    return {**values, "stages": kept}


def _check_given(given: dict[str, Any]) -> None:
    """Settings that the command line's own arguments stand for are refused, and what is looked into unchecked."""
    for name in ("data", "optim"):
        if not isinstance(given.get(name) or {}, dict):
            raise ConfigError(f"{name} is {given[name]!r}; it must be a section of settings")
    if {"arrays", "bars"} & set(given.get("data") or {}):
        raise ConfigError(
            "the bars of a fine-tuning run are named on the command line, not in data.arrays or data.bars"
        )
    for name, option in (("out", "--out"), ("model", "--model"), ("tokenizer", "--model or --tokenizer")):
        if isinstance(given.get(name), dict) and given[name]:  # a start has its shape; what can be set is the stage's
            raise ConfigError(
                f"there is no setting {name}.{next(iter(given[name]))} in a fine-tuning run; those of one stage are "
                f"written stages.{name}.NAME, such as stages.{name}.steps"
            )
        if name in given:
            raise ConfigError(f"{name} is given as a setting; a fine-tuning run takes it from {option}")
    epochs = given.get("epochs", _EPOCHS)
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not epochs > 0:
        raise ConfigError(f"epochs is {epochs!r}; it must be a number above 0")
