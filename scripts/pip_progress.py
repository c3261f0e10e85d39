"""Reads what pip says and tells how far it is: one moving line on a terminal, a line every 25 packages elsewhere.

pip install --progress-bar off … | python scripts/pip_progress.py 280        # about so many packages in all
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

_FOUND = re.compile(
    r"(?:Collecting|Processing|Requirement already satisfied:) (?:\S*/)?([A-Za-z0-9_.]+(?:-[A-Za-z_]+)*)"
)
_EVERY = 25


def told(lines: Iterable[str], total: int) -> Iterator[tuple[str, bool]]:
    """(what to say, whether it is worth a line of its own) for each line of pip's that says something new."""
    found = 0
    for line in lines:
        if match := _FOUND.match(line.strip()):
            found += 1
            yield f"  {found} of about {total} packages: {match[1]}", found % _EVERY == 0
        elif line.startswith("  Downloading"):
            yield f"  {found} of about {total} packages: downloading {' '.join(line.split()[1:])}", False
        elif line.startswith("Installing collected packages"):
            yield f"  unpacking {line.count(',') + 1} packages, the longest part: a minute or two", True
        elif line.startswith("Successfully installed"):
            yield f"  installed {len(line.split()) - 2} packages", True


def main() -> None:
    """Filter standard input."""
    terminal = sys.stdout.isatty()
    for text, worth in told(sys.stdin, int(sys.argv[1])):
        if terminal:
            print(f"\r\033[K{text[:100]}", end="", flush=True)
        elif worth:
            print(text, flush=True)
    if terminal:
        print()


if __name__ == "__main__":
    main()
