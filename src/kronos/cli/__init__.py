"""The command ``kronos``: parse, call the library, print or write. One file a command group."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

DONE, FAILED, INTERRUPTED, CLOSED = 0, 1, 130, 141

#: Packages that whole rooms stand on → the extra that brings them. A single function that needs one says so itself.
EXTRAS = {
    **dict.fromkeys(("scipy", "arch"), "eval"),
    **dict.fromkeys(("yaml", "accelerate", "peft"), "train"),
    **dict.fromkeys(("fastapi", "uvicorn", "starlette", "multipart", "prometheus_client"), "serve"),
    "matplotlib": "plot",
    "mcp": "mcp",
    "qlib": "qlib",
    "ray": "ray",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 done · 1 an error, told in one or two lines on stderr · 2 usage · 130 interrupted by the keyboard ·
    141 the reader of the output has gone.

    Args:
        args: the words after ``kronos``; those of the process when None.
    """
    try:
        status = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # As in `kronos … | head`. Python would flush once more at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return status


def _run(args: Sequence[str] | None) -> int:
    from kronos.cli.app import app
    from kronos.cli.common import fail
    from kronos.errors import KronosError, MissingExtraError

    try:
        app(args=None if args is None else list(args), prog_name="kronos")
    except SystemExit as end:  # typer's way of ending, with its own status: 0, 2 for usage, 130 for Ctrl-C
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except KronosError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise  # not an extra: a broken installation, of which the traceback tells most
        fail(str(MissingExtraError(package, EXTRAS[package], "This command")))
    except MemoryError:
        fail("There is not enough memory. Ask for fewer samples, a shorter horizon or a smaller model.")
    except OSError as error:  # a full disk, a file without permission: the user's to mend, so no traceback
        place = f" ('{error.filename}')" if error.filename else ""
        fail(f"{error.strerror or error}{place}.")
    else:
        return DONE
    return FAILED
