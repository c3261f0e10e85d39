"""Where pieces of work are computed: in this process, or on a pool of Ray Data's actors.

What a piece's result is may not depend on the engine (:class:`~kronos.protocol.WorkEngine`): every worker has one
thread, since the number of threads decides how floating-point sums are rounded.

Pieces and results are small; data is read and written by the workers. So neither this process nor Ray's object store
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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from kronos.errors import CapacityError, ConfigError, KronosError, MissingExtraError
from kronos.protocol import WorkEngine

P = TypeVar("P")
R = TypeVar("R")

ENGINES = ("local", "ray")
RETRIES = 3  # of a piece whose worker died
STARTS = 3  # attempts to start Ray on this machine
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is raised; the rest stays in Ray's own log files
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker that was given no GPU sees none
}


def make_engine(
    name: str, *, workers: int | None = None, address: str | None = None, gpus: float | None = None
) -> WorkEngine:
    """The engine of a name.

    Args:
        name: ``local`` or ``ray``.
        workers: how many pieces are computed at once; None: what the machine or the cluster has room for.
        address: of a running Ray cluster (``auto``, ``HOST:PORT``); None: Ray is started on this machine.
        gpus: share of a GPU that each Ray worker takes; 0: none. None: one each where the cluster has GPUs.

    Raises:
        ConfigError: an unknown name, options of the other engine, or numbers out of range.
        MissingExtraError: Ray is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}.")
    if name == "local" and (address is not None or gpus is not None):
        raise ConfigError("An address and shares of GPUs belong to the engine 'ray'; choose it, or leave them out.")
    if name == "ray" and find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "The engine 'ray'")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; at least one is needed.")
    if gpus is not None and not 0 <= gpus <= 8:
        raise ConfigError(f"gpus is {gpus}; it is the share of a GPU for each worker, from 0 to 8.")
    return LocalEngine(workers) if name == "local" else RayEngine(workers, address, gpus)


@dataclass(frozen=True)
class LocalEngine:
    """Computes in this process: one worker, shared by threads that each take a piece at a time."""

    workers: int | None = None  # threads; None: as many as torch would use on a CPU, one for a GPU

    def device(self) -> str:
        """See ``WorkEngine.device``."""
        from kronos.inference.pair import usable_device

        return usable_device(None).type

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``WorkEngine.map``."""
        import torch

        work, rest, before = make(), iter(pieces), torch.get_num_threads()
        workers = self.workers or (before if self.device() == "cpu" else 1)
        waiting: set[Future[R]] = set()
        pool, whole = ThreadPoolExecutor(workers, "kronos-scale", single_thread), False
        try:
            while True:  # few pieces are on their way at any time
                waiting.update(pool.submit(work, piece) for piece in islice(rest, workers - len(waiting)))
                if not waiting:
                    break
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
            whole = True
        except Exception:  # the pieces under way are kept
            whole = True
            raise
        finally:  # interrupted: whoever pressed Ctrl-C does not wait for pieces under way
            pool.shutdown(wait=whole, cancel_futures=True)
            torch.set_num_threads(before)  # threads have set it for themselves and for threads to come


def single_thread() -> None:
    """This thread, or process, computes on one core."""
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class RayEngine:
    """Computes on Ray: actors of one core each, and a GPU or a share of one if there are any."""

    workers: int | None = None  # actors; None: as many as the cluster's CPUs, or GPUs, have room for
    address: str | None = None  # of a cluster; None: this process's session, or one started here and ended afterwards
    gpus: float | None = None  # share of a GPU for each actor; None: 1 where the cluster has GPUs, else 0

    def device(self) -> str:
        """See ``WorkEngine.device``."""
        if self.gpus is not None:
            return "cuda" if self.gpus else "cpu"
        import ray

        if self.address is None and not ray.is_initialized():
            return "cuda" if LocalEngine().device() == "cuda" else "cpu"  # what a Ray that is started here will find
        with connected(self.address, self.workers):
            return "cuda" if ray.cluster_resources().get("GPU", 0) else "cpu"

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """See ``WorkEngine.map``.

        Raises:
            ConfigError: the cluster has no room for the workers.
        """
        if not pieces:
            return
        with connected(self.address, self.workers):
            import ray

            there = ray.cluster_resources()
            cpus, cards = int(there.get("CPU", 0)), float(there.get("GPU", 0))
            gpus = self.gpus if self.gpus is not None else float(cards > 0)
            room = min(cpus, int(cards / gpus + 1e-9)) if gpus else cpus
            if room < (self.workers or 1):
                needs = f"{self.workers or 1} workers of 1 CPU" + (f" and {gpus:g} GPUs" if gpus else "")
                raise ConfigError(f"Ray has {cpus} CPUs and {cards:g} GPUs: too few for {needs} each.")
            left = dict(enumerate(pieces))
            # A piece that waits behind one that kills its worker is tried and lost with it, so what is lost goes
            # once more, with nothing waiting.
            for ahead in (2, 1):
                for row in _rows(make, left, self.workers or room, gpus, ahead) if left else ():
                    result, error = row["answer"].content
                    if error is not None:
                        raise error
                    del left[row["number"]]
                    yield result
        if left:
            raise CapacityError(
                f"{len(left)} of {len(pieces)} pieces of work were lost: their worker died {RETRIES + 1} "
                "times or more, most likely for want of memory. Run again with fewer workers or smaller pieces; "
                "what is done is kept."
            )


def _rows(
    make: Callable[[], Callable[[P], R]], pieces: Mapping[int, P], workers: int, gpus: float, ahead: int
) -> Iterator[dict[str, Any]]:
    """A row for each piece that is not lost, as it is finished.

    ``ahead``: pieces that a worker is given at a time. With one, it idles .15 s between pieces until Ray's loop comes
    by again: a quarter of two workers' time on pieces of .7 s.
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


class _Actor:
    """One worker. Exceptions are answers, so that only dead workers are tried again."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self.work, self.error = _attempt(make)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        answer = (None, self.error) if self.error else _attempt(lambda: self.work(row["piece"].content))
        return {"number": row["number"], "answer": _Box(answer)}


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call returns, or what it raises as far as that survives the way to another process."""
    try:
        return call(), None
    except MissingExtraError as error:  # it would be built anew, from other arguments
        return None, KronosError(str(error))
    except Exception as error:
        if isinstance(error, KronosError) or type(error) in (OSError, PermissionError, FileNotFoundError):
            return None, error
        return None, RuntimeError(f"A worker failed:\n{traceback.format_exc()}")


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
        for attempt in range(1, STARTS + 1):  # Ray allows itself 30 seconds, which a busy machine may need twice
            try:
                with _muted():
                    ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
                break
            except Exception as error:  # Ray raises bare Exceptions here
                ray.shutdown()
                reason = str(error).partition("\n")[0][:160]
                if address is not None:
                    words = f"No Ray cluster answers at '{address}' ({reason}). Check the address."
                    raise ConfigError(words) from error
                if attempt == STARTS:
                    raise CapacityError(
                        f"Ray did not start on this machine ({reason}). Try again when it is less busy, or use the "
                        "engine 'local'."
                    ) from error
        yield


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
