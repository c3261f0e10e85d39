"""What a tokenizer and a network are built from, and the named sizes.

Notable:
- A config is checked where it is built, so a damaged ``config.json`` fails before any memory is taken.
- Published files hold only the published keys. Ours add some (``consistent``, ``bar_transform``, ``quantizer``,
  ``max_context``, ``time_features``, ``calibration``, ``training_cutoff``, ``judged``), whose defaults mean
  "published"; where they change what is computed, the file has a layout that the published code refuses
  (:mod:`kronos.model.layout`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

from kronos.errors import ConfigError
from kronos.spec import SAMPLING, check_setting

TIME_FEATURES = ("minute", "hour", "weekday", "day", "month")  # the order of a stamp's last dimension

DEPENDENCY_HEADS = 4  # the dependency-aware layer has four heads at every size

_MAX_BITS = 16  # 65,536 codes a level; the published models use 10
_MOST_CODE_BITS = 12  # of which every code is counted in a training step
_MAX_WIDTH = 16_384
_MAX_LAYERS = 256

# Numbers with their range, both ends included.
Bits = Annotated[int, (1, _MAX_BITS)]
Layers = Annotated[int, (1, _MAX_LAYERS)]
HeadCount = Annotated[int, (1, 256)]
FeedForwardWidth = Annotated[int, (1, 8 * _MAX_WIDTH)]
Dropout = Annotated[float, (0, 0.99)]
Weight = Annotated[float, (0, 1e3)]


class _Config:
    """Shared reading, writing and checking; a config is a flat mapping, as in ``config.json``."""

    @classmethod
    def of(cls, *given: Any, **named: Any) -> Self:
        """A config itself, or one of its fields by position and name, as the published constructors take them.

        Raises:
            TypeError: a field is missing, unknown or given twice.
        """
        if len(given) == 1 and isinstance(given[0], cls) and not named:
            return given[0]
        return cls(*given, **named)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the config from a mapping; unknown keys are left to whoever wrote them."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        if missing := sorted(f.name for f in fields if f.default is dataclasses.MISSING and f.name not in values):
            raise ConfigError(f"{cls.__name__}: the config lacks {', '.join(missing)}")
        return cls(**{f.name: values[f.name] for f in fields if f.name in values})

    def to_dict(self) -> dict[str, Any]:
        """The flat mapping; our own keys are left out where they mean the published behaviour."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: value for name, value in values.items() if value != defaults[name]}

    def shape(self) -> dict[str, Any]:
        """The published fields by name; ours are those with a default."""
        published = (f.name for f in dataclasses.fields(self) if f.default is dataclasses.MISSING)  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in published}

    def _require(self, holds: object, refusal: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {refusal}")

    def _check_number(self, name: str, value: Any, kind: type, low: float, high: float) -> None:
        right_type = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        words = "an integer" if kind is int else "a number"
        allowed = f"it must be {words} from {low:g} to {high:g}"
        self._require(right_type and low <= value <= high, f"{name} is {value!r}; {allowed}")

    def _check_fields(self, *head_counts: int) -> None:
        """Refuses numbers out of range, words that are no choice, flags that are none, heads that do not divide."""
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value, parts = getattr(self, name), get_args(kind)
            if get_origin(kind) is Annotated:
                self._check_number(name, value, parts[0], *parts[1])
            elif get_origin(kind) is Literal:
                *others, last = (repr(choice) for choice in parts)
                self._require(value in parts, f"{name} is {value!r}; choose {', '.join(others)} or {last}")
            elif kind is bool:
                self._require(isinstance(value, bool), f"{name} is {value!r}; it must be true or false")
        width: int = self.d_model  # type: ignore[attr-defined]
        for heads in (self.n_heads, *head_counts):  # type: ignore[attr-defined]
            even = width % heads == 0 and width // heads % 2 == 0
            self._require(even, f"d_model {width} over {heads} heads must give an even whole head width")


@dataclass(frozen=True)
class TokenizerConfig(_Config):
    """The tokenizer's shape and loss weights (defaults only for keys that published files lack)."""

    d_in: Annotated[int, (1, 64)]  # features of a bar: open, high, low, close, volume, amount
    d_model: Annotated[int, (4, _MAX_WIDTH)]
    n_heads: HeadCount
    ff_dim: FeedForwardWidth
    n_enc_layers: Layers  # counts one more than the real blocks, as the published code does
    n_dec_layers: Layers
    ffn_dropout_p: Dropout
    attn_dropout_p: Dropout
    resid_dropout_p: Dropout
    s1_bits: Bits  # coarse token
    s2_bits: Bits  # fine token
    beta: Weight  # weight of the commitment term
    gamma0: Weight  # weight of the per-bar entropy (decisive bits)
    gamma: Weight  # weight of the codebook entropy (all codes in use)
    zeta: Weight  # weight of the two entropies together
    group_size: Annotated[int, (1, 64)]  # kept for the layout; it does not change the loss
    quantizer: Literal["bsq", "fsq"] = "bsq"
    bar_transform: Literal["zscore", "returns", "running"] = "zscore"  # bars to features (see kronos.bars.transform)
    move_gain: Annotated[float, (0.5, 2)] = 1.0  # of moves decoded by "running": a code moves less than its bars
    code_entropy: Annotated[float, (0, 1e3)] = 0.0
    # weight of the entropy of whole codes: bits that go together waste some

    def __post_init__(self) -> None:
        self._check_fields()
        even, most = self.s1_bits % 2 == self.s2_bits % 2 == 0, max(self.s1_bits, self.s2_bits)
        fits = self.quantizer != "fsq" or even
        self._require(fits, "fsq packs two bits a dimension, so s1_bits and s2_bits must be even")
        if self.code_entropy:
            self._require(self.quantizer == "bsq", "code_entropy is for quantizer 'bsq'; set it to 0")
            counted = f"code_entropy counts whole codes: at most {_MOST_CODE_BITS} bits a token, not {most}"
            self._require(most <= _MOST_CODE_BITS, counted)
        moves = self.move_gain == 1.0 or self.bar_transform == "running"
        self._require(moves, f"move_gain is for bar_transform 'running', not {self.bar_transform!r}")


@dataclass(frozen=True)
class KronosConfig(_Config):
    """The network's shape (defaults only for keys that published files lack)."""

    s1_bits: Bits
    s2_bits: Bits
    n_layers: Layers
    d_model: Annotated[int, (8, _MAX_WIDTH)]
    n_heads: HeadCount
    ff_dim: FeedForwardWidth
    ffn_dropout_p: Dropout
    attn_dropout_p: Dropout
    resid_dropout_p: Dropout
    token_dropout_p: Dropout
    learn_te: bool  # learnt time embeddings; otherwise fixed sinusoids
    consistent: bool = False  # our marker: decoding computes the function that training computed
    max_context: Annotated[int, (2, 1_000_000)] = 512  # bars of context the network was trained on
    time_features: tuple[str, ...] = TIME_FEATURES  # those that count; day and month invite learning dates by heart
    calibration: Mapping[str, Any] | None = None  # sampling defaults and width by horizon, fitted on past forecasts
    training_cutoff: str | Mapping[str, str] | None = None  # the last bars trained on: an ISO date, or one a group
    judged: Mapping[str, int] | None = None  # bars of "context" and of "horizon" that its card's figures are about

    def __post_init__(self) -> None:
        self._check_fields(DEPENDENCY_HEADS)
        names = self.time_features
        known = isinstance(names, list | tuple) and all(name in TIME_FEATURES for name in names)
        self._require(known, f"time_features is {names!r}; list some of {', '.join(TIME_FEATURES)}")
        object.__setattr__(self, "time_features", tuple(names))  # JSON holds a list
        fitted = {} if self.calibration is None else self.calibration
        self._require(isinstance(fitted, Mapping), f"calibration is {fitted!r}; it must be an object of settings")
        for name in [name for name in SAMPLING if name in fitted]:
            check_setting(name, fitted[name], name=f"{type(self).__name__}: calibration: {name}")
        if fitted.get("width") is not None:
            check_width(fitted["width"])
        judged = {} if self.judged is None else self.judged
        self._require(isinstance(judged, Mapping), f"judged is {judged!r}; it must be an object of context and horizon")
        for name in ("context", "horizon") if judged else ():
            self._check_number(f"judged: {name}", judged.get(name), int, 1, 1_000_000)
        cutoff = self.training_cutoff
        for date in cutoff.values() if isinstance(cutoff, Mapping) else () if cutoff is None else (cutoff,):
            try:
                datetime.fromisoformat(date)
            except (TypeError, ValueError):
                self._require(False, f"training_cutoff has {date!r}; write dates as 2024-06-30, one or one a group")


def check_width(width: object) -> None:
    """Refuses a width that is not ``{"horizon": [...], "factor": [...]}``, increasing and positive."""
    lists = [width.get(name) for name in ("horizon", "factor")] if isinstance(width, Mapping) else [None, None]
    at, factor = (list(entry) if isinstance(entry, list | tuple) else [] for entry in lists)
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in at + factor)
    if not at or len(at) != len(factor) or not numbers:
        raise ConfigError(f"calibration of the width needs lists of numbers 'horizon' and 'factor', not {width!r}")
    if at[0] < 1 or any(b <= a for a, b in itertools.pairwise(at)) or min(factor) <= 0:
        wanted = "horizons must increase from 1 or more, with one positive factor for each"
        raise ConfigError(f"calibration of the width: {wanted}")


