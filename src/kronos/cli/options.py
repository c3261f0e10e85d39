"""Options that commands share, each declared once.

A command asks for a bundle by the type of a parameter: :class:`~kronos.spec.ForecastSpec` for what is asked of a
forecast, :class:`ReadingOptions` for how files are read, :class:`Compute` for where many series are computed. Under
:func:`with_options` it gets an option for every field, and is handed one value, already checked.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from kronos.errors import ConfigError
from kronos.spec import ForecastSpec, Setting, settings

if TYPE_CHECKING:
    from kronos.protocol import WorkEngine

MANY = "Many series"  # of the help, a panel of its own
_many = functools.partial(typer.Option, rich_help_panel=MANY)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Defects = Annotated[Literal["strict", "drop"], typer.Option("--on-defect", help="Refuse defective rows, or drop them.")]
Model = Annotated[str, typer.Option(help="A name (see 'kronos models list'), a folder or a hub id.")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps. Default: a CUDA GPU if there is one.")
]
Frequency = Annotated[str | None, typer.Option(help="Bar size: 1m, 5m, 1h, 1d, 1w …")]


@dataclass(frozen=True)
class ReadingOptions:
    """How a file of bars is to be read; what is None is found out from the file."""

    symbol: Annotated[str | None, typer.Option(help="Take this series; or, where the file names none, call it so.")] = (
        None
    )
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME, such as close=Last, or a position from 0. Repeat as needed."),
    ] = None
    timezone: Annotated[str | None, typer.Option(help="IANA name: times without a zone are wall time there.")] = None
    dayfirst: Annotated[
        bool | None, typer.Option("--dayfirst/--monthfirst", help="Decide between 31/12 and 12/31.")
    ] = None
    decimal: Annotated[Literal[".", ","] | None, typer.Option(help="Decide how decimals are written.")] = None
    epoch: Annotated[
        Literal["s", "ms", "us", "ns"] | None, typer.Option(help="Decide the unit of epoch timestamps.")
    ] = None
    encoding: Annotated[str | None, typer.Option(help="Decide how characters are written, such as gbk.")] = None
    newest_first: Annotated[
        bool | None, typer.Option("--newest-first/--oldest-first", help="Whether rows run backwards.")
    ] = None

    def keywords(self) -> dict[str, Any]:
        """What was decided, as ``read_bars`` takes it.

        Raises:
            ConfigError: a ``--column`` that is not ROLE=NAME.
        """
        words = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        words["columns"] = _named_columns(words.pop("column"))
        return {name: value for name, value in words.items() if value is not None}


def _named_columns(pairs: list[str] | None) -> dict[str, str | int] | None:
    columns: dict[str, str | int] = {}
    for pair in pairs or ():
        role, equals, name = pair.partition("=")
        if not equals or not role or not name:
            raise ConfigError(f"--column '{pair}' is not ROLE=NAME. Write it as close=Last or close=4.")
        columns[role] = int(name) if name.isdigit() else name
    return columns or None


@dataclass(frozen=True)
class Compute:
    """Where the work on many series is done; ``device`` None: a GPU if there is one."""

    engine: Annotated[Literal["local", "ray"], _many(help="Compute in this process, or on Ray.")] = "local"
    address: Annotated[
        str | None, _many(metavar="HOST:PORT", help="A running Ray cluster, or auto. Default: Ray on this machine.")
    ] = None
    workers: Annotated[int | None, _many(min=1, help="Pieces at once. Default: one a core, or a GPU.")] = None
    gpus: Annotated[
        float | None, _many(min=0, help="Share of a GPU for each Ray worker. Default: 1 where there are any.")
    ] = None
    device: Device = None

    @property
    def chosen(self) -> bool:
        """Whether anything was said of engines and workers."""
        return self.engine != "local" or any(x is not None for x in (self.address, self.workers, self.gpus))

    def make(self) -> WorkEngine:
        """The engine.

        Raises:
            ConfigError: options that belong to the other one.
            MissingExtraError: Ray is not installed.
        """
        from kronos.scale.engines import make_engine

        return make_engine(self.engine, workers=self.workers, address=self.address, gpus=self.gpus)

    def away(self) -> WorkEngine | None:
        """The same where it is not this process, else None."""
        engine = self.make()
        return None if self.engine == "local" else engine


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer shall read it: each bundle among its parameters spelled out as options.

    Raises:
        ConfigError: when it is called with a value that a bundle refuses.
    """
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, tuple[Any, list[str]]] = {}  # parameter → what makes it, from which options
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        options = list(_options_of(kind))
        bundles[parameter.name] = kind, [option.name for option in options]
        parameters += options

    @functools.wraps(command)
    def call(**words: Any) -> None:
        made = {name: kind(**{field: words.pop(field) for field in fields}) for name, (kind, fields) in bundles.items()}
        command(**words, **made)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _options_of(bundle: Any) -> Iterator[inspect.Parameter]:
    """One parameter a field of a bundle."""
    if issubclass(bundle, ForecastSpec):
        for setting in settings(bundle):
            yield _parameter(setting.name, _annotation(setting), setting.default)
        return
    hints = get_type_hints(bundle, include_extras=True)
    for field in dataclasses.fields(bundle):
        yield _parameter(field.name, hints[field.name], field.default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _annotation(setting: Setting) -> Any:
    """A setting as an option. Its range is told here and checked by the spec, like that of every other surface."""
    kind: Any = Literal[setting.choices] if setting.choices else setting.kind
    bounded = setting.kind is not str and (setting.low, setting.high, setting.above) != (None, None, None)
    told = f"{setting.help.rstrip('.')} ({setting.range})." if bounded else setting.help
    return Annotated[kind | None if setting.optional else kind, typer.Option(f"--{setting.flag}", help=told)]
