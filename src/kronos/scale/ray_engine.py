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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kronos import errors
from kronos.errors import CapacityError, ConfigError, KronosError
from kronos.scale.engines import LocalEngine, check_workers

P = TypeVar("P")
R = TypeVar("R")

RETRIES = 3  # of a piece whose worker died
STARTS = 3  # attempts to start Ray on this machine
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
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

    def device(self) -> str:
        """See ``Engine.device``."""
        if self.gpus is not None:
            return "cuda" if self.gpus else "cpu"
        import ray

        if self.address is None and not ray.is_initialized():
            return LocalEngine().device()  # what a Ray that is started here will find
        with connected(self.address, self.workers):
            return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``Engine.map``."""
        if not pieces:
            return
        with ExitStack() as stack:
            stack.enter_context(connected(self.address, self.workers))
            stack.enter_context(_quiet())
            workers, gpus = self._size(len(pieces))
            left = dict(enumerate(pieces))
            # A piece that waits behind one that kills its worker is tried and lost with it, so what is lost goes
            # once more, with nothing waiting.
            for ahead in (2, 1):
                for row in _rows(_pool(make, left, workers, gpus, ahead)) if left else ():
                    result = row["result"].content
                    if isinstance(result, _Failure):
                        raise result.error()
                    del left[row["number"]]
                    yield result
        if left:
            raise CapacityError(
                f"{len(left)} of {len(pieces)} pieces of work were lost: their worker died {RETRIES + 1} "
                "times or more, most likely for want of memory. Run again with fewer workers or smaller pieces; "
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


def _pool(make: Callable[[], Callable[[P], R]], pieces: Mapping[int, P], workers: int, gpus: float, ahead: int) -> Any:
    """A dataset of one row a piece, computed when it is iterated.

    Args:
        pieces: by number.
        ahead: pieces that a worker is given at a time. With one, it idles .15 s between pieces until Ray's loop comes
            by again: a quarter of two workers' time on pieces of .7 s.
    """
    import ray.data

    items = [{"number": number, "piece": _Box(piece)} for number, piece in pieces.items()]
    rows = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings():
        # How often a task is tried again has no other name yet; pyproject.toml bounds Ray's version for it.
        warnings.filterwarnings("ignore", message=r"`ray_remote_args` is deprecated")
        return rows.map(
            _Actor,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=ahead),
            num_cpus=1,
            num_gpus=gpus,
            runtime_env={"env_vars": dict.fromkeys(_THREADS, "1")},
            max_task_retries=RETRIES,
        )


def _rows(pool: Any) -> Iterator[dict[str, Any]]:
    """The rows of the dataset.

    Raises:
        CapacityError: no worker could be started, or Ray itself has come to an end.
    """
    from ray.exceptions import RayError

    try:
        yield from pool.iter_rows()
    except RayError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise CapacityError(
            f"Ray's workers cannot work ({reason.strip()[:200]}). Every node needs the same kronos-kline, and memory."
        ) from error


@dataclass(frozen=True)
class _Box:
    """Keeps Ray Data from taking what travels for a column, in which a Timestamp would become a datetime."""

    content: Any


class _Actor:
    """One worker. What goes wrong is handed back as a result, so that only dead workers are tried again."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.failure: _Failure | None = None
        try:
            self.work = make()
        except Exception as error:
            self.failure = _Failure.of(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": _Box(self._result(row["piece"].content))}

    def _result(self, piece: Any) -> Any:
        if self.failure is not None:
            return self.failure
        try:
            return self.work(piece)
        except Exception as error:
            return _Failure.of(error)


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
def connected(address: str | None, workers: int | None) -> Iterator[None]:
    """A session of Ray: the one that this process has, which is then left alone, or one that ends with the block.

    Args:
        address: of a running cluster; None: Ray is started on this machine.
        workers: CPUs that a Ray on this machine gives away; None: all.

    Raises:
        ConfigError: no cluster answers there.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        if address is not None:
            stack.callback(ray.shutdown)
            _join(address)
        else:
            # Ray puts sockets there, whose paths may have 107 letters at most.
            folder = tempfile.mkdtemp(prefix="kronos-", dir="/tmp" if Path("/tmp").is_dir() else None)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(ray.shutdown)
            _start(folder, workers)
        yield


def _join(address: str) -> None:
    import ray

    try:
        with _muted():
            ray.init(address=address, **_SILENT)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = str(error).splitlines()[0][:160]
        raise ConfigError(f"No Ray cluster answers at '{address}' ({reason}). Check the address.") from error


def _start(folder: str, cpus: int | None) -> None:
    """Ray on this machine. It allows itself 30 seconds, which a busy machine may need more than once."""
    import ray

    for attempt in range(STARTS):
        try:
            with _muted():
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder, **_SILENT)
            return
        except Exception as error:  # Ray raises bare Exceptions here
            ray.shutdown()
            if attempt + 1 == STARTS:
                reason = str(error).splitlines()[0][:160]
                raise CapacityError(
                    f"Ray did not start on this machine ({reason}). Try again when it is less busy, or use the engine "
                    "'local'."
                ) from error


@contextmanager
def _muted() -> Iterator[None]:
    """Ray's C++ part greets on the process's stderr, past Python's; what goes wrong is raised."""
    mine, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(mine, 2)
        os.close(mine)
        os.close(nowhere)


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
