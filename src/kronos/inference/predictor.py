"""The predictor: bars in, forecasts out.

``predict`` and ``predict_batch`` keep the published call and its numbers. ``forecast`` and what follows it are the
interface to use: real future timestamps, every sample path, valid bars, settings calibrated for the checkpoint.

The same seed gives the same paths in all of them, alone or in a batch (see :mod:`kronos.inference.rng`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kronos.bars.schema import FEATURES
from kronos.bars.transform import get_transform
from kronos.errors import ConfigError, DataError
from kronos.inference.batches import Engine, Request
from kronos.inference.engine import Hooks
from kronos.inference.forecast import Forecast
from kronos.inference.likelihood import hidden_states, token_likelihood
from kronos.inference.plan import MOST_BARS, MOST_PATHS, Plan, calibrated_settings, make_request, whole_number
from kronos.inference.published import PublishedInput, published_frame, read_published
from kronos.inference.repair import repair_bars
from kronos.inference.rng import check_seed
from kronos.inference.sampling import SamplingSettings
from kronos.inference.series import Future, Series, chunks, future_of, make_series, stamp_features, tables_of
from kronos.inference.width import widen, width_factors
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import family_member

Progress = Callable[[int, int], None]
Cancel = Callable[[], bool]

_SERIES_AT_ONCE = 256  # prepared together by forecast_many, so that any number of series needs bounded memory


class KronosPredictor:
    """Forecasts with one model and its tokenizer.

    Args:
        model, tokenizer: a pair that was trained together. Their train flags have no influence on any result.
        device: where to compute; both are moved there. None: the GPU if there is one, else the CPU.
        max_context: bars that the model reads at most.
        clip: bound of the normalised features.
        name, revision: what to call the model in a forecast's metadata.
        dtype: ``float32`` or ``bfloat16``.

    Raises:
        ConfigError: model and tokenizer do not fit, or a setting is out of range.
    """

    def __init__(
        self,
        model: Kronos,
        tokenizer: KronosTokenizer,
        device: str | torch.device | None = None,
        max_context: int = 512,
        clip: float = 5,
        *,
        name: str = "custom",
        revision: str | None = None,
        dtype: str = "float32",
    ) -> None:
        m, t = model.config, tokenizer.config
        if (m.s1_bits, m.s2_bits) != (t.s1_bits, t.s2_bits):
            raise ConfigError(
                f"the model reads {m.s1_bits}+{m.s2_bits} bits, the tokenizer writes {t.s1_bits}+{t.s2_bits}; "
                "load a pair that was trained together"
            )
        if t.d_in != len(FEATURES):
            raise ConfigError(f"the tokenizer reads {t.d_in} features; a bar has {len(FEATURES)}")
        if isinstance(max_context, bool) or not isinstance(max_context, int) or max_context < 2:
            raise ConfigError(f"max_context is {max_context!r}; it must be a whole number of bars, 2 or more")
        if not clip > 0:
            raise ConfigError(f"clip is {clip!r}; it must be above 0")
        self.device = _device(device)
        self.model, self.tokenizer = model.to(self.device), tokenizer.to(self.device)
        self.max_context, self.clip = max_context, float(clip)
        self.name, self.revision = name, revision
        self.transform = get_transform(t.bar_transform)
        self.engine = Engine(self.model, self.tokenizer, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        revision: str | None = None,
        *,
        tokenizer: str | Path | None = None,
        dtype: str = "float32",
    ) -> KronosPredictor:
        """A model with the tokenizer that belongs to it.

        Args:
            name: ``nano``, ``mini``, ``small``, ``base``, a folder with ``model/`` and ``tokenizer/``, or a hub id.
            revision: a commit, branch or tag of the model's hub repository.
            tokenizer: another tokenizer; needed for a hub id outside the family.

        Raises:
            CheckpointError: not found, damaged, or unreachable.
            ConfigError: a hub id whose tokenizer is unknown.
        """
        member = None if Path(name).is_dir() else family_member(str(name))
        if tokenizer is None:
            if member is None and not Path(name).is_dir() and str(name).count("/") == 1:
                raise ConfigError(f"the tokenizer of '{name}' is not known; name it with tokenizer=")
            tokenizer = member.tokenizer if member else name
        model = Kronos.from_pretrained(name, revision=revision)
        return cls(
            model,
            KronosTokenizer.from_pretrained(tokenizer),
            device,
            member.max_context if member and not model.config.consistent else model.config.max_context,
            name=_short_name(name, member),
            revision=revision,
            dtype=dtype,
        )

    # -- the published interface ------------------------------------------------------------------------------

    def predict(
        self,
        df: Any,
        x_timestamp: Any,
        y_timestamp: Any,
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The published call: the mean of the sampled paths, raw as the model gives it.

        Args:
            df: ``open, high, low, close``, optionally ``volume`` and ``amount``; the oldest bar first.
            x_timestamp, y_timestamp: times of the context's bars and of the ``pred_len`` bars to come.
            T, top_k, top_p: temperature (0 is greedy), then the k likeliest tokens, of which the likeliest that hold
                top_p; both limits apply.
            sample_count: paths to average.
            verbose: accepted for compatibility; nothing is printed.
            seed: the same seed gives the same numbers.

        Returns:
            One row a future bar, indexed by ``y_timestamp``: the six features.

        Raises:
            DataError, ConfigError: see :mod:`kronos.inference.published`.
        """
        return self.predict_batch(
            [df], [x_timestamp], [y_timestamp], pred_len, T, top_k, top_p, sample_count, verbose, seed=seed
        )[0]

    def predict_batch(
        self,
        df_list: Sequence[Any],
        x_timestamp_list: Sequence[Any],
        y_timestamp_list: Sequence[Any],
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int = 0,
    ) -> list[pd.DataFrame]:
        """``predict`` for several series, of equal length or not; arguments and numbers are those of ``predict``."""
        horizon = whole_number("pred_len", pred_len, 1, MOST_BARS)
        paths = whole_number("sample_count", sample_count, 1, MOST_PATHS)
        settings = SamplingSettings(T, top_k, top_p)
        check_seed(seed)
        if not len(df_list) == len(x_timestamp_list) == len(y_timestamp_list):
            raise DataError(
                f"predict_batch got {len(df_list)} tables, {len(x_timestamp_list)} x_timestamp and "
                f"{len(y_timestamp_list)} y_timestamp; give one of each a series"
            )
        takes_logs = self.transform.name == "returns"
        inputs = [
            read_published(df, x, y, horizon, positive=takes_logs, where=f"series {i}: " if len(df_list) > 1 else "")
            for i, (df, x, y) in enumerate(zip(df_list, x_timestamp_list, y_timestamp_list, strict=True))
        ]
        prepared = [self._published_request(entry, seed, paths) for entry in inputs]
        features = self.engine.run(
            [request for request, _ in prepared], settings, max_context=self.max_context, window_stride=1
        )
        return [
            published_frame(self.transform.decode(sampled, state), entry.index)
            for entry, (_, state), sampled in zip(inputs, prepared, features, strict=True)
        ]

    def _published_request(self, entry: PublishedInput, seed: int, paths: int) -> tuple[Request, Any]:
        values, times, most = entry.values, entry.context_times, self.max_context + self.transform.lost
        if len(values) > most:
            if self.model.config.consistent:
                values, times = values[-most:], times[-most:]
            else:
                warnings.warn(
                    f"the context has {len(values)} bars, the model reads {self.max_context}: as published, all of "
                    "them set the scale. Pass fewer bars, or use forecast(), which cuts first",
                    stacklevel=4,
                )
        stamps = np.concatenate([stamp_features(times), stamp_features(entry.future_times)])
        return self._request(values, stamps, len(entry.future_times), seed, paths)

    # -- forecasts --------------------------------------------------------------------------------------------

    def forecast(
        self,
        bars: Any,
        horizon: int = 24,
        num_samples: int = 30,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        calendar: str | None = None,
        future: Any = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        context_length: int | None = None,
        window_stride: int | None = None,
    ) -> Forecast:
        """Sample paths of the next bars of one series; every bar of every path is valid.

        Args:
            bars: a bars table, or any table that ``read_bars`` understands.
            horizon: bars ahead.
            num_samples: sample paths.
            temperature, top_k, top_p: how tokens are drawn. None: the checkpoint's own calibrated setting.
            seed: the same seed gives the same paths; more paths or a longer horizon keep the earlier ones.
            calendar: MIC code, ``24/7`` …, for the future timestamps. None: inferred from the bars.
            future: the timestamps themselves, one a bar, instead of a calendar.
            progress: called with (bars sampled, bars in all) after every bar.
            cancel: asked before every bar; True stops.
            context_length: last bars to read, at most ``max_context``; None reads as many as the model can.
            window_stride: bars to drop at once when the window is full; None: an eighth of ``max_context``.

        Raises:
            DataError, CalendarError: bars or times that cannot be used.
            ConfigError: a setting out of range.
            CapacityError: more than this machine can hold.
            Cancelled: ``cancel`` said so.
        """
        settings = calibrated_settings(self.model.config, temperature, top_k, top_p)
        plan = Plan.build(self.max_context, settings, horizon, num_samples, seed, context_length, window_stride)
        series = self._series(bars, plan)
        hooks = _hooks(progress, cancel, plan.paths * plan.horizon)
        return self._forecast([(series, future_of(series, plan.horizon, calendar, future))], plan, hooks)[0]

    def forecast_many(
        self,
        series: Any,
        horizon: int = 24,
        num_samples: int = 30,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        calendar: str | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        context_length: int | None = None,
        window_stride: int | None = None,
    ) -> Iterator[tuple[str, Forecast]]:
        """Forecasts of many series, each equal to what ``forecast`` gives for it alone.

        Args:
            series: ``{symbol: bars}``, or one long table with a ``symbol`` column; lengths may differ.

        Yields:
            (symbol, Forecast) in input order. Series are computed in batches that fit in memory.
        """
        settings = calibrated_settings(self.model.config, temperature, top_k, top_p)
        plan = Plan.build(self.max_context, settings, horizon, num_samples, seed, context_length, window_stride)
        tables = tables_of(series)
        hooks = _hooks(progress, cancel, len(tables) * plan.paths * plan.horizon)
        return self._forecast_chunks(tables, plan, calendar, hooks)

    def _forecast_chunks(
        self, tables: list[tuple[str, Any]], plan: Plan, calendar: str | None, hooks: Hooks
    ) -> Iterator[tuple[str, Forecast]]:
        for part in chunks(tables, _SERIES_AT_ONCE):
            jobs = []
            for name, table in part:
                try:
                    one = self._series(table, plan, name)
                    jobs.append((one, future_of(one, plan.horizon, calendar, None)))
                except DataError as error:
                    raise DataError(f"series '{name}': {error}") from error
            for (name, _), result in zip(part, self._forecast(jobs, plan, hooks), strict=True):
                yield name, result

    def generate(
        self,
        bars: Any = None,
        length: int = 256,
        num_paths: int = 1,
        seed: int = 0,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        calendar: str | None = None,
    ) -> Forecast:
        """Synthetic bars that go on from ``bars``, or from the packaged S&P 500 sample when None.

        Args:
            length: bars a path; may exceed ``max_context``.

        Returns:
            The paths as a ``Forecast``.
        """
        if bars is None:
            from kronos.bars.samples import sample_bars

            bars = sample_bars("sp500")
        return self.forecast(bars, length, num_paths, temperature, top_k, top_p, seed, calendar)

    # -- looking inside ---------------------------------------------------------------------------------------

    def embed(self, bars: Any) -> npt.NDArray[np.float32]:
        """(T, C) hidden states of the last bars of a series, at most ``max_context`` of them.

        Where the transform spends its first bar as anchor, T is one less than the bars read.
        """
        series = make_series(bars, self.max_context + self.transform.lost, 1 + self.transform.lost)
        features = self.transform.encode(series.values, self.transform.fit(series.values, clip=self.clip))
        stamps = stamp_features(pd.DatetimeIndex(series.bars["timestamp"]))[self.transform.lost :]
        return hidden_states(self.model, self.tokenizer, features, stamps)

    def score(self, bars: Any, context_length: int | None = None) -> npt.NDArray[np.float64]:
        """(T,) negative log-likelihood of every bar's two tokens, in nats.

        Every bar is judged from bars before it alone, scale included: blocks of bars follow a context of
        ``context_length`` bars that sets the scale.

        Args:
            context_length: None: half of ``max_context``, or half of the bars where they are fewer.

        Returns:
            One number a bar; NaN for the first ``context_length`` bars, which nothing precedes.
        """
        series = make_series(bars, 1 << 40, 2 + 2 * self.transform.lost)
        most = self.max_context // 2
        length = min(most, len(series.bars) // 2) if context_length is None else context_length
        if not 1 + self.transform.lost <= length < self.max_context:
            raise ConfigError(
                f"context_length is {length}; it must be from {1 + self.transform.lost} to {self.max_context - 1} bars"
            )
        stamps = stamp_features(series.times)
        out = np.full(len(series.bars), np.nan)
        block = self.max_context - length + self.transform.lost
        for first in range(length, len(out), block):
            window = slice(first - length, min(first + block, len(out)))
            values = series.values[window]
            state = self.transform.fit(values[:length], clip=self.clip)
            features = self.transform.encode(values, state)
            nats = token_likelihood(self.model, self.tokenizer, features, stamps[window][self.transform.lost :])
            out[first : window.stop] = nats[-(window.stop - first) :]
        return out

    # -- inside -----------------------------------------------------------------------------------------------

    def _series(self, bars: Any, plan: Plan, name: str | None = None) -> Series:
        lost = self.transform.lost
        return make_series(bars, plan.context_length + lost, 2 + lost, name)

    def _request(
        self, values: npt.NDArray[np.float64], stamps: npt.NDArray[np.int64], horizon: int, seed: int, paths: int
    ) -> tuple[Request, Any]:
        return make_request(
            self.transform,
            values,
            stamps,
            horizon=horizon,
            paths=paths,
            seed=seed,
            max_context=self.max_context,
            clip=self.clip,
        )

    def _forecast(self, jobs: list[tuple[Series, Future]], plan: Plan, hooks: Hooks) -> list[Forecast]:
        prepared = []
        for series, future in jobs:
            times = pd.DatetimeIndex(series.bars["timestamp"])
            stamps = np.concatenate([stamp_features(times), stamp_features(future.times)])
            prepared.append(self._request(series.values, stamps, plan.horizon, plan.seed, plan.paths))
        features = self.engine.run(
            [request for request, _ in prepared],
            plan.settings,
            max_context=self.max_context,
            window_stride=plan.window_stride,
            hooks=hooks,
        )
        return [
            self._finish(series, future, plan, self.transform.decode(sampled, state))
            for (series, future), (_, state), sampled in zip(jobs, prepared, features, strict=True)
        ]

    def _finish(self, series: Series, future: Future, plan: Plan, bars: npt.NDArray[np.float64]) -> Forecast:
        metadata = self._metadata(series, future, plan)
        if self.transform.name == "returns":
            width = (self.model.config.calibration or {}).get("width")
            if width is not None:
                bars = widen(bars, series.last_close, width_factors(width, plan.horizon))
        else:
            bars, metadata["repaired_bars"] = repair_bars(bars, series.last_close)
        return Forecast(bars.astype(np.float32), future.times, metadata, series.bars, series.symbol)

    def _metadata(self, series: Series, future: Future, plan: Plan) -> dict[str, Any]:
        notes = [*series.warnings, *future.notes]
        if future.estimated:
            notes.append(f"{future.estimated} timestamps lie beyond the calendar's end and are estimated")
        return {
            "model": self.name,
            "revision": self.revision,
            "seed": plan.seed,
            "settings": {
                "temperature": plan.settings.temperature,
                "top_k": plan.settings.top_k,
                "top_p": plan.settings.top_p,
                "num_samples": plan.paths,
                "window_stride": plan.window_stride,
            },
            "cutoff": series.times[-1].isoformat(),
            "horizon": plan.horizon,
            "calendar": future.calendar,
            "frequency": future.frequency,
            "context_length": len(series.bars),
            "estimated_timestamps": future.estimated,
            "warnings": notes,
        }


def _hooks(progress: Progress | None, cancel: Cancel | None, total: int) -> Hooks:
    if progress is None:
        return Hooks(None, cancel)
    done = 0

    def more(bars: int) -> None:
        nonlocal done
        done += bars
        progress(done, total)

    return Hooks(more, cancel)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return wanted


def _short_name(name: str | Path, member: Any) -> str:
    if member is not None:
        return str(member.model).rsplit("/", 1)[-1].lower()
    return Path(name).name if Path(name).is_dir() else str(name)
