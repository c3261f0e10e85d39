"""Qlib switched to a provider: quiet, in this process, and without its experiment manager.

``qlib.init`` would also start that manager (which writes to the working directory), replace the interpreter's
exception hook and use as many processes as there are cores. What is left of it here is the data layer alone, and it
can be pointed at another provider at any time.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

from kronos.errors import MissingExtraError


def use_provider(folder: Path) -> Any:
    """Qlib's data interface ``D``, reading from ``folder``.

    Raises:
        MissingExtraError: Qlib is not installed.
    """
    config = load_qlib()
    with contextlib.redirect_stderr(io.StringIO()):  # an old package among Qlib's own greets on being imported
        import qlib.backtest
        import qlib.contrib.strategy  # noqa: F401
    from qlib.data import D
    from qlib.data.cache import H
    from qlib.data.data import register_all_wrappers
    from qlib.data.ops import register_all_ops
    from qlib.log import get_module_logger

    H.clear()
    config.set(
        "client",
        provider_uri=str(folder.resolve()),
        region="us",  # without limits and lots; a backtest names its own
        kernels=1,
        logging_level=logging.CRITICAL,
        logging_config={},
    )
    get_module_logger.setLevel(logging.CRITICAL)  # of the loggers made before
    register_all_ops(config)
    register_all_wrappers(config)
    config._registered = True  # or the first read would start the experiment manager after all
    return D


def load_qlib() -> Any:
    """Qlib's global configuration, imported when it is first needed.

    Raises:
        MissingExtraError: Qlib is not installed.
    """
    try:
        from qlib.config import C
    except ImportError as error:
        raise MissingExtraError("pyqlib", "qlib", "Qlib's data format and backtest") from error
    return C
