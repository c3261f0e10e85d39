"""``kronos mcp``: the library as tools for assistants, over standard input and output."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kronos.cli.options import Device
from kronos.errors import MissingExtraError


def mcp(
    data_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of the bars that the tools may read.")
    ] = Path("."),
    model: Annotated[str, typer.Option(help="A name, a folder or a hub id.")] = "kronos-nano",
    device: Device = None,
) -> None:
    """Offer forecast, inspect and evaluate as tools for assistants (Model Context Protocol, stdio)."""
    if find_spec("mcp") is None:
        raise MissingExtraError("mcp", "mcp", "The tool server")
    from kronos.serve.mcp import Tools, build

    build(Tools(data_dir.resolve(), model, device)).run("stdio")
