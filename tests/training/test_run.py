"""Whole runs, tiny: they learn, stop early, resume bit for bit after a kill, and leave whole checkpoints behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import MODEL, TOKENIZER, train_model, train_tokenizer

import kronos
from kronos.errors import CapacityError, CheckpointError, ConfigError
from kronos.files import LEFTOVERS
from kronos.model import Kronos, KronosConfig, KronosTokenizer, TokenizerConfig
from kronos.model.checkpoint import change_config, read_config, state_cutoffs, stated_cutoffs
from kronos.training.config import RunConfig
from kronos.training.data import cutoffs_of, open_arrays
from kronos.training.log import read_log
from kronos.training.run import ForecastScores, build_optimizer, train
from kronos.training.state import PREVIOUS_FILE, STATE_FILE, DamagedStateWarning, load_state, save_state

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"
DROPOUT = {"ffn_dropout_p": 0.2, "resid_dropout_p": 0.2}


def losses(folder: Path, name: str = "loss") -> list[float]:
    return [record[name] for record in read_log(folder) if name in record]


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_both_stages_learn_a_learnable_series(make_config) -> None:
    """A series of two alternating bars: the network must end far below the entropy of what it has seen."""
    config = make_config(
        optim={"steps": 160, "batch_size": 8, "lr": 1e-2},
        model={"d_model": 32, "n_heads": 4},
        validate_every=40,
        save_every=1000,
    )
    first = train_tokenizer(config)
    parts = losses(first.folder, "val_mse_full")
    assert parts[-1] < 0.5 * parts[0]
    second = train_model(config)
    validation = losses(second.folder, "val_loss")
    assert validation[-1] < 0.6 * validation[0]
    assert second.best_validation == min(validation)
    assert losses(second.folder)[-1] < 0.7 * losses(second.folder)[0]


def test_checkpoints_have_the_published_layout(make_config) -> None:
    config = make_config()
    train_tokenizer(config)
    train_model(config)
    for kind in ("tokenizer", "model"):
        published = read_config(REFERENCE / kind / "config.json")
        ours = read_config(config.out / kind / "config.json")
        assert published.keys() <= ours.keys()
        shapes = {
            # layers differ in number, so names are compared without it
            _without_number(key): (value.dtype, value.ndim)
            for key, value in load_file(REFERENCE / kind / "model.safetensors").items()
        }
        assert shapes == {
            _without_number(key): (value.dtype, value.ndim)
            for key, value in load_file(config.out / kind / "model.safetensors").items()
        }
    assert isinstance(Kronos.from_pretrained(config.out), Kronos)
    assert KronosTokenizer.from_pretrained(config.out).config.bar_transform == "returns"


def _without_number(key: str) -> str:
    return ".".join("0" if part.isdigit() else part for part in key.split("."))


def test_a_model_states_up_to_when_it_has_seen_bars(make_config) -> None:
    config = make_config()
    train_tokenizer(config)
    folder = train_model(config).folder
    stated = stated_cutoffs(read_config(folder / "config.json"))
    ends = cutoffs_of(config.data, open_arrays(config))
    assert {group: np.datetime64(date, "s") for group, date in stated.items() if group in ends} == {
        group: np.datetime64(end, "s") for group, end in ends.items()
    }
    change_config(folder, training_cutoff={**stated, next(iter(ends)): "2100-01-01"})
    state_cutoffs(folder, dict.fromkeys(ends, "2000-01-01"))  # an earlier date takes nothing back
    assert stated_cutoffs(read_config(folder / "config.json"))[next(iter(ends))] == "2100-01-01"


def test_a_resumed_run_is_the_run_that_never_stopped(make_config) -> None:
    """Dropout, two loaders, a stop between saves: weights, best weights and log come out the same."""
    common: dict[str, Any] = {"optim": {"steps": 12}, "save_every": 4, "validate_every": 3, "workers": 2}
    train_tokenizer(make_config(**common))
    tokenizer = str(make_config().out / "tokenizer")
    whole = make_config(**common, out=make_config().out.parent / "whole", tokenizer=tokenizer, model=DROPOUT)
    train_model(whole)
    parts = whole.model_copy(update={"out": whole.out.parent / "parts"})
    stopped = _StopAt(9)  # at the validation, before the save
    with pytest.raises(KeyboardInterrupt):
        train_model(parts, progress=stopped)
    assert _step(parts.out / "model") == 8
    train_model(parts, resume=True)
    assert same_weights(whole.out / "model", parts.out / "model")
    states = [load_file(run.out / "model" / STATE_FILE) for run in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    steps = [record["step"] for record in read_log(parts.out / "model") if "val_loss" in record]
    assert steps == [3, 6, 9, 12]
    assert losses(parts.out / "model") == losses(whole.out / "model")


class _StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, record: dict[str, Any]) -> None:
        if record["step"] >= self.step:
            raise KeyboardInterrupt


def _step(folder: Path, name: str = STATE_FILE) -> int:
    from safetensors import safe_open

    with safe_open(folder / name, framework="pt") as file:
        return int(file.metadata()["step"])


RUN = "import sys; from kronos.training.config import RunConfig; from kronos.training.run import train; \
c = RunConfig.from_yaml(sys.argv[1]); train('tokenizer', c, resume=True)"


def start(config: RunConfig) -> subprocess.Popen[bytes]:
    path = config.out.with_suffix(".yaml")
    path.write_text(config.model_dump_json())
    return subprocess.Popen([sys.executable, "-c", RUN, str(path)], env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_killed_at_any_moment(make_config, tmp_path: Path) -> None:
    """kill -9, four times, each at a moment drawn at random after some more steps; then to the end.

    A state is saved at every step, so that many kills fall into the middle of a save.
    """
    common: dict[str, Any] = {"optim": {"steps": 60}, "save_every": 1, "validate_every": 40}
    common["tokenizer"] = DROPOUT
    whole = make_config(**common, out=tmp_path / "whole")
    train_tokenizer(whole)
    killed = make_config(**common, out=tmp_path / "killed")
    state = killed.out / "tokenizer" / STATE_FILE
    moments = np.random.default_rng(7)
    for most in (12, 24, 36, 48):
        process = start(killed)
        behind, delay = int(moments.integers(most - 11, most + 1)), float(moments.uniform(0, 0.03))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and _step_or_zero(state.parent) < behind:
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert behind <= _step_or_zero(state.parent, PREVIOUS_FILE) + 1 < 60
    assert start(killed).wait() == 0
    assert same_weights(whole.out / "tokenizer", killed.out / "tokenizer")
    ours, theirs = load_file(state), load_file(whole.out / "tokenizer" / STATE_FILE)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_a_damaged_last_state_costs_one_save_and_nothing_else(make_config, tmp_path: Path) -> None:
    """Killed, and its last state damaged: the run says so, goes on from the one before and ends in the same weights."""
    common: dict[str, Any] = {"optim": {"steps": 12}, "save_every": 3, "tokenizer": DROPOUT}
    train_tokenizer(make_config(**common, out=tmp_path / "whole"))
    parts = make_config(**common, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(parts, progress=_StopAt(8))
    state = parts.out / "tokenizer" / STATE_FILE
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.warns(DamagedStateWarning, match="going on from"):
        train_tokenizer(parts, resume=True)
    assert same_weights(tmp_path / "whole" / "tokenizer", parts.out / "tokenizer")
    assert [record["step"] for record in read_log(parts.out / "tokenizer") if "loss" in record] == list(range(1, 13))


def _step_or_zero(folder: Path, *others: str) -> int:
    """Of the last state, or one of the others while that is being moved."""
    try:
        return max((_step(folder, name) for name in (STATE_FILE, *others) if (folder / name).exists()), default=0)
    except (OSError, RuntimeError):  # between the two renames
        return 0


def test_early_stopping(make_config) -> None:
    config = make_config(optim={"steps": 200, "lr": 1e-9}, validate_every=1, patience=3)
    result = train_tokenizer(config)
    assert result.steps < 200
    values = losses(result.folder, "val_loss")
    assert min(values) == result.best_validation
    assert min(values[-3:]) >= result.best_validation
    assert len(values) == result.steps


def test_early_stopping_goes_on_counting_after_a_stop(make_config, tmp_path: Path) -> None:
    common: dict[str, Any] = {"optim": {"steps": 200, "lr": 1e-9}, "validate_every": 1, "patience": 4, "save_every": 1}
    whole = train_tokenizer(make_config(**common, out=tmp_path / "whole"))
    parts = make_config(**common, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(parts, progress=_StopAt(whole.steps - 1))
    resumed = train_tokenizer(parts, resume=True)
    assert (resumed.steps, resumed.best_validation) == (whole.steps, whole.best_validation)


def test_a_start_that_is_never_beaten_is_kept(make_config, tmp_path: Path) -> None:
    first = make_config(out=tmp_path / "first")
    train_tokenizer(first)
    named = str(tmp_path / "first" / "tokenizer")
    config = make_config(tokenizer=named, validate_first=True, optim={"lr": 3.0, "steps": 3}, validate_every=1)
    train_tokenizer(config)
    validations = losses(config.out / "tokenizer", "val_loss")
    assert len(validations) == 4
    assert validations[0] == min(validations)
    assert same_weights(tmp_path / "first" / "tokenizer", config.out / "tokenizer")


def test_the_best_forecasts_are_kept_rather_than_the_lowest_loss(make_config, tmp_path: Path) -> None:
    """The judge hears each candidate, in eval mode and apart from the one in training, and its word is followed."""
    config = make_config()
    train_tokenizer(config)
    config = make_config(validate_every=2, choose_by="crps", forecasts={"windows": 8})
    verdicts, heard = iter([0.9, 0.7, 0.8]), []

    def judge(model: Kronos, tokenizer: KronosTokenizer) -> ForecastScores:
        assert not model.training
        assert not tokenizer.training
        heard.append({key: value.clone() for key, value in model.state_dict().items()})
        return ForecastScores(next(verdicts), 1.0, 0.9, 0.0)

    result = train("model", config, judge=judge)
    assert (result.best_validation, result.chosen_by) == (0.7, "crps")
    kept = load_file(result.folder / "model.safetensors")
    assert all(torch.equal(kept[key], heard[1][key]) for key in kept)
    assert losses(result.folder, "val_crps") == [0.9, 0.7, 0.8]
    assert [record["kept"] for record in read_log(result.folder) if "kept" in record] == [True, True, False]
    with pytest.raises(ConfigError, match="needs a judge"):
        train_model(config.model_copy(update={"out": tmp_path / "other", "tokenizer": str(config.out / "tokenizer")}))
    with pytest.raises(ConfigError, match=r"forecasts\.windows"):
        make_config(choose_by="crps")


def test_accumulated_batches_are_one_large_batch(make_config, tmp_path: Path) -> None:
    """The loss of a step is the mean over its batches, and each batch is another one."""
    runs = [
        make_config(
            out=tmp_path / str(n), optim={"steps": 2, "accumulation": n, "batch_size": 8 // n}, validate_every=9
        )
        for n in (1, 2)
    ]
    for run in runs:
        train_tokenizer(run)
    one, two = (next(read_log(run.out / "tokenizer")) for run in runs)
    assert one["loss"] == pytest.approx(two["loss"], rel=0.3)
    assert one["loss"] != two["loss"]


def test_a_loss_that_explodes_is_told(make_config) -> None:
    with pytest.raises(ConfigError, match=r"loss is nan.*optim\.lr"):
        train_tokenizer(make_config(optim={"lr": 1e30, "clip_norm": 1e30, "steps": 8}))


def test_a_stage_from_python(make_config) -> None:
    """As a notebook calls it: settings in a mapping, nobody who watches."""
    notes: list[str] = []
    settings = make_config().model_dump(mode="json")
    result = kronos.train("tokenizer", settings, overrides=["optim.steps=2"], note=notes.append)
    assert (result.steps, result.folder.name) == (2, "tokenizer")
    assert notes[0].startswith("4 windows a step")
    assert notes[-1].startswith("tokenizer, step 2: validation loss")
    assert kronos.train("tokenizer", settings, overrides=["optim.steps=3"], resume=True).steps == 3
    with pytest.raises(ConfigError, match="choose of tokenizer, model"):
        kronos.train("both", settings)


# --- saved states --------------------------------------------------------------------------------------------------


@pytest.fixture
def parts() -> tuple[Kronos, torch.optim.Optimizer]:
    model = Kronos.init(KronosConfig.from_dict(MODEL))
    optimizer = build_optimizer(model, RunConfig.model_fields["optim"].default, torch.device("cpu"))
    for step in range(2):
        ids = torch.full((1, 4), step)
        sum(out.square().mean() for out in model(ids, ids)).backward()
        optimizer.step()
    return model, optimizer


def test_a_state_comes_back(parts, tmp_path: Path) -> None:
    model, optimizer = parts
    save_state(tmp_path, 7, model, optimizer, {"best": 1.5})
    other = Kronos.init(KronosConfig.from_dict(MODEL), 9)
    fresh = build_optimizer(other, RunConfig.model_fields["optim"].default, torch.device("cpu"))
    assert load_state(tmp_path, other, fresh) == (7, {"best": 1.5})
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    for mine, theirs in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert all(torch.equal(mine[slot], theirs[slot]) for slot in mine)


def test_no_state_is_a_fresh_start(parts, tmp_path: Path) -> None:
    assert load_state(tmp_path, *parts) is None


DAMAGE = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "a bit flipped": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x01" + path.read_bytes()[-8:]),
    "noise": lambda path: path.write_bytes(b"\xff" * 500),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_gives_way_to_the_one_before(parts, tmp_path: Path, damage) -> None:
    save_state(tmp_path, 1, *parts, {})
    save_state(tmp_path, 2, *parts, {})
    damage(tmp_path / STATE_FILE)
    with pytest.warns(DamagedStateWarning, match=r"damaged.*state\.previous"):
        assert load_state(tmp_path, *parts) == (1, {})
    damage(tmp_path / PREVIOUS_FILE)
    with (
        pytest.warns(DamagedStateWarning),
        pytest.raises(CheckpointError, match="start afresh") as caught,
    ):
        load_state(tmp_path, *parts)
    assert len(str(caught.value).splitlines()) <= 2


def test_killed_between_the_renames(parts, tmp_path: Path) -> None:
    save_state(tmp_path, 1, *parts, {})
    (tmp_path / STATE_FILE).rename(tmp_path / PREVIOUS_FILE)
    assert load_state(tmp_path, *parts) == (1, {})


def test_a_state_of_another_run(parts, tmp_path: Path) -> None:
    save_state(tmp_path, 1, *parts, {"data_hash": "a"})
    other = Kronos.init(KronosConfig.from_dict({**MODEL, "n_layers": 2}))
    optimizer = build_optimizer(other, RunConfig.model_fields["optim"].default, torch.device("cpu"))
    with pytest.raises(CheckpointError, match="other settings"):
        load_state(tmp_path, other, optimizer)
    with pytest.raises(CheckpointError, match="another data_hash"):
        load_state(tmp_path, *parts, {"data_hash": "b"})


FULL = """
import resource, sys
from kronos.errors import CapacityError
from kronos.training.config import RunConfig
from kronos.training.data import cutoffs_of, open_arrays
from kronos.training.run import train
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    train("tokenizer", RunConfig.from_yaml(sys.argv[1]), resume=True)
except CapacityError as error:
    print(error)
    sys.exit(9)
