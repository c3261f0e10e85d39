"""``kronos models``: which checkpoints can be used, and what one of them is."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from kronos.cli.common import AsJson, emit_json, note, output
from kronos.spec import SAMPLING

app = typer.Typer(help="The checkpoints at hand: list them, read a model card.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the checkpoints: shipped in the package, in the local cache, and published."""
    from kronos.model.checkpoint import list_models

    models = list_models()
    if as_json:
        emit_json(models)
        return
    table = Table("Name", "Where", "Parameters", "Context", "What it is", box=SIMPLE_HEAD)
    for column in table.columns[:4]:
        column.no_wrap, column.justify = True, "right" if column.header in ("Parameters", "Context") else "left"
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
    from kronos.model.checkpoint import card_fields, info, model_card

    facts, card = info(name), model_card(name)
    if as_json:
        emit_json({**facts, "card": card})
        return
    from rich.markdown import Markdown

    front, text = card_fields(card)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for key, value in _in_words(facts, front.get("license", "not stated"), every_date=whole).items():
        table.add_row(key, escape(value))
        if key == "name" and "verdict" in front:
            table.add_row("verdict", escape(front["verdict"].strip('"')))
    output.print(table)
    output.print()
    if not whole:  # the first table of "How good it is", and "Known limits"; all of a card that has neither
        sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
        patterns = {"How good it is": r"(^\|[^\n]*\n)+", "Known limits": r"\S.*"}
        found = {t: re.search(p, sections.get(t, ""), re.MULTILINE | re.DOTALL) for t, p in patterns.items()}
        text = "\n\n".join(f"**{title}**\n\n{part[0]}" for title, part in found.items() if part) or text
    output.print(Markdown(text))
    if not whole:
        note(f"The whole card: kronos models info {name} --card")


def _in_words(facts: dict[str, Any], licence: str, *, every_date: bool) -> dict[str, str]:
    """A checkpoint's facts as a reader wants them: shapes in words, dates, sizes, licence.

    Args:
        every_date: the end of training by group; else the first and the last of many.
    """
    net, tok = facts["config"], facts.get("tokenizer_config")
    lines = {
        "name": facts["name"],
        "parameters": f"{facts['parameters'] / 1e6:.1f} million",
        "network": f"{net['n_layers']} layers, width {net['d_model']}, {net['n_heads']} heads, "
        f"feed-forward {net['ff_dim']}; {net['s1_bits']} + {net['s2_bits']} bits a bar",
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
    calibration = net.get("calibration") or {}
    fitted = [(name, calibration[name]) for name in SAMPLING if name in calibration]
    parts = [f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}" for name, value in fitted]
    if width := calibration.get("width"):
        pairs = (f"{factor:g} at {bars}" for bars, factor in zip(width["horizon"], width["factor"], strict=True))
        parts.append(f"width × {', '.join(pairs)} bars")
    lines["calibration"] = ", ".join(parts) if calibration else "none: paths are sampled as they come"
    ends = net.get("training_cutoff") or "not stated"
    if isinstance(ends, dict) and len(ends) > 3 and not every_date:
        (first, begin), *_, (last, end) = sorted(ends.items(), key=lambda item: item[1])
        ends = f"{begin[:10]} ({first}) to {end[:10]} ({last}), by source; {len(ends)} sources"
    elif isinstance(ends, dict):
        ends = ", ".join(f"{group}: {date[:10]}" for group, date in ends.items())
    if judged := net.get("judged"):
        lines["judged on"] = f"{judged['context']:,} bars of context, {judged['horizon']:,} ahead"
    lines["trained up to"], lines["licence"] = ends, licence
    lines["file"] = f"{facts['folder']} ({facts['size_bytes'] / 1e6:.1f} MB)"
    return lines
