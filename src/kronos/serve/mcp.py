"""Forecast, inspect and evaluate as tools for assistants (Model Context Protocol), over standard input and output."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import pandas as pd
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field, ValidationError

from kronos.bars import inspect_bars, read_bars
from kronos.bars.samples import PREFIX, SAMPLES, locate
from kronos.errors import DataError, KronosError, settings_in_words
from kronos.evaluation.baselines import BASELINES
from kronos.evaluation.summary import RIVALS
from kronos.files import to_json
from kronos.inference.export import document
from kronos.inference.predictor import KronosPredictor
from kronos.inference.views import Touches
from kronos.serve.documents import one_series
from kronos.serve.schemas import annotated, check_work, offered
from kronos.spec import spec_of
from kronos.workflows.evaluate import evaluate

_LONGEST_DEFAULT: Final = 96  # bars; the longest of the paper's horizons
_SAMPLES: Final = ", ".join(PREFIX + name for name in SAMPLES)
_INSTRUCTIONS: Final = (
    "Kronos forecasts candlesticks as sampled futures. Bars are named as files inside the folder the server was "
    f"started for, or as packaged samples: {_SAMPLES}. Look at bars with inspect "
    "before you forecast them. A forecast is a distribution: report its intervals, not only its median, and with every "
    "chance its sampling error; pass on the notes in metadata.warnings; and ask "
    "evaluate whether the model is better than simple baselines on such bars. Nothing here is investment advice."
)
_NAMED: Final = f"A file inside the server's folder (CSV, Parquet, Feather), or a sample: {_SAMPLES}."

Bars = Annotated[str, Field(description=_NAMED)]
Symbol = Annotated[str | None, Field(description="Of a table of several symbols, this one.")]


class Tools:
    """What an assistant can ask for.

    Args:
        folder: bars are read from inside this folder only.
        model: the checkpoint.
        device: where to compute.
        tokenizer: one other than the model's own.
    """

    def __init__(self, folder: Path, model: str, device: str | None, tokenizer: str | None = None) -> None:
        self.folder, self.model, self.device, self.tokenizer = folder, model, device, tokenizer

    def inspect(self, bars: Bars, symbol: Symbol = None) -> dict[str, Any]:
        """Look over a file of bars: layout, symbols, bar size, time zone, calendar, rows, defects and warnings."""
        return {**inspect_bars(self._locate(bars), symbol=symbol).to_dict(), "source": bars}

    def forecast(
        self,
        bars: Bars,
        symbol: Symbol = None,
        touch: Annotated[
            list[float] | None, Field(max_length=20, description="Add the chance that each price is touched.")
        ] = None,
        take_profit: Annotated[
            float | None, Field(description="With stop_loss: add which is touched first; below the close: a short.")
        ] = None,
        stop_loss: Annotated[float | None, Field(description="The other side of take_profit.")] = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """Forecast the next bars of one series: quantiles of sampled paths, the chance of a rise with its sampling
        error, the risk, the volatility a year beside that of the context and of a HAR model, and if asked the chance
        that prices are touched; null where too few distinct paths cannot tell (metadata.warnings says so), and the
        chance of a rise where the model gives no direction (``direction`` says so: do not present one half as a
        chance)."""
        check_work(settings["horizon"], settings["num_samples"])
        table, asked = self._read(bars, symbol), Touches(tuple(touch or ()), take_profit, stop_loss)
        asked.check(float(table["close"].iloc[-1]))
        found = self._predictor.answer(table, spec_of(settings))
        content = document(found)
        return {
            **{key: content[key] for key in ("symbol", "last_close", "timestamps")},
            "close_quantiles": {level: columns["close"] for level, columns in content["quantiles"].items()},
            **{name: content[name] for name in ("prob_up", "prob_up_error", "direction", "close_median_error")},
            "value_at_risk_95": content["value_at_risk"],
            "expected_shortfall_95": content["expected_shortfall"],
            "volatility": content["volatility"],
            **to_json(asked.document(found)),
            "metadata": content["metadata"],
        }

    def evaluate(
        self,
        bars: Bars,
        windows: Annotated[int, Field(ge=1, le=100, description="Cutoffs, counted back from the end.")] = 20,
        context: Annotated[
            int | None, Field(description="Bars seen before each cutoff. Default: as many as a forecast reads.")
        ] = None,
        horizon: Annotated[int | None, Field(description="Bars ahead. Default: the paper's for the bar size.")] = None,
        num_samples: Annotated[int, Field(description="Sample paths for each forecast.")] = 50,
        seed: Annotated[int, Field(description="The same seed gives the same figures.")] = 0,
    ) -> dict[str, Any]:
        """Judge the model against simple baselines on rolling cutoffs of past bars: CRPS, coverage, and a verdict."""
        check_work(_LONGEST_DEFAULT if horizon is None else horizon, num_samples)
        summary = evaluate(
            self._read(bars, None),
            self.model,
            baselines=[name for name in RIVALS if name in BASELINES],
            tasks="price",
            context=context,
            horizon=horizon,
            windows=windows,
            num_samples=num_samples,
            seed=seed,
            device=self.device,
            tokenizer=self.tokenizer,
        ).summary
        kept = ("markets", "tasks", "yardstick", "headlines", "verdicts", "notes")
        return dict(to_json({key: summary[key] for key in kept}))

    @cached_property
    def _predictor(self) -> KronosPredictor:
        return KronosPredictor.from_pretrained(self.model, self.device, tokenizer=self.tokenizer)

    def _read(self, bars: str, symbol: str | None) -> pd.DataFrame:
        return one_series(read_bars(self._locate(bars), symbol=symbol))

    def _locate(self, bars: str) -> Path:
        """The file that an assistant names, if it does not lie outside the folder."""
        if bars.startswith(PREFIX):
            return locate(bars)
        path = (self.folder / bars).resolve()
        if not path.is_relative_to(self.folder):
            raise DataError(f"'{bars}' lies outside the folder that this server may read. Name a file inside it.")
        return path


class _ToolServer(MCPServer[Any]):
    """Tells what is wrong with the arguments of a call in the library's words instead of pydantic's."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if type(error) is ToolError and isinstance(error.__cause__, ValidationError):
                raise ToolError(f"{settings_in_words(error.__cause__.errors(), 'the request')}.") from error
            raise


def build(tools: Tools) -> MCPServer[Any]:
    """The tool server."""
    number = version("kronos-kline")
    server = _ToolServer("kronos", instructions=_INSTRUCTIONS, version=number, log_level="WARNING")
    for tool in (tools.inspect, tools.forecast, tools.evaluate):
        server.tool()(_as_tool(tool))
    return server


def _as_tool(operation: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The operation with every setting of a forecast in place of ``**settings``; errors keep the library's words."""

    @wraps(operation)
    def tool(*args: Any, **words: Any) -> dict[str, Any]:
        try:
            return operation(*args, **words)
        except KronosError as error:
            raise ToolError(str(error)) from error

    signature = inspect.signature(operation, eval_str=True)
    named = list(signature.parameters.values())
    if named[-1].kind is inspect.Parameter.VAR_KEYWORD:
        only = inspect.Parameter.KEYWORD_ONLY
        settings = (inspect.Parameter(s.name, only, default=s.default, annotation=annotated(s)) for s in offered())
        named[-1:] = settings
    tool.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    return tool
