"""``kronos serve``: the studio and the HTTP API; ``kronos mcp``: the library as tools for assistants."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kronos.cli.common import Device, Tokenizer, note, output
from kronos.errors import MissingExtraError


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; one beyond this machine needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 7070,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of bars/, models/, uploads and results; made where it is missing.")
    ] = Path("~/.kronos"),
    token: Annotated[
        str | None, typer.Option(envvar="KRONOS_TOKEN", help="What callers must show; at least 16 characters.")
    ] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Forecasts that may wait; more are told to come later.")] = 32,
    model_memory: Annotated[
        int | None, typer.Option(min=1, help="MB that loaded models may take together. Default: half of the memory.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name under which the server is reached. May repeat.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="One more model beside those in models/: a folder anywhere, or a hub id.")
    ] = None,
    tokenizer: Tokenizer = None,
) -> None:
    """Serve the studio and the HTTP API until Ctrl-C.

    Prints the address and opens nothing. Running forecasts are finished before it stops.
    """
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "markdown_it"):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "serve", "The server")
    from kronos.serve.app import serve as run
    from kronos.serve.settings import ServerSettings

    settings = ServerSettings(
        data_dir=data_dir.expanduser().resolve(),
        host=host,
        port=port,
        token=token,
        max_queue=max_queue,
        allowed_hosts=tuple(allow_host or ()),
        memory_budget=None if model_memory is None else model_memory * 10**6,
        model=model,
        tokenizer=tokenizer,
    )

    def ready(address: str) -> None:
        output.print(f"Serving on {address}", soft_wrap=True)
        note(f"Bars, models and results: {settings.data_dir}. Ctrl-C stops.")

    run(settings, ready)


def mcp(
    data_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of the bars that the tools may read.")
    ] = Path("."),
    model: Annotated[str, typer.Option(help="A name, a folder or a hub id.")] = "kronos-nano",
    tokenizer: Tokenizer = None,
    device: Device = None,
) -> None:
    """Offer forecast, inspect and evaluate as tools for assistants (Model Context Protocol, stdio)."""
    if find_spec("mcp") is None:
        raise MissingExtraError("mcp", "mcp", "The tool server")
    from kronos.serve.mcp import Tools, build

    build(Tools(data_dir.resolve(), model, device, tokenizer)).run("stdio")
