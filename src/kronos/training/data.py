"""From a run's settings to its windows: arrays are opened or built from files of bars, split, and drawn from.

Training sees neither symbols that are held apart nor anything after the cutoff. A symbol's side is a hash of its name,
so it is the same in every file and for every bar size. A group's cutoff is the time after which its last 15 % of bars
lie.

Parquet shards of one table, files of one folder with a ``symbol`` column whose names differ in their last number alone
(``crypto_1h-00000-of-00064.parquet``, ``part-0.parquet``), may together be larger than memory. A first look reads the
symbols, a second one as many whole series as fit. Sorted by symbol, each row is read once; sorted by time, the
table is read once for each lot of series.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos.bars.arrays import INDEX_FILE, BarArrays, Segment, write_arrays
from kronos.bars.reading import OnDefect, read_bars
from kronos.bars.samples import locate
from kronos.bars.windows import WindowPlan, WindowSampler
from kronos.errors import DataError
from kronos.files import bars_files, json_text, write_text, writing
from kronos.training.config import DataSettings, RunConfig

HELD_APART_SHARE = 0.12
LATER_SHARE: float = DataSettings.model_fields["later_share"].default
ROWS_AT_ONCE = 8_000_000  # of a table in memory, about a gigabyte while it is read
_DAY = 86_400  # seconds
_VALIDATION_SEED = 20_240_701  # any constant: validation is the same in every run
_SYMBOL = "symbol"
_NUMBER = re.compile(r"([-_.]?(part|shard)?[-_.]?\d+([-_]of[-_]\d+)?)$", re.IGNORECASE)


def open_arrays(config: RunConfig) -> BarArrays:
    """The run's arrays; those of ``data.bars`` are built into ``out/arrays`` once.

    Raises:
        DataError: a file that is missing or cannot be read as bars, or a damaged folder.
    """
    data = config.data
    if data.arrays is not None:
        return BarArrays.open(data.arrays)
    files, folder = find_files(data.bars), config.out / "arrays"
    # enough to see that a file has changed, without reading what may be hundreds of gigabytes
    seen = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    record = json_text({"sources": seen, "on_defect": data.on_defect}, indent=2) + "\n"
    sources = folder / "sources.json"
    if (folder / INDEX_FILE).is_file() and sources.is_file() and sources.read_text(encoding="utf-8") == record:
        return BarArrays.open(folder)
    shutil.rmtree(folder, ignore_errors=True)
    # even the shortest segment that a window may come from
    with writing(folder / INDEX_FILE):
        tables = read_tables(files, data.on_defect)
        arrays = write_arrays(tables, folder, min_length=min(64, data.boundary[0] + 8))
        write_text(sources, record)
    return arrays


def find_files(sources: Sequence[str]) -> list[Path]:
    """Every file of bars that files, folders and ``sample:NAME`` stand for, in order.

    Raises:
        DataError: a source that does not exist, or a folder without bars.
    """
    places = [locate(source).expanduser() for source in sources]
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist; name files of bars, folders of them, or sample:sp500")
    return bars_files(places)


def read_tables(files: Sequence[Path], on_defect: OnDefect = "strict") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(group, symbol, table) of every series; bars of one size are one group, a file that names no symbol is one.

    Parquet shards and large Parquet files are read a few symbols at a time.
    """
    for unit in units(files):
        if is_sharded(unit):
            size = "bars"  # where a series is too short to tell, that of the one before
            for name, rows in read_shards(unit):
                table = read_bars(rows, symbol=name, on_defect=on_defect)
                size = _bar_size(unit[0], table) or size
                yield size, name, table
            continue
        table = read_bars(unit[0], on_defect=on_defect)
        group = _bar_size(unit[0], table) or "bars"
        if "symbol" not in table.columns:
            yield group, unit[0].name.split(".")[0], table
            continue
        for symbol, part in table.groupby("symbol", sort=True, observed=True):
            yield group, str(symbol), part


def _bar_size(path: Path, table: pd.DataFrame) -> str | None:
    """As a bar store's folders say, else as the bars are."""
    name, _, stored = path.parent.name.partition("=")
    return stored if name == "frequency" else table.attrs["report"].frequency


def units(files: Sequence[Path]) -> list[list[Path]]:
    """Files as they are read: one alone, or the shards of one table together."""
    families: dict[object, list[Path]] = defaultdict(list)
    for path in files:
        shard = path.suffix.lower() == ".parquet"
        families[(path.parent, _NUMBER.sub("", path.stem)) if shard else path].append(path)
    # a family without symbols is no table: numbers are names there, as of Chinese stocks
    return [
        part
        for unit in families.values()
        for part in ([unit] if len(unit) > 1 and all(_look(path)[1] for path in unit) else [[path] for path in unit])
    ]