def _network(
    layers: int, width: int, heads: int, ff: int, drop: tuple[float, float, float, float], context: int = 512
) -> KronosConfig:
    return KronosConfig(10, 10, layers, width, heads, ff, *drop, learn_te=True, max_context=context)


MODEL_PRESETS: Mapping[str, KronosConfig] = {
    "mini": _network(4, 256, 4, 512, (0.2, 0.0, 0.2, 0.0), 2048),
    "small": _network(8, 512, 8, 1024, (0.25, 0.1, 0.25, 0.1)),
    "base": _network(12, 832, 16, 2048, (0.2, 0.0, 0.2, 0.0)),
    "large": _network(18, 1664, 32, 3072, (0.0, 0.0, 0.0, 0.0)),
}
_TOKENIZER = TokenizerConfig(
    d_in=6, d_model=256, n_heads=4, ff_dim=512, n_enc_layers=4, n_dec_layers=4,
    ffn_dropout_p=0.0, attn_dropout_p=0.0, resid_dropout_p=0.0, s1_bits=10, s2_bits=10,
    beta=0.05, gamma0=1.0, gamma=1.1, zeta=0.05, group_size=5,
)  # fmt: skip
TOKENIZER_PRESETS: Mapping[str, TokenizerConfig] = {
    "2k": _TOKENIZER,
    "base": dataclasses.replace(_TOKENIZER, group_size=4),
}
