"""The rooms and their arrows, and the absences that are promises, read from the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kronos"

# Every room may import itself and the ground floor; beyond that, only what stands here.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "spec": set(),
    "protocol": set(),
    "barriers": set(),
    "volatility": {"pretrained"},
    "model": set(),
    "bars": set(),
    "inference": {"model", "bars"},
    "published": {"model", "inference"},
    "training": {"model", "bars"},
    "evaluation": {"bars"},
    "backtesting": {"bars", "evaluation"},
    "adapters": {"inference", "bars"},
    "scale": {"inference", "bars"},
    "workflows": {"model", "bars", "inference", "training", "evaluation", "backtesting", "scale", "pretrained"},
    "serve": {"model", "bars", "inference", "evaluation", "workflows"},
    "pretrained": set(),
    "cli": {"model", "bars", "inference", "training", "evaluation", "backtesting", "serve", "scale", "workflows"},
}
GROUND = {"errors", "files", "spec", "protocol", "barriers", "volatility"}  # what every room may import
# Packages that only the named rooms may import.
OWNERS = {
    "qlib": {"backtesting"},
    "ray": {"scale"},
    "typer": {"cli"},
    "rich": {"cli"},
    "fastapi": {"serve"},
    "mcp": {"serve"},
    **{name: {"adapters"} for name in ("gluonts", "sktime", "darts", "fev", "datasets", "nautilus_trader")},
}
SERIALISERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NUMPY_STREAMS = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox", "BitGenerator"}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal", "rand_like", "randn_like"}


def sources(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


LIBRARY = sources(PACKAGE)
EVERYTHING = sources(PACKAGE, ROOT / "tests", ROOT / "benchmarks")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, at the top or inside a function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """(line, dotted name as written, node) of every call."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, dotted(node.func), node


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def where(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} {what}"


def test_every_room_is_known() -> None:
    assert {room(path) for path in LIBRARY} - {"__init__"} <= set(ARROWS)


@pytest.mark.parametrize("name", ARROWS)
def test_arrows(name: str) -> None:
    allowed = ARROWS[name] | {name} | GROUND
    wrong = []
    for path in LIBRARY:
        if room(path) != name:
            continue
        for line, imported in imports(path):
            first, *rest = imported.split(".")
            if first == "kronos" and rest and rest[0] not in allowed:
                wrong.append(where(path, line, f"imports {imported}"))
    assert not wrong


def test_packages_stay_in_their_rooms() -> None:
    wrong = [
        where(path, line, f"imports {name}")
        for path in LIBRARY
        for line, name in imports(path)
        if (owners := OWNERS.get(name.split(".")[0])) and room(path) not in owners
    ]
    assert not wrong


def test_no_pandas_in_model_and_torch_in_bars_only_for_windows() -> None:
    banned = {"model": "pandas", "bars": "torch", "errors": "torch"}
    wrong = [
        where(path, line, f"imports {name}")
        for path in LIBRARY
        for line, name in imports(path)
        if name.split(".")[0] == banned.get(room(path)) and path.name != "windows.py"
    ]
    assert not wrong


def test_no_print_outside_cli() -> None:
    wrong = [
        where(path, line, name)
        for path in LIBRARY
        if room(path) != "cli"
        for line, name, _ in calls(path)
        if name == "print" or name.startswith(("sys.stdout.", "sys.stderr."))
    ]
    assert not wrong


def test_no_pickle() -> None:
    wrong = [
        where(path, line, f"imports {name}")
        for path in LIBRARY
        for line, name in imports(path)
        if name.split(".")[0] in SERIALISERS
    ]
    for path in LIBRARY:
        for line, name, node in calls(path):
            unsafe = name in {"torch.load", "torch.save"} or name.endswith((".read_pickle", ".to_pickle"))
            if unsafe or any(keyword.arg == "allow_pickle" and is_true(keyword.value) for keyword in node.keywords):
                wrong.append(where(path, line, name))
    assert not wrong


def is_true(node: ast.AST) -> bool:
    return not (isinstance(node, ast.Constant) and node.value is False)


def test_no_global_random_state() -> None:
    wrong = [
        where(path, line, f"imports {name}")
        for path in LIBRARY
        for line, name in imports(path)
        if name.split(".")[0] == "random"
    ]
    for path in LIBRARY:
        shielded = lines_under(path, "fork_rng")
        for line, name, node in calls(path):
            first, _, last = name.rpartition(".")
            numpy = first in {"np.random", "numpy.random"} and last not in NUMPY_STREAMS
            seeds = last in {"manual_seed", "manual_seed_all"} and first.startswith("torch")
            draws = first == "torch" and last in TORCH_DRAWS and "generator" not in {k.arg for k in node.keywords}
            if numpy or ((seeds or draws) and line not in shielded):
                wrong.append(where(path, line, name))
    assert not wrong


def lines_under(path: Path, context: str) -> set[int]:
    """The lines inside `with …context(…)`: what happens to the global state there is undone at its end."""
    lines: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.With) and any(context in ast.dump(item.context_expr) for item in node.items):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_no_sys_path_edits() -> None:
    wrong = [
        where(path, node.lineno, "touches sys.path")
        for path in EVERYTHING
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and dotted(node) == "sys.path"
    ]
    assert not wrong


