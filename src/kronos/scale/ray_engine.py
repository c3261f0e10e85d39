"""Pieces of work on Ray Data: a pool of actors, each with one core, and a GPU or a share of one if there are any.

Pieces and results are small; data is read and written by the actors. So neither the driver nor Ray's object store
grows with the data. Ray starts an actor that dies again and gives its piece out again.
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

from kronos.errors import CapacityError, ConfigError, KronosError, MissingExtraError
from kronos.scale.local_engine import LocalEngine, check_workers

P = TypeVar("P")
R = TypeVar("R")

RETRIES = 3  # of a piece whose worker died
STARTS = 3  # attempts to start Ray on this machine
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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
        """See ``WorkEngine.device``."""
        if self.gpus is not None:
            return "cuda" if self.gpus else "cpu"
        import ray

        if self.address is None and not ray.is_initialized():
            return LocalEngine().device()  # what a Ray that is started here will find
        with connected(self.address, self.workers):
            return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``WorkEngine.map``."""
        if not pieces:
            return
        with connected(self.address, self.workers):
            workers, gpus = self._size(len(pieces))
            left = dict(enumerate(pieces))
            # A piece that waits behind one that kills its worker is tried and lost with it, so what is lost goes
            # once more, with nothing waiting.
            for ahead in (2, 1):
                for row in _rows(make, left, workers, gpus, ahead) if left else ():
                    result = row["result"].content
                    if isinstance(result, _Failure):
                        raise result.error
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


def _rows(
    make: Callable[[], Callable[[P], R]], pieces: Mapping[int, P], workers: int, gpus: float, ahead: int
) -> Iterator[dict[str, Any]]:
    """A row for each piece that is not lost, as it is finished.

    Args:
        pieces: by number.
        ahead: pieces that a worker is given at a time. With one, it idles .15 s between pieces until Ray's loop comes
            by again: a quarter of two workers' time on pieces of .7 s.

    Raises:
        CapacityError: no worker could be started, or Ray itself has come to an end.
    """
    import ray.data
    from ray.exceptions import RayError

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters is raised
    items = [{"number": number, "piece": _Box(piece)} for number, piece in pieces.items()]
    with warnings.catch_warnings():
        # How often a task is tried again has no other name yet; pyproject.toml bounds Ray's version for it.
        warnings.filterwarnings("ignore", message=r"`ray_remote_args` is deprecated")
        rows = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _Actor,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=ahead),
            num_cpus=1,
            num_gpus=gpus,
            runtime_env={"env_vars": dict.fromkeys(_THREADS, "1")},
            max_task_retries=RETRIES,
        )
    rows.context.enable_progress_bars = rows.context.print_on_execution_start = False
    rows.context.max_errored_blocks = -1  # where a piece is lost, go on with the others
    try:
        yield from rows.iter_rows()
    except RayError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise CapacityError(
            f"Ray's workers cannot work ({reason.strip()[:200]}). Every node needs the same kronos-kline, and memory."
        ) from error


@dataclass(frozen=True)
class _Box:
    """Keeps Ray Data from taking what travels for a column, in which a Timestamp would become a datetime."""

    content: Any


@dataclass(frozen=True)
class _Failure:
    """An exception as a result, so that only dead workers are tried again. Not every class survives the way."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        if isinstance(error, MissingExtraError):  # it would be built anew, from other arguments
            return cls(KronosError(str(error)))
        if isinstance(error, KronosError) or type(error) in (OSError, PermissionError, FileNotFoundError):
            return cls(error)
        return cls(RuntimeError(f"A worker failed:\n{traceback.format_exc()}"))


class _Actor:
    """One worker."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.failure: _Failure | None = None
        try:
            self.work = make()
        except Exception as error:
            self.failure = _Failure.of(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            result = self.failure or self.work(row["piece"].content)
        except Exception as error:
            result = _Failure.of(error)
        return {"number": row["number"], "result": _Box(result)}


@contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[None]:
    """A session of Ray: the one that this process has, which is then left alone, or one that ends with the block.

    Args:
        address: of a running cluster; None: Ray is started on this machine.
        workers: CPUs that a Ray on this machine gives away; None: all.

    Raises:
        ConfigError: no cluster answers there.
        CapacityError: Ray does not start on this machine.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        where: dict[str, Any] = {"address": address}
        if address is None:
            # Ray puts sockets there, whose paths may have 107 letters at most.
            folder = tempfile.mkdtemp(prefix="kronos-", dir="/tmp" if Path("/tmp").is_dir() else None)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            where = {"address": "local", "num_cpus": workers, "include_dashboard": False, "_temp_dir": folder}
        stack.callback(ray.shutdown)
        _begin(address, where)
        yield


def _begin(address: str | None, where: dict[str, Any]) -> None:
    """Join a cluster, or start Ray here: it allows itself 30 seconds, which a busy machine may need more than once."""
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            with _muted():
                ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises bare Exceptions here
            ray.shutdown()
            reason = str(error).partition("\n")[0][:160]
            if address is not None:
                raise ConfigError(f"No Ray cluster answers at '{address}' ({reason}). Check the address.") from error
            if attempt == STARTS:
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