"""


@pytest.mark.slow
def test_a_disk_without_room_stops_cleanly(make_config) -> None:
    """A limit on the size of files stands for the full disk: the writer is refused in the middle of the state."""
    pytest.importorskip("resource")
    config = make_config(optim={"steps": 4}, save_every=2)
    train_tokenizer(config)
    before = (config.out / "tokenizer" / STATE_FILE).read_bytes()
    assert len(before) > 20_000
    path = config.out.with_suffix(".yaml")
    path.write_text(config.model_copy(update={"optim": config.optim.model_copy(update={"steps": 8})}).model_dump_json())
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert "cannot be written" in done.stdout
    assert len(done.stdout.splitlines()) <= 2
    assert (config.out / "tokenizer" / STATE_FILE).read_bytes() == before
    assert not list(config.out.rglob(LEFTOVERS))
    assert train("tokenizer", config, resume=True).steps == 4


def test_an_out_that_is_a_file(make_config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CapacityError, match="cannot be written"):
        train_tokenizer(make_config(out=tmp_path / "file" / "run"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_state_of_another_run_is_refused(make_config) -> None:
    train_tokenizer(make_config())
    train_model(make_config(optim={"steps": 3}))
    with pytest.raises(CheckpointError, match="another settings"):
        train_model(make_config(seed=1), resume=True)
    with pytest.raises(CheckpointError, match="another settings"):
        train_model(make_config(optim={"steps": 6, "lr": 1e-4}), resume=True)
    with pytest.raises(CheckpointError, match="another settings"):
        train_model(make_config(optim={"steps": 3}, time_features=["hour"]), resume=True)
    shutil.rmtree(make_config().out / "tokenizer")
    train_tokenizer(make_config(seed=5))
    with pytest.raises(CheckpointError, match="another tokenizer"):
        train_model(make_config(), resume=True)


def test_a_run_is_not_written_over(make_config) -> None:
    """Without ``resume``: a state that is there would otherwise be gone on from later, as if it were the new run's."""
    config = make_config()
    train_tokenizer(config)
    before = {path: path.read_bytes() for path in (config.out / "tokenizer").iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="holds a run already; go on with --resume"):
        train_tokenizer(config)
    assert {path: path.read_bytes() for path in (config.out / "tokenizer").iterdir() if path.is_file()} == before


