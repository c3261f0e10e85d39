"""``kronos mcp``: forecast, inspect and evaluate as tools for assistants, over standard input and output."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos.cli.options import Device

if TYPE_CHECKING:
    import pandas as pd
    from mcp.server.mcpserver import MCPServer

    from kronos.inference.predictor import KronosPredictor

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_PATH_BARS = 100_000
_MOST_WINDOWS = 100
_LONGEST_DEFAULT = 96  # bars; the longest of the paper's horizons
_INSTRUCTIONS = (
    "Kronos forecasts candlesticks as sampled futures. Bars are named as files inside the folder the server was "
    "started for, or as packaged samples: sample:sp500, sample:nasdaq, sample:eurusd. Look at bars with inspect "
    "before you forecast them. A forecast is a distribution: report its intervals, not only its median; and ask "
    "evaluate whether the model is better than simple baselines on such bars. Nothing here is investment advice."
)


def mcp(
    data_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of the bars that the tools may read.")
    ] = Path("."),
    model: Annotated[str, typer.Option(help="A name, a folder or a hub id.")] = "kronos-nano",
    device: Device = None,
) -> None:
    """Offer forecast, inspect and evaluate as tools for assistants (Model Context Protocol, stdio)."""
    if find_spec("mcp") is None:
        from kronos.errors import MissingExtraError

        raise MissingExtraError("mcp", "mcp", "The tool server")
    build(Tools(data_dir.resolve(), model, device)).run("stdio")


def build(tools: Tools) -> MCPServer[Any]:
    """The tool server."""
    from importlib.metadata import version

    from mcp.server.mcpserver import MCPServer

    server: MCPServer[Any] = MCPServer(
        "kronos", instructions=_INSTRUCTIONS, version=version("kronos-kline"), log_level="WARNING"
    )
    for tool in (tools.inspect, tools.forecast, tools.evaluate):
        server.tool()(_telling(tool))
    return server


def _telling(tool: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The tool, whose errors of the library reach the assistant as they are worded."""
    from mcp.server.mcpserver.exceptions import ToolError

    from kronos.errors import KronosError

    @wraps(tool)
    def call(*args: Any, **words: Any) -> dict[str, Any]:
        try:
            return tool(*args, **words)
        except KronosError as error:
            raise ToolError(str(error)) from error

    return call


class Tools:
    """What an assistant can ask for.

    Args:
        folder: bars are read from inside this folder only.
        model: the checkpoint.
        device: where to compute.
    """

    def __init__(self, folder: Path, model: str, device: str | None) -> None:
        self.folder, self.model, self.device = folder, model, device

    def inspect(self, bars: str, symbol: str | None = None) -> dict[str, Any]:
        """Look over a file of bars: layout, symbols, bar size, time zone, calendar, rows, defects and warnings.

        Args:
            bars: a file inside the server's folder (CSV, Parquet, Feather), or sample:sp500, sample:nasdaq,
                sample:eurusd.
            symbol: of a table of several symbols, this one.
        """
        from kronos.bars import inspect_bars

        report = inspect_bars(self._locate(bars), symbol=symbol).to_dict()
        return {**report, "source": bars}

    def forecast(
        self,
        bars: str,
        horizon: int = 24,
        num_samples: int = 100,
        symbol: str | None = None,
        calendar: str | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Forecast the next bars of one series as quantiles of sampled paths, with the chance of a rise and the risk.

        Args:
            bars: a file inside the server's folder, or sample:sp500, sample:nasdaq, sample:eurusd.
            horizon: bars ahead, at most 512.
            num_samples: sampled paths; more give smoother quantiles.
            symbol: of a table of several symbols, this one.
            calendar: exchange by MIC code (XNYS, XSHG), 24/7 or FX; by default inferred from the bars.
            seed: the same seed gives the same paths.
        """
        from kronos.inference.export import document

        _check_size(horizon, num_samples)
        found = _predictor(self.model, self.device).forecast(
            self._read(bars, symbol), horizon=horizon, num_samples=num_samples, calendar=calendar, seed=seed
        )
        content = document(found, _LEVELS)
        return {
            "symbol": content["symbol"],
            "last_close": content["last_close"],
            "timestamps": content["timestamps"],
            "close_quantiles": {level: columns["close"] for level, columns in content["quantiles"].items()},
            "prob_up": content["prob_up"],
            "value_at_risk_95": found.value_at_risk(0.95),
            "expected_shortfall_95": found.expected_shortfall(0.95),
            "metadata": content["metadata"],
        }

    def evaluate(
        self,
        bars: str,
        windows: int = 20,
        context: int | None = None,
        horizon: int | None = None,
        num_samples: int = 50,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Judge the model against simple baselines on rolling cutoffs of past bars: CRPS, coverage, and a verdict.

        Args:
            bars: a file inside the server's folder, or sample:sp500, sample:nasdaq, sample:eurusd.
            windows: cutoffs, counted back from the end, at most 100.
            context: bars seen before each cutoff; by default the paper's for the bar size.
            horizon: bars ahead, at most 512; by default the paper's for the bar size.
            num_samples: sampled paths for each forecast.
            seed: the same seed gives the same figures.
        """
        import kronos
        from kronos.errors import ConfigError
        from kronos.files import to_json

        if not 1 <= windows <= _MOST_WINDOWS:
            raise ConfigError(f"windows is {windows}; ask for 1 to {_MOST_WINDOWS}.")
        _check_size(_LONGEST_DEFAULT if horizon is None else horizon, num_samples)
        result = kronos.evaluate(
            self._read(bars, None),
            self.model,
            baselines="rw-resampled,ewma",
            tasks="price",
            context=context,
            horizon=horizon,
            windows=windows,
            num_samples=num_samples,
            seed=seed,
            device=self.device,
        )
        kept = ("markets", "tasks", "yardstick", "verdicts", "notes")
        return dict(to_json({key: result.summary[key] for key in kept}))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _read(self, bars: str, symbol: str | None) -> pd.DataFrame:
        from kronos.workflows.forecast import read_series

        return read_series(self._locate(bars), symbol=symbol)

    def _locate(self, bars: str) -> Path:
        """The file that an assistant names.

        Raises:
            DataError: it lies outside the folder.
        """
        from kronos.bars.samples import PREFIX, locate
        from kronos.errors import DataError

        if bars.startswith(PREFIX):
            return locate(bars)
        path = (self.folder / bars).resolve()
        if not path.is_relative_to(self.folder):
            raise DataError(f"'{bars}' lies outside the folder that this server may read. Name a file inside it.")
        return path


def _check_size(horizon: int, num_samples: int) -> None:
    """Refuse what would keep the machine for too long.

    Raises:
        ConfigError: says what is allowed.
    """
    from kronos.errors import ConfigError

    if not 1 <= horizon <= 512 or not 1 <= num_samples <= _MOST_PATH_BARS // horizon:
        raise ConfigError(
            f"horizon is from 1 to 512, and horizon times num_samples from 1 to {_MOST_PATH_BARS:,}; "
            f"these are {horizon} and {num_samples}."
        )


@cache
def _predictor(model: str, device: str | None) -> KronosPredictor:
    """Loaded once, for all calls."""
    from kronos.inference.predictor import KronosPredictor

    return KronosPredictor.from_pretrained(model, device=device)
