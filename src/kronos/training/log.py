"""A run's record: JSON lines in its folder, the trackers that are asked for, and whoever watches."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from kronos.errors import CapacityError
from kronos.training.config import RunConfig
from kronos.training.state import replace_text
from kronos.training.tracking import Trackers

LOG_FILE = "log.jsonl"


class Log:
    """Appends records to ``log.jsonl`` and hands them on; a context manager. Silent where another process reports.

    Args:
        folder: the stage's, whose name is the stage.
        start: the step that the run goes on from; records after it are of a lost past and are dropped.
        progress: called with each record.
        reports: whether this process is the one that writes.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        start: int,
        progress: Callable[[dict[str, Any]], None] | None,
        reports: bool = True,
    ) -> None:
        self.path, self.progress, self.reports = folder / LOG_FILE, progress, reports
        if not reports:
            return
        self.trackers = Trackers(config, folder.name, start)
        kept = [r for r in read_log(folder) if r["step"] <= start] if start and self.path.exists() else []
        replace_text(self.path, "".join(json.dumps(r) + "\n" for r in kept))
        replace_text(folder / "run.json", config.model_dump_json(indent=2) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.reports:
            self.trackers.close()

    def __call__(self, record: dict[str, Any]) -> None:
        if not self.reports:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CapacityError(f"{self.path} cannot be written ({error.strerror}); make room and resume") from error
        self.trackers.log(record)
        if self.progress is not None:
            self.progress(record)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, in order; a line that a kill cut short is left out."""
    with (folder / LOG_FILE).open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
