"""The predictor: bars in, forecasts out.

``predict`` and ``predict_batch`` keep the published call and its numbers. ``forecast`` and what follows it are the
interface to use: real future timestamps, every sample path, valid bars, settings calibrated for the checkpoint.

The same seed gives the same paths in all of them, alone or in a batch (see :mod:`kronos.inference.rng`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kronos.bars.calendar import Stamp
from kronos.bars.transform import get_transform
from kronos.errors import ConfigError, KronosError
from kronos.inference.assemble import assemble_forecast
from kronos.inference.batches import Engine, series_at_once
from kronos.inference.engine import Hooks
from kronos.inference.forecast import Forecast
from kronos.inference.likelihood import hidden_states, score_series
from kronos.inference.pair import check_pair, load_pair, usable_device
from kronos.inference.plan import (
    Plan,
    calibrated_settings,
    still_notes,
    whole_number,
)
from kronos.inference.published import PublishedCalls
from kronos.inference.series import (
    UNLIMITED,
    Future,
    Series,
    chunks,
    future_of,
    futures_of,
    make_series,
    naming,
    stamp_features,
    tables_of,
)
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import stated_cutoffs
from kronos.protocol import FEATURES, Context, ForecastSpec


class KronosPredictor(PublishedCalls):
    """Forecasts with one model and its tokenizer.

    Args:
        model, tokenizer: a pair that was trained together. Their train flags have no influence on any result.
        device: where to compute; both are moved there. None: the GPU if there is one, else the CPU.
        max_context: bars that the model reads at most.
        clip: bound of the normalised features.
        name, revision: what to call the model in a forecast's metadata.
        dtype, compiled: precision, and machine code in place of torch, as :class:`~kronos.inference.batches.Engine`
            takes them.

    Raises:
        ConfigError: model and tokenizer do not fit, or a setting is out of range.
        MissingExtraError: ``compiled=True`` or ``int8`` without numba.
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
        compiled: bool | None = None,
    ) -> None:
        check_pair(model, tokenizer)
        self.max_context = whole_number("max_context", max_context, 2, 1_000_000)
        if not clip > 0:
            raise ConfigError(f"clip is {clip!r}; it must be above 0")
        self.device = usable_device(device)
        self.model, self.tokenizer = model.to(self.device), tokenizer.to(self.device)
        self.clip = float(clip)
        self.name, self.revision = name, revision
        self.transform = get_transform(tokenizer.config.bar_transform, tokenizer.config.move_gain)
        self.engine = Engine(self.model, self.tokenizer, dtype=dtype, compiled=compiled)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        revision: str | None = None,
        *,
        tokenizer: str | Path | None = None,
        dtype: str = "float32",
        compiled: bool | None = None,
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
        pair = load_pair(name, revision, tokenizer)
        return cls(
            pair.model,
            pair.tokenizer,
            device,
            pair.max_context,
            name=pair.name,
            revision=revision,
            dtype=dtype,
            compiled=compiled,
        )

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
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        context_length: int | None = None,
        window_stride: int | None = None,
        stamp: Stamp | None = None,
        frequency: str | None = None,
    ) -> Forecast:
        """Sample paths of the next bars of one series; every bar of every path is valid.

        Args:
            bars: a bars table, or any table that ``read_bars`` understands.
            horizon: bars ahead.
            num_samples: sample paths.
            temperature, top_k, top_p: how tokens are drawn. None: the checkpoint's own calibrated setting.
            seed: the same seed gives the same paths; more paths keep the earlier ones, a longer horizon the earlier
                bars (but for ``window_stride`` 1, where later tokens reach back into the decoding of earlier bars).
            calendar: MIC code, ``24/7`` …, for the future timestamps. None: inferred from the bars.
            future: the timestamps themselves, one a bar, instead of a calendar.
            progress: called with (bars sampled, bars in all) after every bar.
            cancel: asked before every bar; True stops.
            context_length: last bars to read, at most ``max_context``; None reads as many as the model can.
            window_stride: bars to drop at once when the window is full; None: an eighth of ``max_context``.
            stamp: ``start`` or ``end``, the end of a bar that its timestamp names. None: inferred.
            frequency: bar size (``5m``, ``1h``, ``1d`` …). None: inferred.

        Raises:
            DataError, CalendarError: bars or times that cannot be used.
            ConfigError: a setting out of range.
            CapacityError: more than this machine can hold.
            Cancelled: ``cancel`` said so.
        """
        spec = ForecastSpec(
            horizon=horizon,
            num_samples=num_samples,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            calendar=calendar,
            context_length=context_length,
            window_stride=window_stride,
            stamp=stamp,
            frequency=frequency,
        )
        return self.answer(bars, spec, future=future, progress=progress, cancel=cancel)

    def answer(
        self,
        bars: Any,
        spec: ForecastSpec,
        *,
        future: Any = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Forecast:
        """What ``forecast`` does, asked with a spec; every other surface asks this way."""
        plan = self._plan(spec)
        series = self._series(bars, plan)
        hooks = Hooks.counting(progress, cancel, plan.paths * plan.horizon)
        times = future_of(series, plan.horizon, spec.calendar, future, spec.stamp, spec.frequency)
        return self._forecast([(series, times)], plan, hooks)[0]

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
        future: Mapping[Any, Any] | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        context_length: int | None = None,
        window_stride: int | None = None,
        stamp: Stamp | None = None,
        frequency: str | None = None,
        on_error: Callable[[str, KronosError], None] | None = None,
    ) -> Iterator[tuple[str, Forecast]]:
        """Forecasts of many series, each equal to what ``forecast`` gives for it alone.

        Args:
            series: ``{symbol: bars}``, or one long table with a ``symbol`` column; lengths may differ.
            future: ``{symbol: timestamps}`` for all of them, instead of a calendar.
            on_error: told of a series whose bars or times cannot be used, which is then left out. None: it is raised.

        Yields:
            (symbol, Forecast) in input order. Series are computed in batches that fit in memory.
        """
        spec = ForecastSpec(
            horizon=horizon,
            num_samples=num_samples,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            calendar=calendar,
            context_length=context_length,
            window_stride=window_stride,
            stamp=stamp,
            frequency=frequency,
        )
        return self.answer_many(series, spec, future=future, progress=progress, cancel=cancel, on_error=on_error)

    def answer_many(
        self,
        series: Any,
        spec: ForecastSpec,
        *,
        future: Mapping[Any, Any] | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        on_error: Callable[[str, KronosError], None] | None = None,
    ) -> Iterator[tuple[str, Forecast]]:
        """What ``forecast_many`` does, asked with a spec; every other surface asks this way."""
        plan = self._plan(spec)
        tables = tables_of(series)
        times = futures_of(tables, future)
        hooks = Hooks.counting(progress, cancel, len(tables) * plan.paths * plan.horizon)

        def future_times(name: str, one: Series) -> Future:
            return future_of(one, plan.horizon, spec.calendar, times.get(name), spec.stamp, spec.frequency)

        return self._forecast_chunks(tables, plan, future_times, hooks, on_error)

    def _plan(self, spec: ForecastSpec) -> Plan:
        settings = calibrated_settings(self.model.config, spec.temperature, spec.top_k, spec.top_p)
        return Plan.build(
            self.max_context,
            settings,
            spec.horizon,
            spec.num_samples,
            spec.seed,
            spec.context_length,
            spec.window_stride,
        )

    def _forecast_chunks(
        self,
        tables: list[tuple[str, Any]],
        plan: Plan,
        future_times: Callable[[str, Series], Future],
        hooks: Hooks,
        on_error: Callable[[str, KronosError], None] | None,
    ) -> Iterator[tuple[str, Forecast]]:
        for part in chunks(tables, series_at_once(plan.paths, plan.horizon)):
            names, jobs = [], []
            for name, table in part:
                try:
                    with naming(name):
                        one = self._series(table, plan, name)
                        jobs.append((one, future_times(name, one)))
                except KronosError as error:
                    if on_error is None:
                        raise
                    on_error(name, error)
                else:
                    names.append(name)
            yield from zip(names, self._forecast(jobs, plan, hooks, many=True) if jobs else [], strict=True)

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

    def embed(self, bars: Any, context_length: int | None = None) -> npt.NDArray[np.float32]:
        """(T, C) hidden states after each of the last bars of a series, at most ``max_context`` of them.

        A state follows from its own and earlier bars alone, scale included: the first ``context_length`` of the T
        bars set the scale, and all of them but the last, whose states would know later bars by it, are NaN rows.

        Args:
            context_length: None: half of ``max_context``, or half of the bars where they are fewer.
        """
        lost = self.transform.lost
        series = make_series(bars, self.max_context, 1 + lost)
        context_length = self._leading_context(context_length, len(series.bars), len(series.bars))
        state = self.transform.fit(series.values[:context_length], clip=self.clip)
        stamps = stamp_features(pd.DatetimeIndex(series.bars["timestamp"]))[lost:]
        known = hidden_states(self.model, self.tokenizer, self.transform.encode(series.values, state), stamps)
        out = np.full((len(series.bars), known.shape[1]), np.nan, dtype=np.float32)
        out[context_length - 1 :] = known[context_length - 1 - lost :]
        return out

    def score(self, bars: Any, context_length: int | None = None) -> npt.NDArray[np.float64]:
        """(T,) negative log-likelihood of every bar's two tokens, in nats.

        Every bar is judged from earlier bars alone, scale included: blocks of bars follow a context that sets the
        scale. The first ``context_length`` bars, which nothing precedes, are NaN.

        Args:
            context_length: None: half of ``max_context``, or half of the bars where they are fewer.
        """
        least = 1 + self.transform.lost
        series = make_series(bars, UNLIMITED, 2 * least)
        context_length = self._leading_context(context_length, len(series.bars), self.max_context - 1)
        return score_series(
            self.model,
            self.tokenizer,
            self.transform,
            series.values,
            stamp_features(series.times),
            context_length=context_length,
            max_context=self.max_context,
            clip=self.clip,
        )

    # -- as a Forecaster of kronos.protocol ---------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Digest of all that a forecast depends on but the spec: weights, configs with calibration, longest context.

        Stored scores of another training of the same name, or of the time before a calibration, must not be reused.
        """
        digest = hashlib.blake2b(digest_size=12)
        for module in (self.model, self.tokenizer):
            for key, tensor in sorted(module.state_dict().items()):
                digest.update(key.encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        for config in (self.model.config, self.tokenizer.config):
            digest.update(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
        digest.update(str(self.max_context).encode())
        return digest.hexdigest()

    @property
    def training_cutoffs(self) -> dict[str, np.datetime64]:
        """Last dates of the training by group of bars, in UTC, as the checkpoint states them."""
        times = {group: pd.Timestamp(date) for group, date in stated_cutoffs(vars(self.model.config)).items()}
        return {group: np.datetime64(time.tz_convert(None) if time.tz else time, "s") for group, time in times.items()}

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[npt.NDArray[Any]]:
        """Sample paths (num_samples, horizon, 6) for each context, at the very times of the bars to come."""
        tables = {str(number): context.to_table() for number, context in enumerate(contexts)}
        future = {str(number): context.local(context.future_timestamps) for number, context in enumerate(contexts)}
        found = self.answer_many(tables, spec, future=future)  # in the order of the contexts
        return [np.asarray(result.samples, dtype=float) for _, result in found]

    def nats(self, context: Context, truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(H,) negative log-likelihood of the tokens of the true bars, each given the true bars before it."""
        horizon, most = len(truth), self.max_context - 1
        length = min(len(context.timestamps), most)
        if length + horizon > self.max_context:
            return np.full(horizon, np.nan)
        later = pd.DataFrame(truth, columns=list(FEATURES))
        later.insert(0, "timestamp", context.local(context.future_timestamps))
        bars = pd.concat([context.to_table().iloc[-length:], later], ignore_index=True)
        return np.asarray(self.score(bars, context_length=length))[-horizon:]

    # -- inside -----------------------------------------------------------------------------------------------

    def _leading_context(self, context_length: int | None, bars: int, most: int) -> int:
        """The length of the context that sets the scale of what follows it; by default half of all."""
        least = 1 + self.transform.lost
        if context_length is None:
            context_length = max(least, min(self.max_context // 2, bars // 2))
        return whole_number("context_length", context_length, least, most)

    def _series(self, bars: Any, plan: Plan, name: str | None = None) -> Series:
        lost = self.transform.lost
        return make_series(bars, plan.context_length + lost, 2 + lost, name)

    def _forecast(
        self, jobs: list[tuple[Series, Future]], plan: Plan, hooks: Hooks, *, many: bool = False
    ) -> list[Forecast]:
        """``many``: errors name the series they are about."""
        prepared, described = [], []
        for series, future in jobs:
            times = pd.DatetimeIndex(series.bars["timestamp"])
            stamps = np.concatenate([stamp_features(times), stamp_features(future.times)])
            request, state = self._request(series.values, stamps, plan.horizon, plan.seed, plan.paths)
            prepared.append((dataclasses.replace(request, name=series.symbol if many else None), state))
            notes = still_notes(self.transform, series.values, state)
            described.append(dataclasses.replace(series, warnings=(*series.warnings, *notes)))
        features = self.engine.run(
            [request for request, _ in prepared],
            plan.settings,
            max_context=self.max_context,
            window_stride=plan.window_stride,
            hooks=hooks,
        )
        return [
            assemble_forecast(
                self.transform.decode(sampled, state),
                series,
                future,
                plan,
                self.model.config,
                always_valid=self.transform.takes_moves,
                model=self.name,
                revision=self.revision,
            )
            for series, (_, future), (_, state), sampled in zip(described, jobs, prepared, features, strict=True)
        ]
