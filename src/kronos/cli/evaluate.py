"""``kronos evaluate``: judge checkpoints and baselines on bars, and write a report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kronos.cli.common import console, emit_json, note, progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kronos.evaluation.protocol import Context, Forecaster
    from kronos.evaluation.windows import Series
    from kronos.model import KronosConfig

BARS_ENDINGS = (".parquet", ".feather", ".csv", ".csv.gz", ".csv.zip")
PUBLISHED_CUTOFF = "2024-07-01"  # the published weights were trained on bars up to June 2024


class PredictorForecaster:
    """The library's predictor in the words of the evaluation.

    Args:
        predictor: a loaded ``KronosPredictor``.
        name: as it shall appear in the tables.
        temperature, top_k, top_p: None leaves the checkpoint's own calibrated setting.
        training_cutoff: last date of its training; by default July 2024 for published weights, and what the
            checkpoint's config says for ours.
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
    ) -> None:
        self.predictor, self.name = predictor, name
        self.settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.training_cutoff = training_cutoff
        self.fingerprint = f"{_weights_digest(predictor)}|{sorted(self.settings.items())}"

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


def _weights_digest(predictor: Any) -> str:
    """Digest of every weight: stored scores of another training of the same name must not be taken for this one's."""
    import hashlib

    digest = hashlib.blake2b(digest_size=12)
    for module in (predictor.model, predictor.tokenizer):
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_forecaster(name: str, device: str | None = None, **settings: Any) -> PredictorForecaster:
    """A checkpoint by name, folder or hub id, ready to be judged."""
    from kronos.inference.predictor import KronosPredictor

    predictor = KronosPredictor.from_pretrained(name, device=device)
    cutoff = _stated_cutoff(predictor.model.config)
    short = Path(name).name if Path(name).is_dir() else name
    return PredictorForecaster(predictor, short, training_cutoff=cutoff, **settings)


def _stated_cutoff(config: KronosConfig) -> np.datetime64 | None:
    """The last date of a checkpoint's training: the latest that its config states, and of published weights theirs."""
    import numpy as np
    import pandas as pd

    stated = config.training_cutoff
    dates = [stated] if isinstance(stated, str) else list((stated or {}).values())
    if not config.consistent:
        dates.append(PUBLISHED_CUTOFF)
    times = [pd.Timestamp(date) for date in dates]
    return max((np.datetime64(t.tz_convert(None) if t.tz else t, "s") for t in times), default=None)


def find_bars(sources: list[str]) -> dict[str, str]:
    """Market name → source: files, all bars files of folders, and packaged samples."""
    from kronos.errors import DataError

    found: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.name.lower().endswith(BARS_ENDINGS))
            if not files:
                raise DataError(f"{source}: a folder without bars files ({', '.join(BARS_ENDINGS)})")
        else:
            files = [path]
        for file in files:
            name = source.removeprefix("sample:") if source.startswith("sample:") else file.name.split(".")[0]
            if name in found:
                raise DataError(f"two inputs are called {name!r}: {found[name]} and {file}; rename one")
            found[name] = source if source.startswith("sample:") else str(file)
    return found


def load_markets(sources: dict[str, str], on_defect: str) -> tuple[dict[str, dict[str, Series]], dict[str, str]]:
    """Series by symbol by market, and a digest per input."""
    import hashlib

    from kronos.bars import read_bars
    from kronos.cli.common import load_bars
    from kronos.evaluation.rolling import as_series

    markets, hashes = {}, {}
    for name, source in sources.items():
        if source.startswith("sample:"):
            markets[name] = as_series(load_bars(source))
            hashes[name] = source
        else:
            markets[name] = as_series(read_bars(source, on_defect=on_defect))  # type: ignore[arg-type]
            hashes[name] = "sha256:" + hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return markets, hashes


def make_forecasters(
    models: list[str], baselines: str, settings: str, sampling: dict[str, Any], device: str | None
) -> Callable[[str], Sequence[Forecaster]]:
    """The forecasters of each task; with the paper's settings, models sample differently from task to task."""
    from kronos.errors import ConfigError
    from kronos.evaluation.baselines import make_baselines
    from kronos.evaluation.run import YARDSTICK
    from kronos.evaluation.tasks import TASKS

    names = [name.strip() for name in baselines.split(",") if name.strip()]
    wanted = "all" if "all" in names else list(dict.fromkeys([*(n for n in names if n != "none"), YARDSTICK]))
    common = make_baselines(wanted)
    if settings == "own":
        loaded = [load_forecaster(model, device, **sampling) for model in models]
        return lambda task: [*loaded, *common]
    if any(value is not None for value in sampling.values()):
        raise ConfigError("--temperature, --top-k and --top-p belong to --settings own; the paper fixes them")
    loaded = [load_forecaster(model, device) for model in models]

    def of_task(task: str) -> Sequence[Forecaster]:
        preset = TASKS[task]
        ours = [
            PredictorForecaster(
                one.predictor,
                one.name,
                temperature=preset.temperature,
                top_k=0,
                top_p=preset.top_p,
                training_cutoff=one.training_cutoff,
            )
            for one in loaded
        ]
        return [*ours, *common]

    return of_task


