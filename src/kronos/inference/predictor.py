"""The predictor: bars in, forecasts out.

``predict`` and ``predict_batch`` keep the published call and its numbers (:mod:`kronos.inference.published`) and,
unless given a seed, draw from torch's global state as it does. ``forecast`` and what follows it are the interface to
use: they never touch that state, and the same seed, 0 by default, gives the same paths, alone or in a batch (see
:mod:`kronos.inference.sampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kronos.bars import sample_bars
from kronos.bars.adjust import refuse_factors
from kronos.bars.calendar import Stamp
from kronos.bars.transform import get_transform
from kronos.errors import ConfigError, KronosError
from kronos.inference import assemble, inside, published
from kronos.inference.engine import DecodeEngine
from kronos.inference.forecast import Forecast
from kronos.inference.pair import SavedPair, check_pair, load_pair, options_of, pair_fingerprint, usable_device
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import Cancel, Monitor, OnProgress
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import HubOptions, stated_cutoffs
from kronos.model.config import TIME_FEATURES
from kronos.protocol import FEATURES, Context, ForecastSpec
from kronos.spec import check_setting, spec_of


class KronosPredictor(SavedPair):
    """Forecasts with one model and its tokenizer.

    Args:
        model, tokenizer: a pair that was trained together. Their train flags have no influence on any result.
        device: where to compute; both are moved there. None: the GPU if there is one (CUDA, else Apple's), else
            the CPU.
        max_context: bars that the model reads at most.
        clip: bound of the normalised features.
        name, revision: what to call the model in a forecast's metadata.
        dtype, compiled: precision, and machine code in place of torch, as
            :class:`~kronos.inference.engine.DecodeEngine` takes them.

    Raises:
        ConfigError: model and tokenizer do not fit, or a setting is out of range.
        MissingExtraError: ``compiled=True`` or ``int8`` without numba.
    """

    price_cols: ClassVar[list[str]] = list(FEATURES[:4])  # the published names of columns, to be read
    vol_col, amt_vol = FEATURES[4:]
    time_cols: ClassVar[list[str]] = list(TIME_FEATURES)

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
        self.max_context = int(check_setting("context_length", max_context, name="max_context", high=10**6))
        if not clip > 0:
            raise ConfigError(f"clip is {clip!r}; it must be above 0")
        self.device = usable_device(device)
        self.clip = float(clip)
        self._precision: dict[str, Any] = {"dtype": dtype, "compiled": compiled}
        self._use(model, tokenizer, name, revision)

    def _use(self, model: Kronos, tokenizer: KronosTokenizer, name: str, revision: str | None) -> None:
        """Computes with this pair from now on."""
        check_pair(model, tokenizer)
        self.name, self.revision = name, revision
        self.loaded_by = "--model FOLDER"  # options of the command line; of a pair made here, once it is saved
        self.transform = get_transform(tokenizer.config.bar_transform, tokenizer.config.move_gain)
        self.engine = DecodeEngine(model.to(self.device), tokenizer.to(self.device), **self._precision)
        self._identity: tuple[Any, str] | None = None  # the fingerprint, and of what

    @property
    def model(self) -> Kronos:
        """The network; another one may be put in its place, and is then called ``custom`` in metadata."""
        return self.engine.model

    @model.setter
    def model(self, model: Kronos) -> None:
        self._use(model, self.tokenizer, "custom", None)

    @property
    def tokenizer(self) -> KronosTokenizer:
        """The tokenizer; another one that fits the network may be put in its place."""
        return self.engine.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: KronosTokenizer) -> None:
        self._use(self.model, tokenizer, "custom", None)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        revision: str | None = None,
        *,
        tokenizer: str | Path | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        dtype: str = "float32",
        compiled: bool | None = None,
    ) -> KronosPredictor:
        """A model with the tokenizer that belongs to it.

        Args:
            name: ``nano``, ``mini``, ``small``, ``base``, a folder with ``model/`` and ``tokenizer/``, or a hub id.
            revision: a commit, branch or tag of the model's hub repository.
            tokenizer: another tokenizer; needed for a hub id outside the family.
            cache_dir, token, local_files_only, force_download: as for both halves, see
                :class:`~kronos.model.finding.HubOptions`.
            dtype, compiled: as for the class.

        Raises:
            CheckpointError: not found, damaged, or unreachable.
            ConfigError: a hub id whose tokenizer is unknown.
        """
        hub = HubOptions(revision, cache_dir, token, local_files_only, force_download)
        model, belonging, longest, short = load_pair(name, tokenizer, hub)
        found = cls(model, belonging, device, longest, name=short, revision=revision, dtype=dtype, compiled=compiled)
        found.loaded_by = options_of(name, tokenizer)
        return found

    # -- the published interface ------------------------------------------------------------------------------

    def predict(
        self,
        df: Any,
        x_timestamp: Any,
        y_timestamp: Any,
        pred_len: int,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """The published call: the mean of the sampled paths, raw as the model gives it.

        Args:
            df: ``open, high, low, close``, optionally ``volume`` and ``amount``; the oldest bar first.
            x_timestamp, y_timestamp: times of the context's bars and of the ``pred_len`` bars to come.
            T, top_k, top_p: temperature (0 is greedy), then the k likeliest tokens, or without a k the likeliest that
                hold top_p. None switches a limit off, and so does a k of 0; a top_p of 0 is greedy.
            sample_count: paths to average.
            verbose: show progress on stderr.
            seed: the same seed gives the same numbers. None: drawn anew, from torch's global state as published; slower
                where there is compiled code, which draws by seed alone.

        Returns:
            One row a future bar, indexed by ``y_timestamp``: the six features, float32.

        Raises:
            DataError: columns or times that are missing, that differ in number, or that hold no finite numbers.
            ConfigError: a setting out of range.
        """
        sampling = pred_len, T, top_k, top_p, sample_count
        return self.predict_batch([df], [x_timestamp], [y_timestamp], *sampling, verbose, seed=seed)[0]

    def predict_batch(
        self,
        df_list: Sequence[Any],
        x_timestamp_list: Sequence[Any],
        y_timestamp_list: Sequence[Any],
        pred_len: int,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int | None = None,
    ) -> list[pd.DataFrame]:
        """``predict`` for several series, of equal length or not; arguments and numbers are those of ``predict``.

        Our checkpoints cut the bars that set the scale, published ones take all of them.
        """
        spec = published.spec_of_call(pred_len, T, top_k, top_p, sample_count, seed)
        series = df_list, x_timestamp_list, y_timestamp_list
        return published.predict_batch(self, *series, spec, follow_torch=seed is None, verbose=verbose)

    # -- forecasts --------------------------------------------------------------------------------------------

    def forecast(
        self,
        bars: Any,
        horizon: int = 24,
        num_samples: int = 100,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        calendar: str | None = None,
        future: Any = None,
        progress: OnProgress = None,
        cancel: Cancel = None,
        context_length: int | None = None,
        window_stride: int | None = None,
        stamp: Stamp | None = None,
        frequency: str | None = None,
        adjust: str | None = None,
        direction: Literal["model", "none"] | None = None,
        har_weight: float | None = None,
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
            cancel: called before every bar; True stops.
            context_length: last bars to read, at most ``max_context``; None reads as many as the model can.
            window_stride: bars to drop at once when the window is full; None: an eighth of ``max_context``.
            stamp: ``start`` or ``end``, the end of a bar that its timestamp names. None: inferred.
            frequency: bar size (``5m``, ``1h``, ``1d`` …). None: inferred.
            adjust: how breaks in the context are mended: ``splits``, ``volume``, ``cut``, ``DATE=FACTOR``, several with
                commas. None: not at all; they are told in ``metadata["warnings"]``.
            direction: ``model``: the model's own. ``none``: half of the paths are sampled, and each is followed by its
                mirror about the last close. None: as the checkpoint was calibrated, else ``model``.
            har_weight: share of a pooled HAR model in the log volatility of the paths, which are widened or narrowed
                about the last close. None: as the checkpoint was calibrated, else 0.

        Raises:
            DataError, CalendarError: bars or times that cannot be used.
            ConfigError: a setting out of range.
            CapacityError: more than this machine can hold.
            Cancelled: ``cancel`` said so.
        """
        spec = spec_of(locals())
        return self.answer(bars, spec, future=future, progress=progress, cancel=cancel)

    def answer(
        self, bars: Any, spec: ForecastSpec, *, future: Any = None, progress: OnProgress = None, cancel: Cancel = None
    ) -> Forecast:
        """What ``forecast`` does, from a spec; every other surface calls this."""
        settings = DecodeSettings.resolve(spec, self.model.config, self.max_context)
        monitor = Monitor(progress, cancel, settings.sampled(spec.num_samples) * spec.horizon)
        job = assemble.prepare(self, bars, spec, settings, future)
        return assemble.forecasts(self, [job], spec, settings, monitor)[0]

    def forecast_many(
        self,
        series: Any,
        horizon: int = 24,
        num_samples: int = 100,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        calendar: str | None = None,
        future: Mapping[Any, Any] | None = None,
        progress: OnProgress = None,
        cancel: Cancel = None,
        context_length: int | None = None,
        window_stride: int | None = None,
        stamp: Stamp | None = None,
        frequency: str | None = None,
        adjust: str | None = None,
        direction: Literal["model", "none"] | None = None,
        har_weight: float | None = None,
        on_error: Callable[[str, KronosError], None] | None = None,
    ) -> Iterator[tuple[str, Forecast]]:
        """Forecasts of many series, each equal to what ``forecast`` gives for it alone.

        Args:
            series: ``{symbol: bars}``, or one table of many symbols as ``read_bars`` takes it; lengths may differ.
            future: ``{symbol: timestamps}`` for all of them, instead of a calendar.
            on_error: told of a series whose bars or times cannot be used, which is then left out. None: it is raised.

        Yields:
            (symbol, Forecast) in input order. Series are computed in batches that fit in memory.
        """
        spec = spec_of(locals())
        return self.answer_many(series, spec, future=future, progress=progress, cancel=cancel, on_error=on_error)

    def answer_many(
        self,
        series: Any,
        spec: ForecastSpec,
        *,
        future: Mapping[Any, Any] | None = None,
        progress: OnProgress = None,
        cancel: Cancel = None,
        on_error: Callable[[str, KronosError], None] | None = None,
    ) -> Iterator[tuple[str, Forecast]]:
        """What ``forecast_many`` does, from a spec; every other surface calls this."""
        settings = DecodeSettings.resolve(spec, self.model.config, self.max_context)
        entries = assemble.entries_of(series, future)
        refuse_factors(spec.adjust, len(entries))
        monitor = Monitor(progress, cancel, len(entries) * settings.sampled(spec.num_samples) * spec.horizon)
        return assemble.forecasts_of_many(self, entries, spec, settings, monitor, on_error)

    @published.takes_arrays
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

        ``length`` bars a path, which may exceed ``max_context``; the other settings are those of ``forecast``, and the
        paths go where the model says.

        The published call of this name, ``generate(x, x_stamp, y_stamp, pred_len, T, top_k, top_p, sample_count,
        verbose)``, takes and gives arrays of features: :func:`kronos.inference.published.generate`.
        """
        bars = sample_bars("sp500") if bars is None else bars
        sampling = temperature, top_k, top_p, seed, calendar
        return self.forecast(bars, length, num_paths, *sampling, direction="model", har_weight=0.0)

    # -- looking inside ---------------------------------------------------------------------------------------

    def embed(self, bars: Any, context_length: int | None = None) -> npt.NDArray[np.float32]:
        """(T, C) hidden states after each of the last T bars of a series: all of them, or the last ``max_context``.

        Row −1 is the last bar's; of a longer series the earlier bars have no row. A state follows from its own and
        earlier bars alone, scale included: the first ``context_length`` of the T bars set the scale, and all of them
        but the last, whose states would know later bars by it, are NaN rows.

        Args:
            context_length: None: half of ``max_context``, or half of the bars where they are fewer.
        """
        return inside.embed(self, bars, context_length)

    def score(self, bars: Any, context_length: int | None = None) -> npt.NDArray[np.float64]:
        """(T,) negative log-likelihood of every bar's two tokens, in nats.

        Every bar is judged from earlier bars alone, scale included: blocks of bars follow a context that sets the
        scale. The first ``context_length`` bars, which nothing precedes, are NaN.

        Args:
            context_length: None: half of ``max_context``, or half of the bars where they are fewer.
        """
        return inside.score(self, bars, context_length)

    # -- as a Forecaster of kronos.protocol ---------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Digest of all that a forecast depends on but the spec, so that scores stored for others are not reused."""
        state = self.engine.version(), self.model.config, self.tokenizer.config, self.max_context
        if self._identity is None or self._identity[0] != state:
            self._identity = state, pair_fingerprint(self.model, self.tokenizer, self.max_context)
        return self._identity[1]

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
        return inside.nats(self, context, truth)