@pytest.mark.parametrize("at", [4, 6])
def test_chosen_weights_that_are_lost_are_written_anew(make_config, tmp_path: Path, at: int) -> None:
    """In the middle of a run and at its end; what the state has as its best validation must not stand in their way."""
    config = make_config(validate_every=2, save_every=2)
    whole = config.model_copy(update={"out": tmp_path / "whole"})
    train_tokenizer(whole)
    train_tokenizer(config.model_copy(update={"optim": config.optim.model_copy(update={"steps": at})}))
    (config.out / "tokenizer" / "model.safetensors").write_bytes(b"damaged")
    with pytest.warns(DamagedStateWarning, match="writes them anew"):
        result = train_tokenizer(config, resume=True)
    assert result.best_validation < 1e9
    load_file(config.out / "tokenizer" / "model.safetensors")


def test_a_config_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KronosTokenizer.init(TokenizerConfig.from_dict(TOKENIZER)).save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()

    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CapacityError, match="No space left"):
            change_config(tmp_path, move_gain=1.1)
    assert (tmp_path / "config.json").read_bytes() == before
    assert not list(tmp_path.glob(LEFTOVERS))
    change_config(tmp_path, beta=0.07)
    assert KronosTokenizer.from_pretrained(tmp_path).config.beta == 0.07
