"""``kronos models``: which checkpoints can be used, and what one of them is."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from kronos.cli.common import emit_json, note, output
from kronos.cli.options import AsJson

app = typer.Typer(help="The checkpoints at hand: list them, read a model card.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the checkpoints: shipped in the package, in the local cache, and published."""
    from kronos.model.checkpoint import list_models

    models = list_models()
    if as_json:
        emit_json(models)
        return
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
    whole: Annotated[bool, typer.Option("--card", help="Show the whole model card and every cut-off date.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint's facts, and of its model card how good it is and its known limits."""
    from kronos.model.checkpoint import info, model_card

    facts, card = info(name), model_card(name)
    if as_json:
        emit_json({**facts, "card": card})
        return
    from rich.markdown import Markdown

    front, text = split_card(card)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for key, value in in_words(facts, front, every_date=whole).items():
        table.add_row(key, escape(value))
    output.print(table)
    output.print()
    output.print(Markdown(text if whole else extract(text)))
    if not whole:
        note(f"The whole card: kronos models info {name} --card")


def extract(card: str) -> str:
    """Of a model card: the first table of "How good it is", and "Known limits"; all of it where it has neither."""
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL))
    found = {
        title: re.search(pattern, sections.get(title, ""), re.MULTILINE | re.DOTALL)
        for title, pattern in (("How good it is", r"(^\|[^\n]*\n)+"), ("Known limits", r"\S.*"))
    }
    kept = [f"**{title}**\n\n{part[0]}" for title, part in found.items() if part]
    return "\n\n".join(kept) or card


def in_words(facts: dict[str, Any], front: dict[str, str], *, every_date: bool = True) -> dict[str, str]:
    """A checkpoint's facts as a reader wants them: shapes in words, dates, sizes, licence.

    Args:
        every_date: the end of training by group; else the first and the last of many.
    """
    net, tok = facts["config"], facts.get("tokenizer_config")
    bits = f"{net['s1_bits']} + {net['s2_bits']} bits a bar"
    lines = {
        "name": facts["name"],
        "parameters": f"{facts['parameters'] / 1e6:.1f} million",
        "network": f"{net['n_layers']} layers, width {net['d_model']}, {net['n_heads']} heads, "
        f"feed-forward {net['ff_dim']}; {bits}",
    }
    if tok is not None:
        lines["parameters"] += f", and {facts['tokenizer_parameters'] / 1e6:.1f} million of the tokenizer"
        reads = {
            "zscore": "levels, standardised by the context",
            "returns": "returns, in units of the context's volatility",
            "running": "returns, in units of a running volatility",
        }
        lines["tokenizer"] = (
            # the published counts are one more than the blocks there are
            f"{tok['n_enc_layers'] - 1} + {tok['n_dec_layers'] - 1} blocks, width {tok['d_model']}; reads bars as "
            f"{reads[facts['bar_transform']]}"
        )
    lines["context"] = f"{facts['context_length']:,} bars"
    lines["time of a bar"] = ", ".join(net.get("time_features", ("minute", "hour", "weekday", "day", "month")))
    lines["behaviour"] = {
        "consistent": "consistent: it decodes the function that it was trained on",
        "published": "published: the numbers are those of the published code",
    }[facts["behaviour"]]
    lines["calibration"] = _calibration(net.get("calibration"))
    lines["trained up to"] = _cutoff(net.get("training_cutoff"), every_date)
    lines["licence"] = front.get("license", "not stated")
    lines["file"] = f"{facts['folder']} ({facts['size_bytes'] / 1e6:.1f} MB)"
    return lines


def split_card(card: str) -> tuple[dict[str, str], str]:
    """The fields above a model card, and its text."""
    found = re.match(r"---\n(.*?)^---\n(.*)", card, re.MULTILINE | re.DOTALL)
    return (dict(re.findall(r"^([\w-]+): *(.*)$", found[1], re.MULTILINE)), found[2]) if found else ({}, card)


def _calibration(calibration: dict[str, Any] | None) -> str:
    if not calibration:
        return "none: paths are sampled as they come"
    parts = [f"{name} {calibration[name]:g}" for name in ("temperature", "top_k", "top_p") if name in calibration]
    if width := calibration.get("width"):
        pairs = (f"{factor:g} at {bars}" for bars, factor in zip(width["horizon"], width["factor"], strict=True))
        parts.append(f"width × {', '.join(pairs)} bars")
    return ", ".join(parts)


def _cutoff(stated: str | dict[str, str] | None, every_date: bool) -> str:
    if not stated:
        return "not stated"
    if isinstance(stated, dict) and len(stated) > 3 and not every_date:
        (first, begin), *_, (last, end) = sorted(stated.items(), key=lambda item: item[1])
        return f"{begin[:10]} ({first}) to {end[:10]} ({last}), by source; {len(stated)} sources"
    return stated if isinstance(stated, str) else ", ".join(f"{group}: {date[:10]}" for group, date in stated.items())
