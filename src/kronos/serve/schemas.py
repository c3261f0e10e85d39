"""What the API takes and gives; the OpenAPI document is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MOST_PATHS = 1000
MOST_HORIZON = 512
MOST_PATH_BARS = 100_000
_YEARS = (1678, 2261)  # what a nanosecond clock can show

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


class ForecastRequest(BaseModel):
    """What to forecast, and how."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    bars: Annotated[str, Field(min_length=1, max_length=80, description="Id of the bars.")]
    symbol: Annotated[
        str | None, Field(min_length=1, max_length=64, description="Which series, where the bars hold several.")
    ] = None
    model: Annotated[str, Field(min_length=1, max_length=80, description="Id of the model.")] = "kronos-nano"
    horizon: Annotated[int, Field(ge=1, le=MOST_HORIZON, description="Bars ahead.")] = 24
    num_samples: Annotated[int, Field(ge=1, le=MOST_PATHS, description="Sample paths.")] = 100
    temperature: Annotated[
        float | None, Field(ge=0, le=10, description="Spread of the sampling; null: the model's own.")
    ] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, description="Share of the likeliest tokens.")] = None
    top_k: Annotated[int | None, Field(ge=0, le=65536, description="Number of the likeliest tokens; 0: all.")] = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1, description="The same seed gives the same paths.")] = 0
    context_length: Annotated[
        int | None, Field(ge=2, le=100_000, description="Last bars to read; null: as many as the model can.")
    ] = None
    calendar: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9/]{1,16}$", description="MIC code, 24/7, FX, observed or step.")
    ] = None
    cutoff: Annotated[
        datetime | None,
        Field(description="Replay: the model sees the bars up to and including this time; the rest is the truth."),
    ] = None
    deadline: Annotated[
        float | None, Field(ge=1, le=3600, description="Seconds after which the forecast is given up.")
    ] = None

    @field_validator("cutoff")
    @classmethod
    def _within_the_clock(cls, value: datetime | None) -> datetime | None:
        if value is not None and not _YEARS[0] <= value.year <= _YEARS[1]:
            raise ValueError(f"the year must lie between {_YEARS[0]} and {_YEARS[1]}")
        return value

    @model_validator(mode="after")
    def _bounded_work(self) -> ForecastRequest:
        if self.horizon * self.num_samples > MOST_PATH_BARS:
            raise ValueError(f"horizon × num_samples may be at most {MOST_PATH_BARS:,}; ask for fewer paths or bars")
        return self

    def parameters(self) -> dict[str, Any]:
        """As the job and the document keep them."""
        return self.model_dump(mode="json", exclude={"deadline"})


class LoadRequest(BaseModel):
    """Where to load a model."""

    model_config = ConfigDict(extra="forbid")

    device: Annotated[str | None, Field(max_length=20, description="cpu, cuda:0 …; null: the best one.")] = None


class SessionRequest(BaseModel):
    """The token, to be exchanged for a cookie."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=512)]


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
    prob_up: float


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


class Progress(BaseModel):
    """Bars sampled, bars in all, and the time left in seconds."""

    done: int
    total: int
    eta_seconds: float | None


class ForecastDetail(ForecastItem):
    """A forecast: what was asked, how far it is, and its place in the queue (0: the next)."""

    parameters: dict[str, Any]
    progress: Progress | None
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
