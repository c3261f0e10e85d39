"""A run's settings: read from YAML, overridden from the command line, checked where they are built; and recipes.

The names of the published fine-tuning code are understood too (:mod:`kronos.training.published`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kronos.bars.report import OnDefect
from kronos.errors import ConfigError, MissingExtraError, settings_in_words
from kronos.training.published import section_of, translate
from kronos.training.pyconfig import read_python

STAGE_NAMES = ("tokenizer", "model")

Tracker = Literal["tensorboard", "mlflow", "wandb", "comet"]
_ONE_OR_MANY = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DateSettings(_Section):
    """Periods by their first and last days (UTC), in place of shares of the bars.

    A period may begin before the one before it has ended, as the published ranges do to lend their windows a context:
    only what is later is asked about.
    """

    training: tuple[date, date]
    validation: tuple[date, date]
    judged: tuple[date, date] | None = None  # `kronos finetune`: for the verdict; None: none is given

    @model_validator(mode="after")
    def _holds_together(self) -> DateSettings:
        periods = [period for period in (self.training, self.validation, self.judged) if period is not None]
        for first, last in periods:
            if first > last:
                raise ValueError(f"{first} … {last} does not go forward")
        if any(later[1] <= earlier[1] for earlier, later in pairwise(periods)):
            raise ValueError("the periods training, validation, judged must end one after the other")
        return self


class DataSettings(_Section):
    """Which bars, and how windows are cut from them."""

    arrays: Path | None = None  # a folder written by kronos.bars.arrays.write_arrays, or else …
    bars: Annotated[tuple[str, ...], _ONE_OR_MANY] = ()  # … files of bars, folders, packaged samples (sample:sp500)
    on_defect: OnDefect = "strict"  # refuse a file with defective rows, or what read_bars does about them
    window: int = Field(257, ge=16, le=100_000)  # bars
    boundary: tuple[int, int] = (48, 192)  # shortest and longest context in a window, bars
    volume_dropout: float = Field(0.05, ge=0, le=1)  # share of windows without volume and amount
    aggregate: float = Field(0.0, ge=0, le=1)  # share of windows of 2, 3 or 4 bars taken together
    coin_flips: float = Field(0.0, ge=0, le=1)  # share of windows whose bars go up or down by the toss of a coin
    group_power: float = Field(0.5, ge=0, le=1)  # 0: every group alike, 1: every bar alike
    hold_out: Literal["symbols", "dates"] = "symbols"  # validate on later dates of symbols held apart, or of all
    later_share: float = Field(0.15, gt=0, lt=1)  # share of each group's bars, the last ones, for validation
    judged_share: float = Field(0.15, ge=0, le=0.5)  # `kronos finetune`: share kept for the verdict; 0: none is given
    dates: DateSettings | None = None  # in place of later_share and judged_share
    clip: float = Field(5.0, gt=0)  # bound of the features
    embargo: int | None = Field(None, ge=0)  # bars unused between training and validation; None: one window

    @model_validator(mode="after")
    def _holds_together(self) -> DataSettings:
        if bool(self.bars) == (self.arrays is not None):
            raise ValueError("name either `arrays`, a folder, or `bars`, a list of files")
        low, high = self.boundary
        if not 4 <= low <= high <= self.window - 8:
            raise ValueError(f"boundary {low}–{high} must lie within 4 … window - 8 = {self.window - 8}")
        return self

    @property
    def gives_verdict(self) -> bool:
        """Whether `kronos finetune` keeps bars to judge on."""
        return self.judged_share > 0 if self.dates is None else self.dates.judged is not None


class OptimSettings(_Section):
    """AdamW with a warm-up and a schedule of the rate."""

    steps: int = Field(10_000, ge=1)
    batch_size: int = Field(16, ge=1)  # windows of one process
    accumulation: int = Field(1, ge=1)  # batches to a step
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    lr: float = Field(1.5e-3, gt=0)  # peak
    final_lr: float = Field(0.02, ge=0, le=1)  # share of the peak that is left at the end
    initial_lr: float = Field(0.0, ge=0, le=1)  # share of the peak that the warm-up begins at
    warmup: float = Field(0.03, ge=0)  # share of the steps; from 1 on, steps
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)


class LossSettings(_Section):
    """Weights of the losses' parts."""

    coarse: float = Field(1.0, ge=0)  # tokenizer: reconstruction from the coarse token alone
    s1: float = Field(1.0, ge=0)  # network: coarse token
    teacher_forcing: float = Field(1.0, ge=0, le=1)  # share of steps that condition s2 on the true s1


