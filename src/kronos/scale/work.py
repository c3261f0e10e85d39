"""One worker: a loaded checkpoint that turns a partition of bars into a file of forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from platform import node
from typing import Any

import pandas as pd

from kronos.bars.reading import read_bars
from kronos.bars.store import read_last
from kronos.errors import CheckpointError, KronosError
from kronos.inference.inputs import CALENDAR_BARS
from kronos.inference.pair import pair_digest
from kronos.inference.predictor import KronosPredictor
from kronos.scale.output import Outcome, Rows, Trouble, write
from kronos.scale.plan import Partition, Settings, Source


class ForecastWork:
    """Forecasts partitions.

    Args:
        settings: what is asked of every series.
        folder: of the universe.
        out: where files go.
        checkpoint: digest of the weights, which this worker's own must have.
        device: where to compute; None: the GPU that this worker may see, else the CPU.

    Raises:
        CheckpointError, ConfigError: the checkpoint or the device cannot be used, or the weights are others.
    """

    def __init__(self, settings: Settings, folder: Path, out: Path, checkpoint: str, device: str | None = None) -> None:
        if pair_digest(settings.model, settings.revision) != checkpoint:
            raise CheckpointError(
                f"The checkpoint '{settings.model}' on a worker ({node()}) is not the one in the process that asked. "
                "Give every node the same files, or pin a hub checkpoint with --revision."
            )
        self.settings, self.folder, self.out = settings, folder, out
        self.predictor = KronosPredictor.from_pretrained(settings.model, device, settings.revision)

    def __call__(self, partition: Partition) -> Outcome:
        """Read, forecast and write one partition."""
        troubles: list[Trouble] = []
        rows = Rows(self.settings)
        for group in self._groups(partition, troubles):
            for symbol, forecast in self._forecast(group, partition, troubles):
                rows.add(forecast, group[symbol][0].path)
        troubles.sort(key=lambda trouble: (trouble.source, trouble.symbol))
        return write(self.out, partition, rows, troubles)

    def _groups(self, partition: Partition, troubles: list[Trouble]) -> list[dict[str, tuple[Source, pd.DataFrame]]]:
        """Series by symbol; where files share a symbol, the later ones go into groups of their own."""
        groups: list[dict[str, tuple[Source, pd.DataFrame]]] = []
        for source in partition.sources:
            try:
                series = list(self._read(source))
            except KronosError as error:
                troubles.append(_trouble(source.name, source, error))
                continue
            for symbol, table in series:
                group = next((group for group in groups if symbol not in group), None)
                if group is None:
                    groups.append(group := {})
                group[symbol] = (source, table)
        return groups

    def _read(self, source: Source) -> Iterator[tuple[str, pd.DataFrame]]:
        """The series of one file, each cut to the bars that a forecast looks at."""
        looked_at = max(CALENDAR_BARS, self.predictor.max_context + self.predictor.transform.lost)
        table: Path | pd.DataFrame = self.folder / source.path
        if source.frequency is not None:
            table = read_last(self.folder / source.path, looked_at)  # a store's bars were judged when they went in
        bars = read_bars(table, on_defect=self.settings.on_defect, **self.settings.reading)  # type: ignore[arg-type]
        if "symbol" not in bars.columns:
            yield source.name, bars.tail(looked_at)
            return
        for symbol, rows in bars.groupby("symbol", sort=True):
            yield str(symbol), rows.tail(looked_at)

    def _forecast(
        self, group: dict[str, tuple[Source, pd.DataFrame]], partition: Partition, troubles: list[Trouble]
    ) -> Iterator[tuple[str, Any]]:
        asked, first = self.settings, partition.sources[0]
        yield from self.predictor.forecast_many(
            {symbol: table for symbol, (_, table) in group.items()},
            asked.horizon,
            asked.num_samples,
            asked.temperature,
            asked.top_k,
            asked.top_p,
            asked.seed,
            asked.calendar,
            context_length=asked.context_length,
            stamp=asked.stamp,  # type: ignore[arg-type]
            frequency=asked.frequency or first.frequency,  # one for all of a store
            on_error=lambda symbol, error: troubles.append(_trouble(symbol, group[symbol][0], error)),
        )


def _trouble(symbol: str, source: Source, error: KronosError) -> Trouble:
    return Trouble(symbol, source.path, type(error).__name__, str(error))
