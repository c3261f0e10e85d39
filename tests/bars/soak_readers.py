"""100,000 damaged files for each reader: never a hang, never an untyped exception, never absurd memory.

    python tests/bars/soak_readers.py [--files 100000] [--readers text,parquet] [--seed 0]

Prints one line a reader. A file that breaks the promise is kept in the working folder; seed and number
make it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from layout_files import BUILDERS
from mutate import Tally, check, mutated

HEAD = 6000  # bytes of text files: short ones break in more ways a second
PACKED = ("parquet", "feather", "arrow_stream", "gzipped", "zipped", "excel")
JSON = ("json_rows", "json_objects", "json_arrays", "json_lines")
READERS = {
    "text": tuple(sorted(set(BUILDERS) - {*PACKED, *JSON})),
    **{name: (name,) for name in PACKED},
    "json": JSON,
}
"""Reader → the layouts that go through it; the text reader meets all of its layouts in turn."""


def shortened(name: str) -> bytes:
    """The layout's file, cut to its first lines where it is text."""
    data = BUILDERS[name]().data
    if name in (*PACKED, *JSON) or name == "utf16":
        return data
    return data[: data.rfind(b"\n", 0, HEAD) + 1]


def soak(reader: str, files: int, seed: int, folder: Path) -> Tally:
    """Break the files of one reader so many times."""
    layouts = READERS[reader]
    whole = {name: shortened(name) for name in (*layouts, "stooq", "akshare_gbk", "published")}
    options = {name: BUILDERS[name]().options for name in layouts}
    names, tally, path = sorted(whole), Tally(), folder / "bars.csv"
    for number in range(files):
        name = layouts[number % len(layouts)]
        rng = np.random.default_rng([seed, list(READERS).index(reader), number])
        broken = mutated(whole[name], rng, whole[names[number % len(names)]])
        mode = "drop" if number % 2 else "strict"
        try:
            check(broken, path, tally, memory=number % 50 == 0, on_defect=mode, **options[name])
        except Exception:
            kept = Path(f"soak-{name}-{seed}-{number}.bin")
            kept.write_bytes(broken)
            sys.stderr.write(f"{name}: file {number} of seed {seed} ({mode}) kept as {kept}\n")
            raise
    return tally


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files a reader")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for reader in arguments.readers.split(","):
            tally = soak(reader, arguments.files, arguments.seed, Path(folder))
            sys.stdout.write(
                f"{reader:14} {tally.files:7,} files: {tally.read:7,} read, {tally.refused:7,} refused, "
                f"slowest {tally.slowest:.2f} s, memory up to {tally.most_memory / 2**20:.1f} MiB\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
