"""Where pieces of work are computed: in this process, or on Ray."""

from __future__ import annotations

from importlib.util import find_spec

from kronos.errors import ConfigError, MissingExtraError
from kronos.protocol import WorkEngine
from kronos.scale.local_engine import LocalEngine

__all__ = ["ENGINES", "LocalEngine", "make_engine"]

ENGINES = ("local", "ray")


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
        ConfigError: an unknown name, or options of the other engine.
        MissingExtraError: Ray is not installed.
    """
    if name == "local":
        if address is not None or gpus is not None:
            raise ConfigError("An address and shares of GPUs belong to the engine 'ray'; choose it, or leave them out.")
        return LocalEngine(workers)
    if name != "ray":
        raise ConfigError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}.")
    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "The engine 'ray'")
    from kronos.scale.ray_engine import RayEngine

    return RayEngine(workers, address, gpus)
