"""Names on the command line → forecasters that the evaluation can judge.

``kronos-nano``, a folder or a hub id is a checkpoint of ours or a published one; ``chronos:ID`` is a Chronos
checkpoint; ``statsmodels:NAME`` is a point model refitted on every context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kronos.evaluation.protocol import Context, Forecaster
    from kronos.model import KronosConfig

CHRONOS, STATSMODELS = "chronos:", "statsmodels:"


class PredictorForecaster:
    """The library's predictor in the words of the evaluation.

    Args:
        predictor: a loaded ``KronosPredictor``.
        name: as it shall appear in the tables.
        temperature, top_k, top_p: None leaves the checkpoint's own calibrated setting.
        training_cutoff: last date of its training; None where it is not known.
        training_cutoffs: the same by group of bars, where the checkpoint states it so.
        recipe: makes the same forecaster in another process; without one, all its windows are forecast in this one.
    """

    def __init__(
        self,
        predictor: Any,
        name: str,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        training_cutoff: np.datetime64 | None = None,
        training_cutoffs: Mapping[str, np.datetime64] | None = None,
        recipe: Callable[..., Forecaster] | None = None,
    ) -> None:
        self.predictor, self.name = predictor, name
        self.settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.training_cutoff, self.training_cutoffs = training_cutoff, dict(training_cutoffs or {})
        self.recipe = None if recipe is None else partial(recipe, **self.settings)
        self.fingerprint = f"{_digest(predictor)}|{sorted(self.settings.items())}"
        self._made_by = recipe

    def asked(
        self, temperature: float | None = None, top_k: int | None = None, top_p: float | None = None
    ) -> PredictorForecaster:
        """The same weights, sampled otherwise."""
        return PredictorForecaster(
            self.predictor,
            self.name,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            training_cutoff=self.training_cutoff,
            training_cutoffs=self.training_cutoffs,
            recipe=self._made_by,
        )

    def forecast(
        self, contexts: Sequence[Context], horizon: int, num_samples: int, seed: int
    ) -> list[npt.NDArray[Any]]:
        """Sample paths (num_samples, horizon, 6) for each context, at the very times of the bars to come."""
        import numpy as np

        asked = {"horizon": horizon, "num_samples": num_samples, "seed": seed, **self.settings}
        tables = {str(number): _table(context) for number, context in enumerate(contexts)}
        future = {str(number): context.local(context.future_timestamps) for number, context in enumerate(contexts)}
        found = self.predictor.forecast_many(tables, future=future, **asked)  # in the order of the contexts
        return [np.asarray(result.samples, dtype=float) for _, result in found]

    def nats(self, context: Context, truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(H,) negative log-likelihood of the tokens of the true bars, each given the true bars before it."""
        import numpy as np
        import pandas as pd

        horizon, most = len(truth), self.predictor.max_context - 1
        length = min(len(context.timestamps), most)
        if length + horizon > self.predictor.max_context:
            return np.full(horizon, np.nan)
        later = _table(context).iloc[:0].copy()
        later = pd.DataFrame(truth, columns=[c for c in later.columns if c != "timestamp"])
        later.insert(0, "timestamp", context.local(context.future_timestamps))
        bars = pd.concat([_table(context).iloc[-length:], later], ignore_index=True)
        return np.asarray(self.predictor.score(bars, context_length=length))[-horizon:]


def _table(context: Context) -> Any:
    import pandas as pd

    from kronos.bars import FEATURES

    table = pd.DataFrame(context.values, columns=list(FEATURES))
    table.insert(0, "timestamp", context.local(context.timestamps))
    return table


def _digest(predictor: Any) -> str:
    """Digest of all that a forecast depends on but the settings of the call: weights, calibration, longest context.

    Stored scores of another training of the same name, or of the time before a calibration, must not be taken over.
    """
    import hashlib
    import json

    digest = hashlib.blake2b(digest_size=12)
    for module in (predictor.model, predictor.tokenizer):
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    for config in (predictor.model.config, predictor.tokenizer.config):
        digest.update(json.dumps(config.to_dict(), sort_keys=True, default=str).encode())
    digest.update(str(predictor.max_context).encode())
    return digest.hexdigest()


def load_forecaster(
    name: str, device: str | None = None, *, calibrated: bool = True, away: str | None = None, **settings: Any
) -> PredictorForecaster:
    """A checkpoint by name, folder or hub id, ready to be judged.

    Args:
        away: what it computes on in other processes; None: the CPU, as long as it does so here.
        calibrated: False leaves the checkpoint's own calibration out, in order to fit another.
        settings: temperature, top_k, top_p; None is the checkpoint's own.
    """
    import dataclasses

    from kronos.inference.predictor import KronosPredictor

    predictor = KronosPredictor.from_pretrained(name, device=device)
    if not calibrated:
        predictor.model.config = dataclasses.replace(predictor.model.config, calibration=None)
    cutoffs = _stated_cutoffs(predictor.model.config)
    short = Path(name).name if Path(name).is_dir() else name
    if away is None and predictor.device.type == "cpu":  # an accelerator is not shared out to processes
        away = "cpu"
    recipe = None if away is None else partial(load_forecaster, name, away, calibrated=calibrated)
    latest = max(cutoffs.values(), default=None)
    return PredictorForecaster(
        predictor, short, training_cutoff=latest, training_cutoffs=cutoffs, recipe=recipe, **settings
    )


def _stated_cutoffs(config: KronosConfig) -> dict[str, np.datetime64]:
    """:func:`~kronos.model.checkpoint.stated_cutoffs` as times, in UTC."""
    import numpy as np
    import pandas as pd

    from kronos.model.checkpoint import stated_cutoffs

    times = {group: pd.Timestamp(date) for group, date in stated_cutoffs(vars(config)).items()}
    return {group: np.datetime64(time.tz_convert(None) if time.tz else time, "s") for group, time in times.items()}


def load_any(name: str, device: str | None = None, away: str | None = None, **settings: Any) -> Forecaster:
    """What a name after ``--model`` stands for; ``away`` and ``settings`` are for checkpoints, ours or published.

    Raises:
        ConfigError: an unknown point model. MissingExtraError: its package is not installed.
        CheckpointError: no such checkpoint.
    """
    if name.startswith(CHRONOS):
        from kronos.evaluation.chronos import chronos_forecaster

        return chronos_forecaster(name.removeprefix(CHRONOS), device or "cpu")
    if name.startswith(STATSMODELS):
        from kronos.evaluation.statsmodels import statsmodels_forecaster

        return statsmodels_forecaster(name.removeprefix(STATSMODELS))
    return load_forecaster(name, device, away=away, **settings)
