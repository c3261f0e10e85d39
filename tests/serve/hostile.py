"""Files that nobody should send."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

MB = 2**20
HEADER = "date,open,high,low,close,volume\n"
ROW = "2024-01-{day:02d},1,2,1,2,5\n"


def csv(rows: int = 20) -> str:
    return HEADER + "".join(ROW.format(day=day + 1) for day in range(rows))


def zeros(size: int) -> bytes:
    return bytes(size)


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("bars.csv", zeros(200 * MB))
    return out.getvalue()


def many_files() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}.csv", "x")
    return out.getvalue()


def escaping_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../../../tmp/escaped.csv", "not bars")
        archive.writestr("../escaped-too.csv", "not bars")
    return out.getvalue()


def gzip_bomb() -> bytes:
    return gzip.compress(zeros(200 * MB), compresslevel=1)


def nested_bomb() -> bytes:
    return gzip.compress(gzip.compress(zeros(200 * MB), compresslevel=1))


def bzip2_bomb() -> bytes:
    return bz2.compress(zeros(100 * MB), compresslevel=1)


def xz_bomb() -> bytes:
    return lzma.compress(zeros(100 * MB), preset=0)


def varint(value: int) -> bytes:
    """A thrift number."""
    value *= 2
    out = bytearray()
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes([*out, value])


def billion_rows() -> bytes:
    """A Parquet file of 123,457 rows whose footer promises a billion, everywhere."""
    rows = 123_457
    out = io.BytesIO()
    times = pd.date_range("2020-01-01", periods=rows, freq="min")
    names = ("open", "high", "low", "close")
    pq.write_table(pa.table({"timestamp": times, **{name: [1.0] * rows for name in names}}), out)
    whole = out.getvalue()
    length = struct.unpack("<I", whole[-8:-4])[0]
    body, footer = whole[: -8 - length], whole[-8 - length : -8]
    footer = footer.replace(varint(rows), varint(10**9))
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"


def billion_nulls() -> bytes:
    """An Arrow file whose columns are a billion nulls, which take no room."""
    out = io.BytesIO()
    names = ("timestamp", "open", "high", "low", "close")
    table = pa.table({name: pa.nulls(10**9) for name in names})
    with pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table)
    return out.getvalue()


def billion_in_one_run() -> bytes:
    """An Arrow file whose columns are one value, repeated a billion times by its encoding."""
    out = io.BytesIO()
    names = ("open", "high", "low", "close")
    run = pa.RunEndEncodedArray.from_arrays(pa.array([10**9], pa.int32()), pa.array([1.0]))
    columns = {"timestamp": pa.RunEndEncodedArray.from_arrays(pa.array([10**9], pa.int32()), pa.array([1])), "x": run}
    table = pa.table({**columns, **dict.fromkeys(names, run)})
    with pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table)
    return out.getvalue()


def cut_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"close": list(range(1000))}), out)
    return out.getvalue()[:-20]


def lying_parquet() -> bytes:
    return b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1"


def cut_feather() -> bytes:
    out = io.BytesIO()
    feather.write_feather(pa.table({"close": list(range(1000))}), out)
    return out.getvalue()[:500]


def script_columns() -> bytes:
    return b"<script>alert(1)</script>,<img src=x onerror=alert(1)>,c,d,e\n1,2,3,4,5\n"


def many_columns() -> bytes:
    return b",".join(b"c%d" % number for number in range(300_000)) + b"\n" + b"1," * 299_999 + b"1\n"


def many_symbols() -> bytes:
    lines = "".join(f"2024-01-01,S{number},1,2,1,2\n" for number in range(60_000))
    return ("date,symbol,open,high,low,close\n" + lines).encode()


def excel() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return out.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "bomb.zip": zip_bomb,
    "many.zip": many_files,
    "escape.zip": escaping_zip,
    "bomb.csv.gz": gzip_bomb,
    "nested.csv.gz": nested_bomb,
    "bomb.csv.bz2": bzip2_bomb,
    "bomb.csv.xz": xz_bomb,
    "billion.parquet": billion_rows,
    "nulls.arrow": billion_nulls,
    "run.arrow": billion_in_one_run,
    "cut.parquet": cut_parquet,
    "lying.parquet": lying_parquet,
    "cut.feather": cut_feather,
    "script.csv": script_columns,
    "wide.csv": many_columns,
    "symbols.csv": many_symbols,
    "book.xlsx": excel,
    "deep.json": lambda: b"[" * MB,
    "objects.json": lambda: b"[" + b"{}," * (5 * MB) + b"{}]",
    "digits.json": lambda: b"[" + b"9" * MB + b"]",
    "empty.csv": lambda: b"",
    "spaces.csv": lambda: b" " * MB,
    "header.csv": lambda: HEADER.encode(),
    "picture.png": lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "program.csv": lambda: b"\x7fELF" + bytes(range(256)) * 400,
    "objects.pkl": lambda: b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.",
    "base.sqlite": lambda: b"SQLite format 3\x00" + bytes(1000),
    "paper.pdf": lambda: b"%PDF-1.7\n" + bytes(1000),
    "line.csv": lambda: b"1" * (8 * MB),
    "quote.csv": lambda: (HEADER + '"').encode() + b"x" * (8 * MB),
    "huge.csv": lambda: (HEADER + "2024-01-01,1e400,1e400,1e400,1e400,1e400\n" * 3).encode(),
    "long.csv": lambda: (HEADER + "2024-01-01," + "9" * MB + ",1,1,1,1\n").encode(),
    "nan.csv": lambda: (HEADER + "2024-01-01,nan,inf,-inf,nan,nan\n").encode(),
    "time.csv": lambda: (HEADER + "99999999-99-99,1,2,1,2,3\n" * 9).encode(),
    "zone.csv": lambda: (HEADER + "2024-01-01T00:00:00+99:99,1,2,1,2,3\n" * 9).encode(),
    "null.csv": lambda: (HEADER + "2024-01-01,1,2,1,\x00,3\n" * 9).encode(),
    "utf16.csv": lambda: b"\xff\xfe" + csv().encode("utf-16-le")[:-1],
}
"""What to call them, and what they hold."""
