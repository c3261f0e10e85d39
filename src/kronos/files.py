"""Files: which of a folder hold bars, how one is written whole, what JSON may hold, and digests.

Every room that finds, writes or hashes files does it here, so that a folder means the same bars to each command and a
stop at any moment leaves the old file or the new one, never half of it. Hashes that seed a random stream, that put a
symbol on one side of a split, or that a stored run is known by are made where they are defined: they never change.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from kronos.errors import CapacityError, ConfigError, DataError, KronosError

BARS_ENDINGS: Final = (
    ".csv", ".tsv", ".txt", ".parquet", ".feather", ".arrow", ".xlsx", ".xlsm", ".jsonl", ".ndjson",
)  # fmt: skip
"""Endings of files of bars in a folder; each also packed as ``.gz``, ``.bz2``, ``.xz`` or ``.zip``.

Most ``.json`` in a folder are settings and reports, ours among them: of those only lists of bars count, which begin as
exchanges and freqtrade write them.
"""

_ROW: Final = re.compile(rb'\s*\[\s*\[\s*"?\d[\dT:. +-]{7,}')
_OBJECT: Final = re.compile(rb"\s*\[\s*\{([^{}]*)")

LEFTOVERS: Final = ".*.part*"
"""What :func:`replacing` may leave in a folder when the process is killed."""

_JSON: Final = (".json", ".json.gz")
_PACKED: Final = ("", ".gz", ".bz2", ".xz", ".zip")


# -- finding ----------------------------------------------------------------------------------------------------------


def bars_files(places: Iterable[str | Path]) -> list[Path]:
    """The files among ``places`` as they are, and those of bars in the folders among them, sorted folder by folder.

    Folders are searched to any depth; hidden files and folders are passed over.

    Raises:
        DataError: a folder without any.
    """
    endings = tuple(ending + packed for ending in BARS_ENDINGS for packed in _PACKED)
    found: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            found.append(place)
            continue
        named = (path for path in place.rglob("*") if path.name.lower().endswith((*endings, *_JSON)) and path.is_file())
        seen = sorted(p for p in named if not any(part.startswith(".") for part in p.relative_to(place).parts))
        inside = [path for path in seen if path.name.lower().endswith(endings) or _lists_bars(path)]
        if not inside:
            others = f"; of {seen[0].name} and the like name those that are bars" if seen else ""
            raise DataError(f"{place}: the folder holds no files of bars ({', '.join(BARS_ENDINGS)}){others}")
        found += inside
    return found


def _lists_bars(path: Path) -> bool:
    """Whether a JSON file begins as a list of bars: rows of a time and numbers, or objects with an open and a close."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            head = file.read(2048)
    except (OSError, EOFError):
        return False
    first = _OBJECT.match(head)
    names = set(re.findall(rb'"(\w+)"\s*:', first[1].lower())) if first else set()
    return _ROW.match(head) is not None or bool(names & {b"open", b"o"} and names & {b"close", b"c"})


# -- writing ----------------------------------------------------------------------------------------------------------


def check_place(target: str | Path) -> Path:
    """The path, if a file may lie there; ConfigError: it is a folder, or in one that does not exist."""
    target = Path(target)
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; name a file in it")
    return check_folder(target)


def check_folder(target: Path) -> Path:
    """The path, if the folder that it lies in exists; ConfigError: it does not."""
    if not target.parent.is_dir():
        raise ConfigError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    return target


@contextmanager
def replacing(target: str | Path, *, durable: bool = False, previous: Path | None = None) -> Iterator[Path]:
    """A path beside ``target``, with its ending, that takes its place when the block ends well and vanishes otherwise.

    Args:
        durable: sync file and folder, so that not even a power cut leaves half of it.
        previous: where the file that was there before is kept; None: nowhere.

    Raises:
        ConfigError: the folder does not exist, or ``target`` is a folder.
        CapacityError: it cannot be written, for instance because the disk is full. What was there before stays.
    """
    target = check_place(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        with writing(target):
            yield part
            if durable:
                _sync(part)
            if previous is not None and target.exists():
                target.replace(previous)
            part.replace(target)
            if durable and os.name == "posix":  # elsewhere a folder cannot be opened, and need not be
                _sync(target.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Turns a failing write into a CapacityError that says what could not be written, and why."""
    try:
        yield
    except KronosError:  # some are OSErrors too, and say already what is wrong
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise CapacityError(f"{target} cannot be written ({reason}). What was there before is whole.") from error


def write_text(target: str | Path, text: str, *, durable: bool = False) -> Path:
    """Write a UTF-8 file whole or not at all; see :func:`replacing`."""
    with replacing(target, durable=durable) as part:
        part.write_bytes(text.encode("utf-8"))
    return Path(target)


def write_json(
    target: str | Path, value: Any, *, indent: int | None = 2, sort_keys: bool = False, durable: bool = False
) -> Path:
    """Write one JSON document whole or not at all; see :func:`json_text` and :func:`replacing`."""
    return write_text(target, json_text(value, indent=indent, sort_keys=sort_keys) + "\n", durable=durable)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to fill, which takes its place when the block ends well; never half of it."""
    part = _empty_part(target)
    with writing(target):
        yield part
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)


def remove_folder(target: Path) -> None:
    """Remove a folder; a process that is killed meanwhile leaves all of it or none under its name."""
    part = _empty_part(target)
    target.rename(part)
    shutil.rmtree(part)


def _empty_part(target: Path) -> Path:
    """Where a folder is made or taken apart; what a killed process left there is removed."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    return part


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in a folder."""
    for path in folder.glob(LEFTOVERS):
        with suppress(OSError):
            path.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- JSON -------------------------------------------------------------------------------------------------------------


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Strict JSON of anything that :func:`to_json` understands."""
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys)


def to_json(value: Any) -> Any:
    """Numpy, pandas, dataclasses, dates and paths as what JSON knows; NaN, infinity and missing times as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, datetime | date):  # also pandas' Timestamp; its NaT is not equal to itself
        return value.isoformat() if value == value else None
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, pandas' Series and Index
        return to_json(value.tolist()) if type(value).__name__ != "datetime64" else to_json(value.item())
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a table
        return to_json(value.reset_index().to_dict("records"))
    return str(value)


# -- digests ----------------------------------------------------------------------------------------------------------


def digest(*parts: Any, size: int = 16) -> str:
    """A hash (blake2b, hex, ``size`` bytes) of texts, bytes, arrays and JSON values; borders between parts count."""
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        if isinstance(part, str):
            part = part.encode("utf-8", errors="surrogateescape")
        elif hasattr(part, "tobytes"):  # an array
            part = part.tobytes()
        elif not isinstance(part, bytes | memoryview):
            part = json_text(part, sort_keys=True).encode()
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_of_file(path: Path, *, algorithm: str = "blake2b") -> str:
    """A hash (hex) of a file's bytes by ``blake2b`` (of 16) or another that hashlib knows; empty if there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        kind = partial(hashlib.blake2b, digest_size=16) if algorithm == "blake2b" else algorithm
        return hashlib.file_digest(file, kind).hexdigest()
