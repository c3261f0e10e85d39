"""A settings file in Python, such as the published ``finetune/config.py``, read without running it.

Assignments to names and to attributes of ``self`` are read: literals, arithmetic, text with values in it, and earlier
names. A call, as of a look-up that the file does itself, is left out where it is the whole value.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kronos.errors import ConfigError

_SUMS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip


def read_python(path: Path) -> dict[str, Any]:
    """The settings that a Python file assigns, by name.

    Raises:
        ConfigError: the file cannot be read, or a line has a value that would have to be run.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}; name a run file in YAML or Python") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{path} cannot be read as Python: {error}") from error
    found: dict[str, Any] = {}
    for statement in _statements(tree):
        target = statement.targets[0]
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
        if name is None or isinstance(statement.value, ast.Call):
            continue
        try:
            found[name] = _value(statement.value, found)
        except (ValueError, TypeError, ArithmeticError) as error:
            line = f"{path}, line {statement.lineno}: {name} = {ast.unparse(statement.value)}"
            raise ConfigError(f"{line} is not read, since it would have to be run; write the value itself") from error
    return found


def _statements(tree: ast.Module) -> list[ast.Assign]:
    """Assignments of the module, of its classes, and of their ``__init__``, in order."""
    out: list[ast.Assign] = []
    bodies: list[ast.stmt] = list(tree.body)
    while bodies:
        one = bodies.pop(0)
        if isinstance(one, ast.Assign):
            out.append(one)
        elif isinstance(one, ast.ClassDef) or (isinstance(one, ast.FunctionDef) and one.name == "__init__"):
            bodies = [*one.body, *bodies]
    return out


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """What an expression stands for; ValueError: it would have to be run."""
    if isinstance(node, ast.Attribute | ast.Name):
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        if name not in known:
            raise ValueError(name)
        return known[name]
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        left, right = _value(node.left, known), _value(node.right, known)
        if (isinstance(left, int | float) and isinstance(right, int | float)) or isinstance(node.op, ast.Add):
            return _SUMS[type(node.op)](left, right)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(_value(part, known)) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _value(node.value, known)
    return ast.literal_eval(node)
