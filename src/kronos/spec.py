"""What is asked of a forecast: one frozen, checked description from which every surface derives its options.

A setting is one field here. Its type, default, range and sentence are stated once; the command line, the REST schema,
the MCP tool and research files are built from :func:`settings`; Ray's settings hold the spec itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args, get_type_hints

from kronos.errors import ConfigError

Layout = Literal["paths", "summary", "nixtla", "qlib", "vectorbt", "predict", "record", "freqtrade", "backtesting"]
"""The forms of a forecast that other tools take: :mod:`kronos.inference.layouts`."""
_MEND = r"(splits|volume|cut|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:]{5,8})?=[0-9]{1,9}([.][0-9]{1,9})?)"


@dataclass(frozen=True)
class Setting:
    """One setting of a forecast, as a surface presents it."""

    name: str  # of the field, and of the argument in Python, REST and MCP
    kind: type  # ``int``, ``float`` or ``str``
    optional: bool  # whether None is allowed, which leaves the choice to the checkpoint or to the bars
    default: Any
    help: str  # one sentence for people
    low: float | None = None  # included, as is ``high``; None: unbounded
    high: float | None = None
    above: float | None = None  # a lower bound that is itself excluded
    choices: tuple[str, ...] = ()  # the only values allowed; empty: any
    flag: str = ""  # of the command line, without the dashes
    pattern: str | None = None  # a regular expression that text must match
    off: Any = None  # of a setting of the sampling: the value that leaves the network's own distribution
    form: str = ""  # the pattern in words, where the spec itself refuses other text

    def check(self, value: Any) -> Any:
        """The value as its plain Python type; refuses another type, or what is out of range."""
        if value is None and self.optional:
            return None
        if isinstance(value, {int: Integral, float: Real, str: str}[self.kind]) and not isinstance(value, bool):
            plain = self.kind(value)
            if self.kind is str:
                inside = not self.choices or plain in self.choices
                inside &= not self.form or re.fullmatch(self.pattern or "", plain) is not None
            else:
                low = -math.inf if self.low is None else self.low
                high = math.inf if self.high is None else self.high
                inside = low <= plain <= high and (self.above is None or plain > self.above)
            if inside:
                return plain
        raise ConfigError(f"{self.name} is {value!r}; it must be {self.range}")

    @property
    def range(self) -> str:
        """What is allowed, in words: 'a whole number from 1 to 100,000'."""
        if self.kind is str:
            return "one of " + ", ".join(self.choices) if self.choices else self.form or "text"
        words = "a whole number" if self.kind is int else "a number"
        if self.above is not None:
            words += f" above {self.above:,g}"
        elif self.low is not None:
            words += f" from {self.low:,g}" if self.high is not None else f" of at least {self.low:,g}"
        if self.high is not None:
            high = f"{self.high:,}" if self.kind is int else f"{self.high:,g}"
            words += f" and at most {high}" if self.above is not None else f" to {high}"
        return words


def _setting(default: Any, help: str, **limits: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class ForecastSpec:
    """What is asked of a forecast. None leaves a setting to the checkpoint's calibration or to the bars.

    The fields are those of ``KronosPredictor.forecast``; units are bars, paths and prices' own.

    Raises:
        ConfigError: a setting outside its range; the message says what is allowed.
    """

    horizon: int = _setting(24, "Bars ahead.", low=1, high=100_000)
    num_samples: int = _setting(
        100,
        "Sample paths; 20 distinct ones are the least for intervals, chances and risk.",
        low=1,
        high=1_000_000,
        flag="samples",
    )
    temperature: float | None = _setting(
        None, "Spread of the sampling; 0 is greedy. Default: the model's own.", low=0, high=100, off=1.0
    )
    top_k: int | None = _setting(None, "Sample from the k likeliest tokens; 0 is off.", low=0, off=0)
    top_p: float | None = _setting(
        None, "Sample from the likeliest tokens of this total chance.", above=0, high=1, off=1.0
    )
    direction: Literal["model", "none"] | None = _setting(
        None,
        "Whose directions the paths take: the model's, or none, where each path is followed by its mirror about the "
        "last close. Default: as the model was calibrated.",
        off="model",
    )
    har_weight: float | None = _setting(
        None,
        "Share of a pooled HAR model in the volatility of the paths; 0 leaves the model's own. Default: as the model "
        "was calibrated.",
        low=0,
        high=1,
        off=0.0,
    )
    seed: int = _setting(0, "The same seed gives the same paths.", low=0, high=2**64 - 1)
    calendar: str | None = _setting(
        None,
        "Exchange by MIC code (XNYS, XSHG), 24/7, FX, observed or step. Without it, inferred from the bars.",
        pattern=r"^[A-Za-z0-9/]{1,16}$",
    )
    context_length: int | None = _setting(
        None, "Last bars to read. Default: as many as the model can.", low=2, flag="context"
    )
    window_stride: int | None = _setting(
        None, "Bars to drop at once when the window is full. Default: an eighth of it.", low=1
    )
    stamp: Literal["start", "end"] | None = _setting(None, "Which end of a bar its timestamp names.")
    frequency: str | None = _setting(None, "Bar size: 1m, 5m, 1h, 1d, 1w …")
    adjust: str | None = _setting(
        None,
        "Mend breaks in the context: splits and volume bring the past into today's unit, DATE=FACTOR divides prices "
        "before a date, cut reads the bars behind the last break alone; several with commas. Default: nothing.",
        pattern=f"^{_MEND}(,{_MEND}){{0,31}}$",
        form="splits, volume, cut or DATE=FACTOR such as 2020-08-31=4, or several of them with commas between",
    )

    def __post_init__(self) -> None:
        for setting in settings(type(self)):
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))

    def replace(self, **changes: Any) -> ForecastSpec:
        """A copy with other values, checked again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name; plain values."""
        return dataclasses.asdict(self)


def settings(spec: type[ForecastSpec] = ForecastSpec) -> tuple[Setting, ...]:
    """Every setting of a spec, in the order of its fields."""
    hints, found = get_type_hints(spec), []
    for field in dataclasses.fields(spec):
        kind = next(kind for kind in (*get_args(hints[field.name]), hints[field.name]) if kind is not type(None))
        choices = get_args(kind)  # of a Literal
        shown = {"flag": field.name.replace("_", "-"), **field.metadata}
        plain = str if choices else kind
        found.append(Setting(field.name, plain, field.default is None, field.default, choices=choices, **shown))
    return tuple(found)


def check_setting(setting: str, value: object, **changes: Any) -> Any:
    """A value of one of the settings, whose ``changes`` (limits, name) are those of the case; never None."""
    return dataclasses.replace(_SETTINGS[setting], optional=False, **changes).check(value)


def spec_of(arguments: Mapping[str, Any]) -> ForecastSpec:
    """The spec among a call's arguments, those of other names left out."""
    known = {field.name for field in dataclasses.fields(ForecastSpec)}
    return ForecastSpec(**{name: value for name, value in arguments.items() if name in known})


_SETTINGS: Final = {setting.name: setting for setting in settings()}

SAMPLING: Final[Mapping[str, Any]] = {name: one.off for name, one in _SETTINGS.items() if one.off is not None}
"""How tokens are drawn: each setting of the sampling, with the value that switches it off."""
