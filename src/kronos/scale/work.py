"""One worker: a loaded checkpoint that turns a partition of bars into a file of forecasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from platform import node

import pandas as pd

from kronos.bars import read_bars
from kronos.bars.cut import cut_until
from kronos.bars.store import read_last
from kronos.errors import CheckpointError, DataError, KronosError
from kronos.inference.assemble import CALENDAR_BARS
from kronos.inference.export import rows_of
from kronos.inference.pair import pair_digest
from kronos.inference.predictor import KronosPredictor
from kronos.scale.output import Trouble, UniverseReport, write
from kronos.scale.plan import Partition, Source, UniverseSettings

Group = dict[str, tuple[Source, pd.DataFrame]]
Found = pd.DataFrame | KronosError
"""The bars of a series, or why there are none."""


class ForecastWork:
    """Forecasts partitions of a universe's folder into files below ``out``.

    ``checkpoint`` is the digest of the weights, which those on this worker must have too; ``device`` None is the GPU
    that this worker may see, else the CPU.

    Raises:
        CheckpointError, ConfigError: the checkpoint or the device cannot be used, or the weights are others.
    """

    def __init__(
        self, settings: UniverseSettings, folder: Path, out: Path, checkpoint: str, device: str | None = None
    ) -> None:
        if pair_digest(settings.model, settings.revision, settings.tokenizer) != checkpoint:
            raise CheckpointError(
                f"The checkpoint '{settings.model}' on a worker ({node()}) is not the one in the process that asked. "
                "Give every node the same files, or pin a hub checkpoint with --revision."
            )
        self.settings, self.folder, self.out = settings, folder, out
        self.predictor = KronosPredictor.from_pretrained(
            settings.model, device, settings.revision, tokenizer=settings.tokenizer
        )
        self._held: tuple[str, dict[str, Found]] = ("", {})  # the series of the file of many that was read last

    def __call__(self, partition: Partition) -> tuple[int, UniverseReport]:
        """Read, forecast and write one partition; returns its number of files, and what became of their series."""
        spec = self.settings.spec
        spec = spec.replace(frequency=spec.frequency or partition.sources[0].frequency)  # one for all of a store
        troubles: list[Trouble] = []
        groups: list[Group] = []  # series by symbol; where files share one, the later ones are in groups of their own
        for source in partition.sources:
            for symbol, table in self._read(source):
                if isinstance(table, KronosError):
                    troubles.append(_trouble(symbol, source, table))
                    continue
                if all(symbol in group for group in groups):
                    groups.append({})
                next(group for group in groups if symbol not in group)[symbol] = (source, table)
        frames: list[pd.DataFrame] = []
        for group in groups:

            def fail(symbol: str, error: KronosError, group: Group = group) -> None:
                troubles.append(_trouble(symbol, group[symbol][0], error))

            tables = {symbol: table for symbol, (_, table) in group.items()}
            for symbol, forecast in self.predictor.answer_many(tables, spec, on_error=fail):
                rows = rows_of(forecast, self.settings.quantile_levels, paths=self.settings.paths)
                frames.append(rows.assign(source=group[symbol][0].path))
        troubles.sort(key=lambda trouble: (trouble.source, trouble.symbol))
        return len(partition.sources), write(self.out, partition, self.settings, frames, troubles)

    def _read(self, source: Source) -> list[tuple[str, Found]]:
        """The series of one file, or the one that is meant, each cut to the bars that a forecast looks at."""
        try:
            if source.symbol is None:
                return list(self._series(source))
            if self._held[0] != source.path:  # read once, though its series come one by one
                self._held = source.path, dict(self._series(source))
        except KronosError as error:
            return [(source.name, error)]
        return [(source.symbol, self._held[1][source.symbol])]

    def _series(self, source: Source) -> Iterator[tuple[str, Found]]:
        looked_at = max(CALENDAR_BARS, self.predictor.max_context + self.predictor.transform.lost)
        table: Path | pd.DataFrame = self.folder / source.path
        if source.frequency is not None:
            last = looked_at if self.settings.until is None else sys.maxsize
            table = read_last(self.folder / source.path, last)  # a store's bars were judged when they went in
        bars = read_bars(table, on_defect=self.settings.on_defect, **self.settings.reading)
        named = bars.groupby("symbol", sort=True) if "symbol" in bars.columns else [(source.name, bars)]
        for symbol, rows in named:
            try:
                seen = rows if self.settings.until is None else cut_until(rows, self.settings.until)
            except DataError as error:
                yield str(symbol), error
            else:
                yield str(symbol), seen.tail(looked_at)


def _trouble(symbol: str, source: Source, error: KronosError) -> Trouble:
    return Trouble(symbol, source.path, type(error).__name__, str(error))
