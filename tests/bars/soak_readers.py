"""100,000 damaged files for each layout: never a hang, never an untyped exception, never absurd memory.

    python tests/bars/soak_readers.py [--files 100000] [--layouts published,parquet] [--seed 0]

Prints one line a layout. The seed and the number of the file reproduce a failure, which is also kept
beside the report.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from layout_files import BUILDERS
from mutate import Tally, check, mutated

ROWS_KEPT = 6000  # bytes of text files: short ones break in more ways a second


def shortened(name: str) -> bytes:
    """The layout's file, cut to its first lines where it is text."""
    data = BUILDERS[name]().data
    if name in ("parquet", "feather", "arrow_stream", "gzipped", "zipped", "utf16"):
        return data
    return data[: data.rfind(b"\n", 0, ROWS_KEPT) + 1]


def soak(name: str, files: int, seed: int, folder: Path) -> Tally:
    """Break one layout's file so many times."""
    names = sorted(BUILDERS)
    data, others = shortened(name), [shortened(other) for other in names[:6]]
    path, tally = folder / "bars.csv", Tally()
    options = dict(BUILDERS[name]().options)
    for number in range(files):
        rng = np.random.default_rng([seed, names.index(name), number])
        broken = mutated(data, rng, others[number % len(others)])
        mode = "drop" if number % 2 else "strict"
        try:
            check(broken, path, tally, memory=number % 50 == 0, on_defect=mode, **options)
        except Exception:
            kept = Path(f"soak-{name}-{seed}-{number}.bin")
            kept.write_bytes(broken)
            sys.stderr.write(f"{name}: file {number} of seed {seed} ({mode}) kept as {kept}\n")
            raise
    return tally


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files a layout")
    parser.add_argument("--layouts", default=",".join(sorted(BUILDERS)))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.layouts.split(","):
            tally = soak(name, arguments.files, arguments.seed, Path(folder))
            sys.stdout.write(
                f"{name:24} {tally.files:7,} files: {tally.read:7,} read, {tally.refused:7,} refused, "
                f"slowest {tally.slowest:.2f} s, memory up to {tally.most_memory / 2**20:.0f} MiB\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
