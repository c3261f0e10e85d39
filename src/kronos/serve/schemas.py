"""What the API takes and gives: the OpenAPI document and the tools' input schemas are made from these.

A forecast is asked for with the settings of :class:`~kronos.spec.ForecastSpec`; only the server's own limits
stand here.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from kronos.errors import ConfigError
from kronos.spec import ForecastSpec, Setting, settings, spec_of

CAPS: Final[dict[str, float]] = {
    "horizon": 512,
    "num_samples": 1000,
    "temperature": 10,
    "top_k": 65536,
    "seed": 2**53 - 1,  # the largest whole number that JavaScript keeps
    "context_length": 100_000,
    "window_stride": 100_000,
}
MOST_PATH_BARS: Final = 100_000  # what horizon × num_samples may be
OF_THE_TIMES: Final = ("calendar", "stamp", "frequency")
"""Settings that say when the bars of a series come; those that agree in all others are computed together."""
READING_OPTIONS: Final = (
    "symbol", "timezone", "dayfirst", "newest_first", "decimal", "epoch", "encoding", "on_defect", "columns",
)  # fmt: skip
"""Options of ``read_bars`` that an upload may have as fields of its form."""

_MOST_TEXT = 64  # characters of a setting

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


def offered() -> tuple[Setting, ...]:
    """The settings of a forecast, with the server's limits."""
    found = []
    for one in settings(ForecastSpec):
        high = min((bound for bound in (one.high, CAPS.get(one.name)) if bound is not None), default=None)
        found.append(dataclasses.replace(one, high=high))
    return tuple(found)


def annotated(one: Setting) -> Any:
    """A setting as a type that pydantic checks and describes."""
    kind: Any = Literal[one.choices] if one.choices else one.kind
    limits: dict[str, Any] = {}
    if one.kind is not str:
        limits = {"ge": one.low, "gt": one.above, "le": one.high}
    elif not one.choices:
        limits = {"pattern": one.pattern, "max_length": None if one.pattern else _MOST_TEXT}
    return Annotated[kind | None if one.optional else kind, Field(description=one.help, **limits)]


def check_work(horizon: int, num_samples: int) -> None:
    """Refuse what would keep the machine for too long."""
    most = int(CAPS["horizon"])
    if not 1 <= horizon <= most or not 1 <= num_samples <= MOST_PATH_BARS // horizon:
        raise ConfigError(
            f"horizon × num_samples may be at most {MOST_PATH_BARS:,}, with a horizon from 1 to {most}; "
            "ask for fewer paths or bars"
        )


_FIELDS: Any = {one.name: (annotated(one), one.default) for one in offered()}


class ForecastRequest(create_model("ForecastSettings", **_FIELDS)):  # type: ignore[misc]
    """What to forecast, and how."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bars: str = Field(min_length=1, max_length=80, description="Id of the bars.")
    symbol: str | None = Field(
        None, min_length=1, max_length=64, description="Which series, where the bars hold several."
    )
    model: str = Field("kronos-nano", min_length=1, max_length=80, description="Id of the model.")
    cutoff: datetime | None = Field(
        None,
        ge=datetime(1678, 1, 1),  # what a nanosecond clock can show
        lt=datetime(2262, 1, 1),
        description="Replay: the model sees the bars up to and including this time; the rest is the truth.",
    )
    deadline: float | None = Field(None, ge=1, le=3600, description="Seconds after which the forecast is given up.")

    @model_validator(mode="after")
    def _bounded_work(self) -> ForecastRequest:
        spec = spec_of(vars(self))
        check_work(spec.horizon, spec.num_samples)
        return self

    def parameters(self) -> dict[str, Any]:
        """As the job and the document keep them."""
        return dict(self.model_dump(mode="json", exclude={"deadline"}))


class SettingItem(BaseModel):
    """A setting of a forecast: its type, what holds where it is left out, and what is allowed."""

    name: str
    kind: Literal["int", "float", "str"]
    optional: bool
    default: int | float | str | None
    help: str
    low: int | float | None
    high: int | float | None
    above: int | float | None
    choices: list[str]
    pattern: str | None


class Limits(BaseModel):
    """What a forecast can be asked with, and what the server takes."""

    settings: list[SettingItem]
    most_path_bars: int = Field(description="What horizon × num_samples may be.")
    most_upload_bytes: int


class LoadRequest(BaseModel, extra="forbid"):
    """Where to load a model."""

    device: str | None = Field(None, max_length=20, description="cpu, cuda:0 …; null: the best one.")


class SessionRequest(BaseModel, extra="forbid"):
    """The token, to be exchanged for a cookie."""

    token: str = Field(max_length=512)


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorBody


REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "Refused; the message says why, and what to do.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}},
    }
}
"""Errors of operations that answer with something else than JSON."""


class ModelItem(BaseModel):
    """A model."""

    id: str
    name: str
    kind: Literal["embedded", "family", "local"]
    downloaded: bool
    state: Literal["unloaded", "loading", "loaded", "failed"]
    device: str | None
    parameters: int | None
    context: int | None
    bytes: int | None
    training_cutoff: str | None
    error: str | None


class ModelDetail(ModelItem):
    """A model and its card."""

    card: str | None


class ModelCard(BaseModel):
    """A model's card as a page shows it; null where there is none."""

    elements: list[Any] | None


class ModelList(BaseModel):
    """All models, where they can be put, and the memory they share."""

    items: list[ModelItem]
    devices: list[str]
    memory_budget_bytes: int
    memory_used_bytes: int


class BarsItem(BaseModel):
    """A file of bars; symbols and rows are null until it has been looked at."""

    id: str
    name: str
    source: Literal["sample", "folder", "upload"]
    symbols: list[str] | None
    rows: int | None
    bytes: int | None


class BarsList(BaseModel):
    """All bars."""

    items: list[BarsItem]


class BarsDetail(BarsItem):
    """A file of bars and what was recognised in it."""

    report: dict[str, Any]
    preview: list[dict[str, Any]]


class Candles(BaseModel):
    """Bars as columns."""

    timestamp: list[str]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float] | None
    frequency: str | None
    total: int


class Summary(BaseModel):
    """What a list shows of a finished forecast."""

    last_close: float
    median_close: float
    prob_up: float | None = Field(
        description="Null where too few distinct paths were drawn to tell, or without a direction."
    )
    prob_up_error: float | None = Field(None, description="Its sampling error.")


class ForecastItem(BaseModel):
    """A forecast in a list."""

    id: str
    status: Status
    created: str
    finished: str | None
    bars_name: str
    symbol: str | None
    model: str
    horizon: int
    num_samples: int
    mode: Literal["forecast", "replay"]
    summary: Summary | None
    error: ErrorBody | None


class ForecastProgress(BaseModel):
    """Bars sampled, bars in all, and the time left in seconds."""

    done: int
    total: int
    eta_seconds: float | None


class ForecastDetail(ForecastItem):
    """A forecast: what was asked, how far it is, and its place in the queue (0: the next)."""

    parameters: dict[str, Any]
    progress: ForecastProgress | None
    queue_position: int | None


class ForecastList(BaseModel):
    """One page of the history."""

    items: list[ForecastItem]
    total: int
    page: int
    size: int


class Health(BaseModel):
    """Whether the server lives, or is ready."""

    status: str
