"""Many series through the decode loop: batches that fit in memory, results in the order of the requests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kronos.errors import CapacityError, ConfigError, MissingExtraError
from kronos.inference.attention import cache_bytes
from kronos.inference.decode import DecodeBatch, continue_batch
from kronos.inference.fused import FusedModel, FusedTokenizer
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import ROWS_A_WORKER, Monitor, run_tasks
from kronos.model import Kronos, KronosTokenizer
from kronos.protocol import FEATURES

if TYPE_CHECKING:
    from kronos.inference.captured import CapturedModel
    from kronos.inference.compiled import CompiledModel

DTYPES = ("float32", "bfloat16", "int8")
PREFILLS = (None, "tf32", "bfloat16")
WIDEST_COMPILED = 50_000_000  # multiply-adds a row; wider networks are torch's, whose products use every core
WORTH_COMPILING = 50_000_000_000  # multiply-adds of sampled bars; fewer are done before compiled code is loaded
BATCH_BYTES = 64 << 20  # a batch grows to about this; larger ones leave the caches
PATHS_BYTES = 1 << 30  # beyond this the paths of one series are computed in parts
_BYTES_A_NUMBER = 24  # a float32 feature, its float64 in a transform and while it is repaired, the float32 sample
_MOST_SERIES = 512  # held together; more make no larger batches
_SIMILAR = 0.8  # series of one batch differ in length by at most this ratio, so that little padding is computed


@dataclass(frozen=True)
class DecodeRequest:
    """One series to be continued.

    The stamps are those of context and horizon; ``name`` is for errors about one of many series. Of a ``mirrored``
    request the caller adds a mirror to each path.
    """

    features: npt.NDArray[np.float32]  # (T, F)
    stamps: npt.NDArray[np.int64]  # (T + H, 5)
    uniforms: npt.NDArray[np.float32]  # (S, H, 2)
    name: str | None = None
    mirrored: bool = False

    @property
    def context(self) -> int:
        return int(self.features.shape[0])

    @property
    def horizon(self) -> int:
        return int(self.uniforms.shape[1])

    @property
    def paths(self) -> int:
        return int(self.uniforms.shape[0])

    @property
    def size(self) -> tuple[int, int, int]:
        return self.context, self.horizon, self.paths


class DecodeEngine:
    """A model and its tokenizer, ready to continue bars.

    Args:
        dtype: ``float32``. ``bfloat16`` and ``int8`` lose accuracy for speed. On the CPU bars are sampled with the
            network's weights, though not the tokenizer's, in sixteen bits (65,535 levels an output, closer than
            bfloat16's own) or eight, and with float32 arithmetic, by compiled steps. bfloat16 without these
            (on a GPU, or ``compiled=False``) is torch's, arithmetic and all.
        compiled: False: sample by torch, operation by operation. On the CPU, True: by machine code that numba makes
            (once a machine, some twenty seconds) and loads (about a second a process); None: where numba is installed
            and the work is worth it, by the request alone, so that the same request always goes the same way. On a
            CUDA device, True and None: by graphs of whole bars (:mod:`kronos.inference.captured`).
        prefill: precision in which those graphs' contexts are read, ``tf32`` or ``bfloat16``. None: as ``dtype`` says.

    Raises:
        ConfigError: an unknown dtype, or compiled code for what it cannot do.
        MissingExtraError: compiled code without numba.
    """

    def __init__(
        self,
        model: Kronos,
        tokenizer: KronosTokenizer,
        *,
        dtype: str = "float32",
        compiled: bool | None = None,
        prefill: str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"dtype is {dtype!r}; choose {', '.join(DTYPES)}")
        self.model, self.tokenizer = model, tokenizer
        self.weights_in = "int16" if dtype == "bfloat16" else dtype  # of compiled steps
        device, has_numba = self.device.type, find_spec("numba") is not None
        if dtype == "int8" and (device != "cpu" or compiled is False):
            raise ConfigError("dtype 'int8' needs compiled steps on the CPU: no other device, no compiled=False")
        if compiled and device not in ("cpu", "cuda"):
            raise ConfigError(f"compiled steps run on the CPU and on CUDA devices, not on {self.device}")
        self.captured = device == "cuda" and compiled is not False
        if prefill not in PREFILLS or (prefill and not self.captured):
            raise ConfigError(
                f"prefill is {prefill!r}; it may be tf32 or bfloat16, for captured steps on a CUDA device"
            )
        self.prefill = prefill
        wanted = device == "cpu" and (compiled or dtype == "int8")
        if wanted and not has_numba:
            raise MissingExtraError("numba", "fast", "Sampling by compiled code")
        able = device == "cpu" and has_numba and compiled is not False
        self.compiled = True if able and (wanted or dtype == "bfloat16") else None if able else False
        self.dtype = torch.bfloat16 if dtype == "bfloat16" and not self.compiled else torch.float32  # of the arithmetic
        self._fused: tuple[object, FusedModel, FusedTokenizer] | None = None
        self._compiled: CompiledModel | None = None
        self._captured: CapturedModel | None = None

    @property
    def device(self) -> torch.device:
        return self.model.norm.weight.device

    def version(self) -> tuple[Any, ...]:
        """Another value once any weight has changed."""
        state = [*self.model.parameters(), *self.tokenizer.parameters()]
        return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in state)

    def weights(self) -> tuple[FusedModel, FusedTokenizer]:
        """The fused weights, made anew when the model's own have changed since."""
        version = self.version()
        if self._fused is None or self._fused[0] != version:
            with torch.no_grad():
                net, tok = FusedModel(self.model, self.dtype), FusedTokenizer(self.tokenizer, self.dtype)
            self._fused = version, net, tok
        return self._fused[1], self._fused[2]

    def compiles(self, requests: Sequence[DecodeRequest]) -> bool:
        """Whether these requests are sampled by compiled code."""
        if self.compiled is not None:
            return self.compiled
        bars = sum(request.paths * request.horizon for request in requests)
        weights = self.weights()[0].weights_per_step
        return weights <= WIDEST_COMPILED and bars * weights >= WORTH_COMPILING

    def compiled_model(self, requests: Sequence[DecodeRequest]) -> CompiledModel | None:
        """The weights of compiled code, if these requests are sampled by it."""
        if not self.compiles(requests):
            return None
        net, _ = self.weights()
        if self._compiled is None or self._compiled.net is not net:
            from kronos.inference.compiled import CompiledModel  # loads numba

            self._compiled = CompiledModel(net, self.weights_in)
        return self._compiled

    def captured_model(self) -> CapturedModel | None:
        """The network with its CUDA graphs, where bars are sampled by these."""
        if not self.captured:
            return None
        net, _ = self.weights()
        if self._captured is None or self._captured.net is not net:
            from kronos.inference.captured import CapturedModel

            self._captured = None  # its memory goes first
            with torch.no_grad():
                reader = FusedModel(self.model, torch.bfloat16) if self.prefill == "bfloat16" else None
            self._captured = CapturedModel(net, reader, tf32=self.prefill == "tf32")
        return self._captured

    def run(
        self, requests: Sequence[DecodeRequest], settings: DecodeSettings, monitor: Monitor | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """Continues every request: (S, H, F) features each, in the order of the requests.

        Settings that follow torch's state are computed by torch alone, one task after the other.

        Raises:
            CapacityError: a single series does not fit into the machine's memory.
            Cancelled: the caller asked to stop.
        """
        monitor = monitor or Monitor()
        fused, in_order = self.weights(), settings.follows_torch
        compiled, captured = (None, None) if in_order else (self.compiled_model(requests), self.captured_model())
        tasks = (self.tasks_in_order if in_order else self.tasks)(requests, settings.max_context)
        workers = min(len(tasks), torch.get_num_threads()) if self.device.type == "cpu" and not in_order else 1

        def work(task: tuple[list[int], slice]) -> npt.NDArray[np.float32]:
            members, paths = task
            batch = make_batch([requests[i] for i in members], paths, self.device)
            with nullcontext() if captured is None else captured.lock:
                how: dict[str, Any] = {"compiled": compiled, "captured": captured, "monitor": monitor}
                result = continue_batch(*fused, batch, settings, **how)
            features: npt.NDArray[np.float32] = result.features.cpu().numpy()
            return features

        parts: list[list[Any]] = [[] for _ in requests]
        for (members, _), features in zip(tasks, run_tasks(work, tasks, workers, monitor.failed), strict=True):
            for row, i in enumerate(members):
                parts[i].append(features[row])
        return [part[0] if len(part) == 1 else np.concatenate(part) for part in parts]

    # -- what is computed together ----------------------------------------------------------------------------

    def tasks(self, requests: Sequence[DecodeRequest], max_context: int) -> list[tuple[list[int], slice]]:
        """(requests, paths) computed at once: batches, divided by paths where one is too large or a worker idle."""
        tasks, batches = [], list(self.batches(requests, max_context))
        for members in batches:
            first = requests[members[0]]
            at_once = self._paths_at_once(first, max_context, max(PATHS_BYTES, self._batch_bytes()))
            if self.device.type == "cpu":
                rows = len(members) * first.paths
                share = max(1, min(torch.get_num_threads() // len(batches), rows // ROWS_A_WORKER))
                each = -(-first.paths // share)
                if 2 * first.context <= each * first.horizon:  # every worker reads the context for itself
                    at_once = min(at_once, each)
            tasks += [(members, slice(p, p + at_once)) for p in range(0, first.paths, at_once)]
        return tasks

    def tasks_in_order(self, requests: Sequence[DecodeRequest], max_context: int) -> list[tuple[list[int], slice]]:
        """The same where the order of the draws counts: neighbours that are alike in size at once, all their paths.

        Only what would not fit into memory is divided; it is drawn from the same distributions, by other numbers than
        if it had fitted.
        """
        tasks, room = [], self._memory()
        for (_, _, paths), alike in groupby(range(len(requests)), lambda i: requests[i].size):
            members = list(alike)
            first = requests[members[0]]
            at_once = self._paths_at_once(first, max_context, room)
            most = max(1, room // self.bytes_for(first, max_context, paths))
            for i in range(0, len(members), most):
                tasks += [(members[i : i + most], slice(p, p + at_once)) for p in range(0, paths, at_once)]
        return tasks

    def batches(self, requests: Sequence[DecodeRequest], max_context: int) -> Iterator[list[int]]:
        """Which requests are computed together: alike in size, few enough for the batch's memory.

        Series of unequal length share a batch only where no window slides, since they would slide at different bars.
        """
        batch: list[int] = []
        for i in sorted(range(len(requests)), key=lambda i: requests[i].context):
            request = requests[i]
            if batch:
                shortest = requests[batch[0]]
                room = self._batch_bytes() // self.bytes_for(request, max_context, request.paths)
                fits = request.context + request.horizon <= max_context
                alike = request.context == shortest.context or (fits and shortest.context >= _SIMILAR * request.context)
                same = (request.horizon, request.paths) == (shortest.horizon, shortest.paths)
                if not (alike and same and len(batch) < room):
                    yield batch
                    batch = []
            batch.append(i)
        if batch:
            yield batch

    def bytes_for(self, request: DecodeRequest, max_context: int, paths: int) -> int:
        """Memory that one series takes while it is computed, roughly: caches and the largest intermediate."""
        c, t, size = self.model.config, self.tokenizer.config, self.dtype.itemsize
        prefix, suffix = min(request.context, max_context), min(request.horizon, max_context)
        caches: int = cache_bytes(c.n_layers + 1, c.d_model, paths, prefix, suffix, size)
        caches += cache_bytes(t.n_dec_layers - 1, t.d_model, 0, prefix, 0, size)
        per_bar = 4 * max(8 * c.d_model + 3 * c.ff_dim, 8 * t.d_model + 3 * t.ff_dim)
        per_path = 16 * (2**c.s1_bits + 2**c.s2_bits) + suffix * 8 * (t.d_in + 4)
        return int(caches + request.context * per_bar + paths * per_path)

    def _paths_at_once(self, request: DecodeRequest, max_context: int, room: int) -> int:
        one = self.bytes_for(request, max_context, 1)
        paths = request.paths * (2 if request.mirrored else 1)
        limit, outcome = _memory_limit(), outcome_bytes(paths, request.horizon)
        if one + outcome > limit:
            series = "" if request.name is None else f"series '{request.name}': "
            raise CapacityError(
                f"{series}a forecast of {paths} paths x {request.horizon} bars from {request.context} bars "
                f"needs about {(one + outcome) / 1e9:.1f} GB, more than half of this machine's memory; "
                "ask for fewer paths or bars"
            )
        per_path = max(1, self.bytes_for(request, max_context, 2) - one)
        return int(max(1, (room - one) // per_path + 1))

    def _batch_bytes(self) -> int:
        """What a batch may grow to: on the CPU caches decide, on a GPU its memory, of which a batch takes an eighth."""
        if self.device.type != "cuda":
            return BATCH_BYTES
        return max(BATCH_BYTES, torch.cuda.get_device_properties(self.device).total_memory // 8)

    def _memory(self) -> int:
        """Bytes that all may take at once: half of the memory that computes."""
        if self.device.type != "cuda":
            return _memory_limit()
        return int(torch.cuda.get_device_properties(self.device).total_memory // 2)


def make_batch(requests: Sequence[DecodeRequest], paths: slice, device: torch.device) -> DecodeBatch:
    """Requests of one horizon as tensors, padded on the right."""

    def padded(arrays: Iterable[npt.NDArray[Any]]) -> Tensor:
        return pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True).to(device)

    return DecodeBatch(
        features=padded(request.features for request in requests),
        lengths=[request.context for request in requests],
        stamps=padded(request.stamps[: request.context] for request in requests),
        future=padded(request.stamps[request.context :] for request in requests),
        uniforms=padded(request.uniforms[paths] for request in requests),
    )


def outcome_bytes(paths: int, horizon: int) -> int:
    """What the paths of one series take at most, from the engine's features to the forecast's samples."""
    return paths * horizon * len(FEATURES) * _BYTES_A_NUMBER


def series_at_once(paths: int, horizon: int) -> int:
    """How many series to hold together, so that any number of them needs bounded memory."""
    room = _memory_limit() // 4 // outcome_bytes(paths, horizon)
    return max(1, min(room, _MOST_SERIES))


def _memory_limit() -> int:
    """Bytes that a request may take: half of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 8 << 30