class DropoutSettings(_Section):
    """Rates of the network's dropouts; None leaves one as the network has it."""

    ffn: float | None = Field(None, ge=0, le=0.99)
    resid: float | None = Field(None, ge=0, le=0.99)
    attn: float | None = Field(None, ge=0, le=0.99)
    token: float | None = Field(None, ge=0, le=0.99)  # of a bar's embedding


class LoraSettings(_Section):
    """Low-rank adapters that are trained in place of the network's weights, and merged into them in checkpoints."""

    rank: int = Field(8, ge=1, le=1024)
    alpha: int | None = Field(None, ge=1)  # scale of the adapters; None: twice the rank
    dropout: float = Field(0.0, ge=0, le=0.99)


class ForecastSettings(_Section):
    """Validation by real forecasts, during the second stage."""

    windows: int = Field(0, ge=0)  # forecasts of each validation; 0: none
    horizon: int = Field(24, ge=1)  # bars
    samples: int = Field(20, ge=2)  # paths of each; below 20 there is no 90 % interval


class CometSettings(_Section):
    """Where Comet files a run, and under what name; None: as COMET_WORKSPACE says, and a name of its own."""

    project: str = "kronos"
    workspace: str | None = None
    name: str | None = None
    tag: str | None = None


class StageSettings(_Section):
    """What differs between the stages: names and values of ``optim`` that count for one of them only."""

    tokenizer: dict[str, Any] = {}
    model: dict[str, Any] = {}


class RunConfig(_Section):
    """Everything that a training run depends on; see docs/training.md."""

    out: Path
    data: DataSettings
    optim: OptimSettings = OptimSettings()
    stages: StageSettings = StageSettings()
    loss: LossSettings = LossSettings()
    dropout: DropoutSettings = DropoutSettings()
    lora: LoraSettings | None = None
    forecasts: ForecastSettings = ForecastSettings()
    choose_by: Literal["loss", "crps"] = "loss"  # which validation figure the kept weights have the best of
    tokenizer: dict[str, Any] | str = "kronos-nano"  # shape of a new tokenizer, or the name of a trained one
    model: dict[str, Any] | str = "kronos-nano"  # shape of a new network, or the name of a trained one
    time_features: tuple[str, ...] | None = None  # those a named network goes on reading; None: all that it read
    seed: int = Field(0, ge=0)
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"  # of the autocast; weights stay float32
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"  # several processes: each holds all weights, or a shard of them
    checkpoint_activations: bool = False  # compute activations again instead of keeping them
    tracking: Annotated[tuple[Tracker, ...] | None, _ONE_OR_MANY] = None  # None: TensorBoard, if it is installed
    comet: CometSettings = CometSettings()
    workers: int = Field(1, ge=1)  # threads that prepare windows
    threads: int = Field(0, ge=0)  # of torch; 0 leaves them as they are
    save_every: int = Field(500, ge=1)  # steps
    validate_every: int = Field(500, ge=1)
    validation_batches: int = Field(16, ge=1)
    validate_first: bool = False  # also before the first step: a start that is never beaten is what is kept
    log_every: int | None = Field(None, ge=1)  # steps from record to record; None: 50, fewer in a short run
    passes: dict[Literal["tokenizer", "model"], int] = {}  # by stage: over all windows, in place of optim.steps
    patience: int | None = Field(None, ge=1)  # validations without a better one before the run ends early

    @model_validator(mode="after")
    def _holds_together(self) -> RunConfig:
        for stage in STAGE_NAMES:
            self.optim_of(stage)
        if self.choose_by == "crps" and not self.forecasts.windows:
            raise ValueError("choose_by: crps needs forecasts to judge by; set forecasts.windows, such as 64")
        return self

    def optim_of(self, stage: str) -> OptimSettings:
        """The optimizer's settings in one of the stages, "tokenizer" or "model"."""
        own: dict[str, Any] = getattr(self.stages, stage)
        return OptimSettings.model_validate({**self.optim.model_dump(), **own})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Checks a mapping; published names of settings are understood.

        Raises:
            ConfigError: names every setting that is unknown or out of range.
        """
        if "parts" in values:
            raise ConfigError("the settings are a recipe of several runs; train it with: kronos train recipe")
        try:
            return cls.model_validate(translate(values))
        except ValidationError as error:
            faults = settings_in_words(error.errors(), "run")
            raise ConfigError(f"the run's settings do not hold: {faults}") from error

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: list[str] | None = None) -> RunConfig:
        """Reads YAML and applies ``section.name=value`` overrides, whose values are YAML too.

        Raises:
            ConfigError: the file cannot be read, or a setting does not hold.
        """
        return cls.from_dict(read_settings(path, overrides))


def read_settings(path: str | Path | None, overrides: list[str] | None = None) -> dict[str, Any]:
    """A run file's values, with overrides applied and not checked yet; only the overrides where there is no file.

    Raises:
        ConfigError: the file cannot be read as YAML, or an override cannot be read.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "train", "Reading a run file") from error

    values: Any = {}
    if path is not None and Path(path).suffix == ".py":
        values = read_python(Path(path))
    elif path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"there is no file {path}; name a run file in YAML") from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings; see configs/ for examples")
    return override(values, overrides)