def test_no_work_at_import() -> None:
    """At the top of a file stand imports, definitions and values; in the command line commands are mounted there."""
    wrong = [
        where(path, node.lineno, "works at import")
        for path in LIBRARY
        if room(path) != "cli"
        for node in tree(path).body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Try | ast.Assert)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    ]
    assert not wrong


def test_advice_in_errors_names_the_option_of_the_command_line_too() -> None:
    """Where an error of ``bars`` says ``epoch='ms'`` it also says ``(--epoch ms)``; the columns' helper does both."""
    keyword = re.compile(r"\b(columns|on_defect|dayfirst|epoch|decimal|timezone|newest_first|stamp|calendar)=['TFN{]")
    wrong = []
    for path in sources(PACKAGE / "bars"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Raise):
                text = "".join(
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )
                if keyword.search(text) and "(--" not in text:
                    wrong.append(where(path, node.lineno, text))
    assert not wrong


def test_the_drawing_from_file_to_forecast_is_true() -> None:
    """Each step that ARCHITECTURE.md draws is defined in the file beside it, or in that of the step above."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawing = page[page.index("my_bars.csv") : page.index("forecast.csv .parquet")]
    file, steps = "", []
    for line in drawing.splitlines():
        if drawn := re.match(r"    [│├](?:──▶)? +(?:BarTransform\.)?(\w+)(?: +(\w+(?:/\w+)+\.py))?(?:  |$)", line):
            file = drawn[2] or file
            steps.append((drawn[1], file))
    assert len(steps) == 18
    assert not [(step, file) for step, file in steps if step not in defined(PACKAGE / file)]


def defined(path: Path) -> set[str]:
    """The names of all functions and methods of a file."""
    return {node.name for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)}


def test_every_file_that_the_map_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+(?:/\w+)+\.py", page))
    assert len(named) > 8
    assert not [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())]


def test_files_fit_in_the_head() -> None:
    long = {str(path.relative_to(ROOT)): n for path in LIBRARY if (n := len(path.read_text().splitlines())) > 400}
    assert not long


# -- one spine --------------------------------------------------------------------------------------------------------

LONGEST_FUNCTION = 60
WRITERS = {"os.replace", "os.rename", "os.fsync", "tempfile.mkstemp", "tempfile.NamedTemporaryFile"}


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_files() -> dict[str, set[str]]:
    """Module → the modules of this package that it imports anywhere but for type checkers."""
    known = {module(path) for path in LIBRARY}
    graph: dict[str, set[str]] = {}
    for path in LIBRARY:
        typing_only = lines_if_type_checking(path)
        found = set()
        for line, name in imports(path):
            if line in typing_only or not name.startswith("kronos"):
                continue
            parent = name.rpartition(".")[0]
            found.add(name if name in known else parent)
        graph[module(path)] = (found & known) - {module(path)}
    return graph


def lines_if_type_checking(path: Path) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = imported_files()
    state: dict[str, int] = {}

    def visit(name: str, road: list[str]) -> None:
        state[name] = 1
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                pytest.fail("a circle: " + " → ".join([*road[road.index(other) :], other]))
            if other not in state:
                visit(other, [*road, other])
        state[name] = 2

    for name in sorted(graph):
        if name not in state:
            visit(name, [name])


def test_functions_fit_on_a_screen() -> None:
    wrong = [
        where(path, node.lineno, f"{node.name} has {length} lines")
        for path in LIBRARY
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not wrong


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in LIBRARY:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(where(path, node.lineno, ""))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_files_are_written_in_one_place() -> None:
    """Whoever wants a file whole asks ``kronos.files``; renaming and syncing stand nowhere else."""
    wrong = []
    for path in LIBRARY:
        if path == PACKAGE / "files.py":
            continue
        for line, name, node in calls(path):
            moved = name.endswith((".replace", ".rename")) and len(node.args) == 1 and not node.keywords
            if name in WRITERS or (moved and not name.startswith(("dataclasses", "str"))):
                wrong.append(where(path, line, name))
    assert not wrong


def test_bars_are_found_in_one_place() -> None:
    """A list of endings to look for stands in ``kronos.files`` alone; ``write_bars`` says which it can write."""
    wrong = []
    for path in LIBRARY:
        if path in (PACKAGE / "files.py", PACKAGE / "bars" / "store" / "folder.py"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                words = {item.value for item in node.elts if isinstance(item, ast.Constant)}
                if {".csv", ".parquet"} <= words and not {".html", ".png"} & words:
                    wrong.append(where(path, node.lineno, "lists endings of bars"))
    assert not wrong


def test_the_command_line_holds_no_logic() -> None:
    """Its functions parse, call and print: few imports hide inside them, since the library's face is lazy."""
    inside = [
        where(path, node.lineno, "imports inside a function")
        for path in sources(PACKAGE / "cli")
        for outer in ast.walk(tree(path))
        if isinstance(outer, ast.FunctionDef)
        for node in ast.walk(outer)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(inside) <= 40, inside
