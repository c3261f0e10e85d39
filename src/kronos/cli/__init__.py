"""The command ``kronos``: parse, call the library, print or write. One file a command group."""

from __future__ import annotations

from collections.abc import Sequence

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 done · 1 an error, told in one or two lines on stderr · 2 usage · 130 interrupted by the keyboard.

    Args:
        args: the words after ``kronos``; those of the process when None.
    """
    from kronos.cli.app import app
    from kronos.cli.common import fail
    from kronos.errors import KronosError

    try:
        app(args=None if args is None else list(args), prog_name="kronos")
    except SystemExit as end:  # typer's way of ending, with its own status: 0, 2 for usage, 130 for Ctrl-C
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except KronosError as error:
        fail(str(error))
    except MemoryError:
        fail("There is not enough memory. Ask for fewer samples, a shorter horizon or a smaller model.")
    except OSError as error:  # a full disk, a file without permission: the user's to mend, so no traceback
        place = f" ('{error.filename}')" if error.filename else ""
        fail(f"{error.strerror or error}{place}.")
    else:
        return DONE
    return FAILED