def override(values: dict[str, Any], overrides: list[str] | None) -> dict[str, Any]:
    """Settings with ``section.name=value`` laid over them, whose values are YAML.

    Raises:
        ConfigError: an override cannot be read.
    """
    import yaml

    values = copy.deepcopy(values)
    for text in overrides or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write section.name=value")
        try:
            section, last = section_of(values, name.strip())
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: '{value}' is no YAML value") from error
        except ConfigError as error:
            raise ConfigError(f"--set {text}: {error}") from error
    return values


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over`` laid over it, section by section."""
    out = dict(base)
    for name, value in over.items():
        known = out.get(name)
        out[name] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out


@dataclass(frozen=True)
class RecipePart:
    """One of a recipe's runs: a recipe is one file for several, each of which may go on from an earlier one."""

    name: str
    stages: tuple[str, ...]
    config: RunConfig


def read_recipe(path: str | Path, overrides: list[str] | None = None) -> list[RecipePart]:
    """The parts of a recipe, in the order in which they run.

    A recipe is a run file with a list of ``parts``. Each has a ``name``, the stages to ``train`` (both, if it does not
    say) and the settings that differ from those of the whole file; its folder is that of its name in ``out``. Where
    ``tokenizer`` or ``model`` is the name of an earlier part, the part goes on from the weights of that one. Overrides
    count in every part.

    Raises:
        ConfigError: the file cannot be read, or a setting does not hold; the message names the part.
    """
    shared = translate(read_settings(path, overrides))
    parts = shared.pop("parts", None)
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) and "name" in part for part in parts):
        raise ConfigError(f"{path} is no recipe: it needs a list of parts, each with a name")
    found: list[RecipePart] = []
    for part in parts:
        own = {key: value for key, value in part.items() if key not in ("name", "train")}
        stages, folders = part.get("train", STAGE_NAMES), {one.name: str(one.config.out) for one in found}
        stages = (stages,) if isinstance(stages, str) else tuple(stages)
        try:
            if not stages or set(stages) - set(STAGE_NAMES):
                raise ConfigError(f"train is {list(stages)}; choose of {', '.join(STAGE_NAMES)}")
            values = translate(override(merge(shared, translate(own)), overrides))
            values["out"] = Path(str(shared.get("out", "runs"))) / str(part["name"])
            for stage in STAGE_NAMES:
                named = values.get(stage)
                if isinstance(named, dict) and "start" in named:
                    named["start"] = folders.get(named["start"], named["start"])
                elif isinstance(named, str):
                    values[stage] = folders.get(named, named)
            found.append(RecipePart(str(part["name"]), stages, RunConfig.from_dict(values)))
        except ConfigError as error:
            raise ConfigError(f"{path}, part {part['name']}: {error}") from error
    return found
