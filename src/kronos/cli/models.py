"""``kronos models``: which checkpoints can be used, and what one of them is."""

from __future__ import annotations

from typing import Annotated

import typer

from kronos.cli.common import emit_json, output

app = typer.Typer(help="The checkpoints at hand: list them, read a model card.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the checkpoints: shipped in the package, in the local cache, and published."""
    from dataclasses import asdict

    from kronos.model.catalogue import list_models

    models = list_models()
    if as_json:
        emit_json([asdict(model) for model in models])
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for name in ("Name", "Where"):
        table.add_column(name, no_wrap=True)
    for name in ("Parameters", "Context"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("What it is")
    for model in models:
        size = f"{model.parameters / 1e6:.1f} M"
        table.add_row(model.name, model.source, size, f"{model.context_length:,}", model.description)
    output.print(table)


@app.command("info")
def info_(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A name, a folder or a hub id.")],
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint's facts and its model card."""
    from kronos.model.catalogue import info, model_card

    facts, card = info(name), model_card(name)
    if as_json:
        emit_json({**facts, "card": card})
        return
    from rich.markdown import Markdown
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        table.add_row(f"[dim]{key}[/]", str(value))
    output.print(table)
    output.print(Markdown(card))
