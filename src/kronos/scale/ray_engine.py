"""Pieces of work on Ray Data: a pool of actors, each with one core, and a GPU or a share of one if there are any.

Pieces and results are small; data is read and written by the actors. So neither the driver nor Ray's object store
grows with the data. An actor that dies is started again and its piece is given out again.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kronos import errors
from kronos.errors import CapacityError, ConfigError, KronosError
from kronos.scale.engines import check_workers, single_thread

P = TypeVar("P")
R = TypeVar("R")

RETRIES = 3  # of a piece whose worker died
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is raised; the rest stays in Ray's own log files
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker that was given no GPU sees none
}


@dataclass(frozen=True)
class RayEngine:
    """Computes on Ray.

    Args:
        workers: actors; None: as many as the cluster's CPUs, or GPUs, have room for.
        address: of a running cluster; None: the session of this process, or one started here and ended afterwards.
        gpus: share of a GPU for each actor; None: 1 where the cluster has GPUs, else 0.
    """

    workers: int | None = None
    address: str | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        check_workers(self.workers)
        if self.gpus is not None and not 0 <= self.gpus <= 8:
            raise ConfigError(f"gpus is {self.gpus}; it is the share of a GPU for each worker, from 0 to 8.")

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``Engine.map``."""
        if not pieces:
            return
        with ExitStack() as stack:
            stack.enter_context(_session(self.address, self.workers))
            stack.enter_context(_quiet())
            workers, gpus = self._size(len(pieces))
            found = 0
            for row in _pool(make, pieces, workers, gpus).iter_rows():
                found += 1
                if isinstance(row["result"], _Failure):
                    raise row["result"].error()
                yield row["result"]
        if found < len(pieces):
            raise CapacityError(
                f"{len(pieces) - found} of {len(pieces)} pieces of work were lost: their worker died {RETRIES + 1} "
                "times, most likely for want of memory. Run again with fewer workers or smaller pieces; "
                "what is done is kept."
            )

    def _size(self, pieces: int) -> tuple[int, float]:
        """How many actors, and each one's share of a GPU.

        Raises:
            ConfigError: the cluster has no room for them.
        """
        import ray

        there = ray.cluster_resources()
        cpus, cards = int(there.get("CPU", 0)), float(there.get("GPU", 0))
        gpus = self.gpus if self.gpus is not None else float(cards > 0)
        room = min(cpus, int(cards / gpus + 1e-9)) if gpus else cpus
        if room < (self.workers or 1):
            needs = f"{self.workers or 1} workers of 1 CPU" + (f" and {gpus:g} GPUs" if gpus else "")
            raise ConfigError(f"Ray has {cpus} CPUs and {cards:g} GPUs: too few for {needs} each.")
        return min(self.workers or room, pieces), gpus


def _pool(make: Callable[[], Callable[[P], R]], pieces: Sequence[P], workers: int, gpus: float) -> Any:
    """A dataset of one row a piece, computed when it is iterated."""
    import ray.data

    rows = ray.data.from_items([{"piece": piece} for piece in pieces], override_num_blocks=len(pieces))
    with warnings.catch_warnings():
        # How often a task is tried again has no other name yet; pyproject.toml bounds Ray's version for it.
        warnings.filterwarnings("ignore", message=r"`ray_remote_args` is deprecated")
        return rows.map(
            _Actor,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=gpus,
            max_task_retries=RETRIES,
        )


class _Actor:
    """One worker. What goes wrong is handed back as a result, so that only dead workers are tried again."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        single_thread()
        self.failure: _Failure | None = None
        try:
            self.work = make()
        except Exception as error:
            self.failure = _Failure.of(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            return {"result": self.failure}
        try:
            return {"result": self.work(row["piece"])}
        except Exception as error:
            return {"result": _Failure.of(error)}


@dataclass(frozen=True)
class _Failure:
    """An exception as plain text: not every class survives the way between processes."""

    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        return cls(type(error).__name__, str(error), traceback.format_exc())

    def error(self) -> Exception:
        """What to raise here."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, KronosError):
            error: Exception = kind.__new__(kind, self.message)  # the message is whole; some classes would rebuild it
            return error
        if self.kind in ("OSError", "PermissionError", "FileNotFoundError"):
            return OSError(self.message)
        return RuntimeError(f"A worker failed:\n{self.trace}")


@contextmanager
def _session(address: str | None, workers: int | None) -> Iterator[None]:
    """Connected to Ray. A session that is there already is used and left alone."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        try:
            ray.init(address=address, **common)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = str(error).splitlines()[0][:160]
            raise ConfigError(f"No Ray cluster answers at '{address}' ({reason}). Check --address.") from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Ray puts sockets there, whose paths may have 107 letters at most.
    folder = tempfile.mkdtemp(prefix="kronos-", dir="/tmp" if Path("/tmp").is_dir() else None)
    try:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, _temp_dir=folder, **common)
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without its own bars and notes, and going on with other pieces where one is lost."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    wanted = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": -1}
    before = {name: getattr(context, name) for name in wanted}
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
