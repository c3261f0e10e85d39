"""The command ``kronos``: parse, call the library, print or write. One file a command group."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kronos.cli import bars, evaluate, forecast, models, qlib, serve, train
from kronos.cli.common import fail
from kronos.errors import KronosError, MissingExtraError, settings_in_words

DONE, FAILED, INTERRUPTED, CLOSED = 0, 1, 130, 141

#: Packages that whole rooms stand on → the extra that brings them. A single function that needs one says so itself.
EXTRAS = {
    **dict.fromkeys(("scipy", "arch"), "eval"),
    **dict.fromkeys(("yaml", "accelerate", "peft"), "train"),
    **dict.fromkeys(("fastapi", "uvicorn", "starlette", "multipart", "prometheus_client"), "serve"),
    "matplotlib": "plot",
    "mcp": "mcp",
    "qlib": "qlib",
    "ray": "ray",
}


class Root(TyperGroup):
    """The command ``kronos``; a value that an option refuses is told in our words, not in those of pydantic."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from pydantic import ValidationError  # a tenth of what `kronos --help` takes

            if isinstance(error.__cause__, ValidationError):
                told = settings_in_words(error.__cause__.errors(), "it", 1)
                error.message = f"{told.removeprefix('it: ').rstrip('.')}."
            raise


app = typer.Typer(
    name="kronos",
    cls=Root,
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
app.command()(evaluate.calibrate)
app.command()(train.finetune)
app.command()(qlib.backtest)
app.command()(serve.serve)
app.command()(serve.mcp)
app.add_typer(train.app, name="train")
app.add_typer(bars.app, name="bars")
app.add_typer(qlib.app, name="qlib")
app.add_typer(models.app, name="models")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 done · 1 an error, told in one or two lines on stderr · 2 usage · 130 interrupted by the keyboard ·
    141 the reader of the output has gone.

    Args:
        args: the words after ``kronos``; those of the process when None.
    """
    try:
        status = _run(args)
        sys.stdout.flush()
        if status == INTERRUPTED and args is None:
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # Python would first wait for threads that are in the middle of a forecast
    except BrokenPipeError:
        # As in `kronos … | head`. Python would flush once more at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return status


def _run(args: Sequence[str] | None) -> int:
    try:
        app(args=None if args is None else list(args), prog_name="kronos")
        return DONE
    except SystemExit as end:  # typer's way of ending, with its own status: 0, 2 for usage, 130 for Ctrl-C
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except KronosError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise  # not an extra: a broken installation, of which the traceback tells most
        fail(str(MissingExtraError(package, EXTRAS[package], "This command")))
    except MemoryError:
        fail("There is not enough memory. Ask for fewer samples, a shorter horizon or a smaller model.")
    except OSError as error:  # a full disk, a file without permission: the user's to mend, so no traceback
        place = f" ('{error.filename}')" if error.filename else ""
        fail(f"{error.strerror or error}{place}.")
    return FAILED
