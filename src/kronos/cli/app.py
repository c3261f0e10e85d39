"""The root of the command line: which command lives where."""

from __future__ import annotations

from typing import Annotated

import typer

from kronos.cli import (
    backtest,
    bars,
    calibrate,
    evaluate,
    finetune,
    forecast,
    mcp,
    models,
    qlib,
    serve,
    train,
)

app = typer.Typer(
    name="kronos",
    epilog="First try:  kronos forecast sample:sp500 --calendar XNYS -o forecast.html",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph of help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kronos {version('kronos-kline')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Probabilistic forecasts of candlesticks: from real bars to sampled futures, risk numbers and charts."""


app.command()(forecast.forecast)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command()(finetune.finetune)
app.command()(backtest.backtest)
app.command()(serve.serve)
app.command()(mcp.mcp)
app.add_typer(train.app, name="train")
app.add_typer(bars.app, name="bars")
app.add_typer(qlib.app, name="qlib")
app.add_typer(models.app, name="models")