def evaluate(
    bars: Annotated[
        list[str],
        typer.Argument(
            metavar="BARS...",
            help="Files of bars (each a market, of one or many symbols), folders of such, or samples.",
        ),
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="A name, a folder or a hub id; may repeat. Default: baselines alone.")
    ] = None,
    baselines: Annotated[str, typer.Option(help="Names, 'all' or 'none'; rw-resampled is always in.")] = "all",
    tasks: Annotated[str, typer.Option(help="Of price, return, volatility, generation.")] = "price,return,volatility",
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the report; an interrupted run goes on.")
    ] = Path("report"),
    windows: Annotated[int, typer.Option(min=1, help="Cutoffs per market, counted back from the end.")] = 20,
    step: Annotated[int | None, typer.Option(min=1, help="Bars between cutoffs. Default: the horizon.")] = None,
    context: Annotated[
        int | None, typer.Option(min=3, help="Bars seen. Default: the paper's for the bar size.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Bars ahead. Default: the paper's.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Sample paths. Default: 50, the paper's 10.")] = None,
    symbols: Annotated[int, typer.Option(min=1, help="At most so many symbols per market, drawn by the seed.")] = 30,
    settings: Annotated[
        Literal["own", "paper"], typer.Option(help="Sampling: each checkpoint's own, or the paper's for each task.")
    ] = "own",
    after: Annotated[str | None, typer.Option(metavar="DATE", help="Forecast only bars later than this.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same report.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for the baselines. Default: the cores.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Overrides the checkpoint's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. Default: the best one here.")] = None,
    on_defect: Annotated[
        Literal["strict", "drop"], typer.Option(help="What to do with defective bars: refuse, or drop and report.")
    ] = "strict",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Judge checkpoints on bars against honest baselines.

    Rolling cutoffs, sample paths scored by proper rules, intervals on every figure, and a verdict in words. Writes
    metrics.parquet, summary.json and report.html.
    """
    import os

    import numpy as np
    import pandas as pd

    from kronos.errors import ConfigError
    from kronos.evaluation.report import clean, write_report
    from kronos.evaluation.run import Plan
    from kronos.evaluation.run import evaluate as run
    from kronos.evaluation.tasks import check_tasks

    chosen = check_tasks([task.strip() for task in tasks.split(",") if task.strip()])
    models = list(dict.fromkeys(model or []))
    try:
        since = None if after is None else np.datetime64(pd.Timestamp(after))
    except ValueError as error:
        raise ConfigError(f"--after {after!r} is not a date; write it as 2024-07-01") from error
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    plan = Plan(
        tasks=tuple(chosen),
        context=context,
        horizon=horizon,
        n_windows=windows,
        step=step,
        max_symbols=symbols,
        num_samples=samples or (10 if settings == "paper" else 50),
        seed=seed,
        after=since,
        workers=workers or os.cpu_count() or 1,
    )
    sources = find_bars(bars)
    forecasters = make_forecasters(models, baselines, settings, sampling, device)
    markets, hashes = load_markets(sources, on_defect)
    with progress("Evaluating") as report:
        result = run(markets, forecasters, plan, folder=out / ".parts", data_hashes=hashes, progress=report)
    result.summary["command"] = "kronos " + " ".join(sys.argv[1:])
    written = write_report(result, out)
    for line in result.summary["notes"]:
        note(f"Warning: {line}")
    if as_json:
        emit_json(clean(result.summary))
        return
    _show(result.summary)
    console.print(f"Wrote {', '.join(str(path) for path in written)}", markup=False, soft_wrap=True)


def _show(summary: dict[str, Any]) -> None:
    """The verdicts and the price figures, as a table on stdout."""
    from rich.table import Table

    from kronos.cli.common import output

    for task, markets in summary["tasks"].items():
        if task != "price":
            continue
        for market, rows in markets.items():
            table = Table(title=f"{market}: CRPS over that of {summary['yardstick']}", title_justify="left")
            for title in ("forecaster", "ratio", "95 %", "covers 50 %", "80 %", "90 %"):
                table.add_column(title, justify="left" if title == "forecaster" else "right")
            for name, row in rows.items():
                ratio = row["crps_ratio"]
                cover = [_figure(row[f"coverage_{level}"]["value"]) for level in (50, 80, 90)]
                known = ratio["low"] == ratio["low"]  # NaN where there are too few clusters
                interval = f"{ratio['low']:.3f} – {ratio['high']:.3f}" if known else "too few dates"
                table.add_row(name, f"{ratio['value']:.4f}", interval, *cover)
            output.print(table)
    for line in summary["verdicts"]:
        output.print(f"{line['model']}, {line['task']}, {line['market']}: {line['verdict']}", markup=False)


def _figure(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"