def is_sharded(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> bool:
    """Whether a unit is read in pieces: shards, or one large Parquet file of many symbols."""
    rows, symbols = _look(unit[0])
    return len(unit) > 1 or (symbols and rows > rows_at_once)


def read_shards(unit: Sequence[Path], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[str, pd.DataFrame]]:
    """(symbol, its rows, sorted by time) of every series of a table, in order of symbol.

    Raises:
        DataError: a shard that cannot be read.
    """
    import pyarrow.dataset as ds
    from pyarrow import ArrowException, compute

    try:
        table = ds.dataset([str(path) for path in unit], format="parquet")
        counts: Counter[str] = Counter()
        for batch in table.to_batches(columns=[_SYMBOL]):  # only that column is read, a piece at a time
            counts.update({entry["values"]: entry["counts"] for entry in batch.column(0).value_counts().to_pylist()})
        batches: list[list[str]] = []
        room = 0
        for name in sorted(counts):
            if not batches or counts[name] > room:
                batches.append([])
                room = rows_at_once
            batches[-1].append(name)
            room -= counts[name]
        for names in batches:
            chosen = table.to_table(filter=compute.field(_SYMBOL).isin(names)).to_pandas()
            times = [name for name in chosen.columns if name.lower() in ("timestamp", "timestamps")][:1]
            for symbol, rows in chosen.groupby(_SYMBOL, sort=True, observed=True):
                yield str(symbol), (rows.sort_values(times, kind="stable") if times else rows).reset_index(drop=True)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"the shards {unit[0].name} … in {unit[0].parent} cannot be read ({' '.join(str(error).split())[:120]})"
        ) from error


def _look(path: Path) -> tuple[int, bool]:
    """How many rows a Parquet file has, and whether it names symbols; none where it is none or cannot be read."""
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".parquet":
        return 0, False
    try:
        metadata = pq.read_metadata(path)
    except Exception:  # whatever is wrong with it, the reader will say
        return 0, False
    return int(metadata.num_rows), _SYMBOL in metadata.schema.to_arrow_schema().names


def samplers(
    config: RunConfig, arrays: BarArrays, batch_size: int, *, rank: int = 0, ranks: int = 1
) -> tuple[WindowSampler, WindowSampler]:
    """Windows for training and for validation; of several processes, each has its own.

    Raises:
        DataError: there are none for one of the two, or they overlap.
    """
    data, context = config.data, config.data.boundary[1]
    training, validation = split_of(config, arrays)
    check_split(arrays, training, validation, context)
    plan = WindowPlan(
        data.window, data.boundary, data.volume_dropout, data.aggregate, data.group_power, data.coin_flips
    )
    fixed = WindowPlan(data.window, (context, context), group_power=data.group_power)

    def draw(purpose: str, segments: list[Segment], plan: WindowPlan, seed: int, hint: str = "") -> WindowSampler:
        try:
            return WindowSampler(arrays.select(segments), plan, batch_size, seed, rank=rank, ranks=ranks)
        except DataError as error:
            raise DataError(f"no windows for {purpose}: {error}{hint}") from error

    few = ". With few symbols, set data.hold_out to dates"
    return draw("training", training, plan, config.seed, few), draw("validation", validation, fixed, _VALIDATION_SEED)


def split_of(config: RunConfig, arrays: BarArrays) -> tuple[list[Segment], list[Segment]]:
    """A run's segments for training and for validation."""
    data = config.data
    embargo = data.window if data.embargo is None else data.embargo
    if data.dates is not None:
        arrays = arrays.select(_between(arrays, arrays.segments, data.dates.training[0], data.dates.validation[1]))
    training, validation = split_segments(
        arrays, data.boundary[1], hold_out=data.hold_out, cut=cutoffs_of(data, arrays), embargo=embargo
    )
    if data.dates is not None:  # between the two there may be days that belong to neither
        training = _between(arrays, training, *data.dates.training)
    return training, validation


# -- split -------------------------------------------------------------------------------------------------------------


def held_apart(symbol: str) -> bool:
    """Whether a symbol is kept out of training; a ``#source`` suffix does not matter."""
    name = symbol.split("#")[0]
    # Not ``files.digest``: recipes are made again only while each symbol stays on its side.
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0] < HELD_APART_SHARE * 256


def cutoffs_of(data: DataSettings, arrays: BarArrays) -> dict[str, int]:
    """For each group the time after which a run's validation asks: by the dates of the settings, or by its share."""
    if data.dates is None:
        return cutoffs(arrays, data.later_share)
    after = ends_before(data.dates.training, data.dates.validation)
    return dict.fromkeys((segment.group for segment in arrays.segments), after)


def ends_before(earlier: tuple[date, date], later: tuple[date, date]) -> int:
    """The second after which a period asks, where another comes before it: behind its context, and behind that one."""
    return max(last_second(earlier[1]), last_second(later[0]) - _DAY)


def last_second(day: date) -> int:
    """The last second of a day, since 1970."""
    return (day - date(1970, 1, 1)).days * _DAY + _DAY - 1


def _between(arrays: BarArrays, segments: Iterable[Segment], first: date, last: date) -> list[Segment]:
    """Segments without the bars of other days than those from a first to a last one."""
    found = []
    for s in segments:
        times = arrays.times[s.start : s.stop]
        start, stop = np.searchsorted(times, (last_second(first) - _DAY, last_second(last)), side="right")
        if start < stop:
            found.append(Segment(s.group, s.symbol, s.start + int(start), s.start + int(stop)))
    return found


def cutoffs(arrays: BarArrays, later_share: float = LATER_SHARE) -> dict[str, int]:
    """For each group the time, in seconds since 1970, after which its last ``later_share`` of bars lie."""
    times: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    for segment in arrays.segments:
        times[segment.group].append(arrays.times[segment.start : segment.stop])
    found = {}
    for group, parts in times.items():  # np.quantile of sorted runs, which may be mapped files larger than memory
        last = sum(map(len, parts)) - 1
        place = last * (1 - later_share)
        pair = [_ranked(parts, rank) for rank in (int(place), min(int(place) + 1, last))]
        found[group] = int(np.quantile(pair, place - int(place)))
    return found


def _ranked(parts: list[NDArray[np.int64]], rank: int) -> int:
    """The value that ``rank`` others precede: halving the range of times, each half counted by its edges."""
    low, high = min(int(part[0]) for part in parts), max(int(part[-1]) for part in parts)
    while low < high:
        middle = (low + high) // 2
        if sum(int(np.searchsorted(part, middle, side="right")) for part in parts) > rank:
            high = middle
        else:
            low = middle + 1
    return low


def split_segments(
    arrays: BarArrays, context: int, *, hold_out: str = "symbols", cut: dict[str, int] | None = None, embargo: int = 0
) -> tuple[list[Segment], list[Segment]]:
    """Segments for training and for validation.

    Validation segments begin ``context`` bars before the cutoff, so that everything after their first ``context``
    bars is later than all training. Groups without any held-apart symbol validate on the later dates of all of them.

    Args:
        context: bars of context in a validation window.
        hold_out: "symbols" trains on no held-apart symbol; "dates" trains on all, up to the cutoff.
        cut: by group, the time after which validation asks; None: after all but its last :data:`LATER_SHARE` of bars.
        embargo: bars before the cutoff that training leaves out too, counted over a symbol's files as they follow each
            other. Where two hold the same dates it is the later one that is cut.
    """
    cut = cutoffs(arrays) if cut is None else cut
    by_symbol = hold_out == "symbols"
    with_held_apart = {s.group for s in arrays.segments if by_symbol and held_apart(s.symbol)}
    last_bars: dict[tuple[str, str], int] = defaultdict(int)  # before the cutoff, over all segments of a symbol
    borders = []
    for s in arrays.segments:
        border = s.start + int(np.searchsorted(arrays.times[s.start : s.stop], cut[s.group], side="right"))
        borders.append(border)
        if border > s.start:
            last_bars[s.group, s.symbol] = max(last_bars[s.group, s.symbol], border)
    training, validation = [], []
    for s, border in zip(arrays.segments, borders):
        apart = by_symbol and held_apart(s.symbol)
        stop = min(border, last_bars[s.group, s.symbol] - embargo)
        if not apart and stop - s.start > 1:
            training.append(Segment(s.group, s.symbol, s.start, stop))
        if (apart or s.group not in with_held_apart) and s.stop > border:
            validation.append(Segment(s.group, s.symbol, max(s.start, border - context), s.stop))
    return training, validation


def check_split(arrays: BarArrays, training: list[Segment], validation: list[Segment], context: int) -> None:
    """Refuses a validation set that is empty, or whose questions are not later than all training of their group.

    Args:
        context: leading bars of a validation segment that are never asked about.

    Raises:
        DataError: says which, and what to do.
    """
    long_enough = [s for s in validation if len(s) > context]
    if not long_enough:
        raise DataError(
            f"the validation set is empty: no run of {context} bars of context and more behind it; give more bars, "
            f"a smaller data.boundary or a larger data.later_share"
        )
    latest: dict[str, int] = defaultdict(lambda: -(2**62))
    for s in training:
        latest[s.group] = max(latest[s.group], int(arrays.times[s.stop - 1]))
    for s in long_enough:
        first = int(arrays.times[s.start + context])
        if first <= latest[s.group]:
            raise DataError(
                f"the validation set overlaps with training: {s.symbol} of {s.group} is asked about "
                f"{np.datetime64(first, 's')}, training reaches {np.datetime64(latest[s.group], 's')}"
            )
