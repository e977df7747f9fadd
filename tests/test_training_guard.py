"""The guard of a training: what it measures, when it warns and stops, what a stopped run leaves, and how it goes on."""

import logging
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.test_deviations import require
from tests.test_train_tokenizer import SECTION, lines_of, toy, vgg  # noqa: F401
from tests.test_training_ranks import stage  # noqa: F401
from v2l.cluster import launch
from v2l.configuration.experiment import load_experiment
from v2l.configuration.tokenizer_training import Guard, TrainTokenizer
from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.io.checkpoints import newest_checkpoint
from v2l.io.storage import read_tensors
from v2l.training.guard import REMEDIES, TrainingGuard
from v2l.training.log import TrainingLog
from v2l.training.loop import Loop
from v2l.training.stopped_run import leave_reason, require_changes
from v2l.training.trackers import tag
from v2l.training.trainer import Trainer
from v2l.training.window import Window

CODES, STEPS = 100, 50
LIMITS = {"positions_per_code": 4, "min_codes_share": 0.2, "windows": 2, "patience_share": 0.0, "after_share": 0.0}
# Without matching the toy's tokenizers use 5 of 30 codes, with it more than 20.
STRICT = {"positions_per_code": 2, "min_codes_share": 0.5, "after_share": 0.2, "windows": 2}
COLLAPSED = {"projector_init": "normal", "guard": STRICT}


def guard_of(steps: int = STEPS, **changes) -> TrainingGuard:
    section = TrainTokenizer.model_validate(SECTION | {"guard": LIMITS | changes})
    return TrainingGuard("toy", section, CODES, steps)


def counts(used: int, positions: int = 4 * CODES) -> Tensor:
    """`positions` of a step, shared evenly by `used` codes."""
    counts_V = torch.zeros(CODES, dtype=torch.int64)
    counts_V[:used] = positions // used
    return counts_V


def observe(guard: TrainingGuard, step: int, losses: dict[str, float], counts_V: Tensor) -> dict[str, float]:
    guard.count(counts_V, int(counts_V.sum()))
    guard.add(losses)
    return guard.judge(step)


def stopped_at(guard: TrainingGuard, used: list[int], losses: dict[str, float] | None = None) -> int | None:
    """The step that gives the guard a reason when step i uses `used[i]` codes; None: no step does."""
    for step, number in enumerate(used):
        observe(guard, step, losses or {}, counts(number))
        if guard.reason:
            return step
    return None


def test_a_window_is_so_many_positions_whatever_the_batch():
    whole, parts = guard_of(), guard_of()
    expected = {"guard_codes_share": 0.5, "guard_codes_perplexity": pytest.approx(50)}
    assert observe(whole, 0, {}, counts(50)) == expected
    found = [observe(parts, step, {}, counts(50, 2 * CODES)) for step in range(4)]
    assert found == [{}, expected, {}, expected]


def test_low_windows_in_a_row_stop_and_single_ones_do_not():
    assert stopped_at(guard_of(), [50, 10, 50, 10, 50, 10, 10, 50]) == 6
    assert stopped_at(guard_of(windows=3), [10, 10, 50, 10, 10, 50]) is None
    assert stopped_at(guard_of(min_codes_share=0.1), [10] * 8) is None, "at the limit is not under it"


def test_low_windows_must_span_their_share_of_the_steps():
    assert stopped_at(guard_of(patience_share=0.1), [50] + [10] * 8) == 5


def test_the_first_steps_are_not_judged():
    assert stopped_at(guard_of(after_share=0.5), [10] * STEPS) == 26


def test_few_effective_codes_are_low_even_if_many_are_touched():
    guard = guard_of(min_perplexity_share=0.1)
    counts_V = torch.ones(CODES, dtype=torch.int64)
    counts_V[0] = 100 * CODES
    for step in range(2):
        observe(guard, step, {}, counts_V)
    assert "100.00% of 100 codes in use, perplexity 1.1" in str(guard.reason)
    assert "perplexity 10.0 (`guard.min_perplexity_share` 0.1)" in str(guard.reason)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (1e-4, ["discriminator has collapsed at step 3", "loss 0.0001, it wins completely", "`loss.adversarial`"]),
        (1.0, ["discriminator has collapsed at step 3", "loss 1, it tells nothing apart", "(start earlier)"]),
        (0.6, None),
        (0.995, None),
    ],
)
def test_a_discriminator_that_wins_or_idles_stops(loss, words):
    """Its loss counts from the first whole window after `loss.discriminator_start`, which is 1 here."""
    guard = guard_of()
    assert stopped_at(guard, [50] * 8, {"discriminator": loss}) == (3 if words else None)
    assert not words or all(word in str(guard.reason) for word in words)


def test_without_a_discriminator_its_loss_is_not_judged():
    assert stopped_at(guard_of(), [50] * 8, {"pixel": 0.0}) is None


def test_the_message_names_step_usage_limits_and_remedies():
    guard = guard_of()
    stopped_at(guard, [50, 10, 10])
    text = str(guard.reason)
    assert "training of toy: the codebook has collapsed at step 2 of 50: 10.00% of 100 codes in use" in text
    assert "perplexity 10.0, the last of 2 low windows in a row since step 1. " in text
    assert "Expected: at least 20.00% (`guard.min_codes_share`)" in text
    assert all(f"`{key}`" in text for key in REMEDIES["codes"])
    assert "`tokenizers.toy.train_tokenizer.guard.action: warn`" in text


@pytest.mark.parametrize("kind", REMEDIES)
def test_remedies_are_keys_of_the_section(kind):
    for key in REMEDIES[kind]:
        require(key, TrainTokenizer)


def test_warnings_come_once_for_each_collapse(caplog):
    guard = guard_of(action="warn")
    assert stopped_at(guard, [10] * 5 + [50] + [10] * 5) is None
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert ["at step 1 of" in warned[0], "at step 7 of" in warned[1]] == [True, True] and len(warned) == 2


def test_off_judges_nothing_and_measures_all_the_same(caplog):
    guard = guard_of(action="off")
    assert stopped_at(guard, [10] * 5) is None and not caplog.records
    assert observe(guard, 5, {}, counts(10))["guard_codes_share"] == 0.1


def test_the_last_step_warns_for_there_is_nothing_left_to_save(caplog):
    assert stopped_at(guard_of(steps=2), [10, 10]) is None
    assert "has collapsed at step 1 of 2" in caplog.text


def test_a_run_without_a_whole_window_says_that_nothing_was_judged(caplog):
    caplog.set_level(logging.INFO)
    guard = guard_of(steps=2, positions_per_code=100)
    assert stopped_at(guard, [1, 1]) is None and "toy: too short for the guard" in caplog.text


@given(st.lists(st.sampled_from([10, 50]), min_size=2, max_size=12), st.data(), st.sampled_from(["stop", "warn"]))
def test_resuming_keeps_the_count(used, data, action):
    cut = data.draw(st.integers(1, len(used) - 1))
    whole, first, second = (guard_of(action=action, positions_per_code=6) for _ in range(3))
    for step, number in enumerate(used):
        part = first if step < cut else second
        if step == cut:
            second.load_state_dict(first.state_dict())
        values = [observe(guard, step, {}, counts(number)) for guard in (whole, part)]
        assert values[0] == values[1] and str(whole.reason) == str(part.reason)
        assert (whole.low, whole.first_step, whole.judged) == (part.low, part.first_step, part.judged)
        if whole.reason:
            break


# ---- the stage


def checkpoint_of(folder: Path) -> dict:
    return newest_checkpoint(next(folder.glob("work/*")))


def begun_steps(monkeypatch) -> list[int]:
    """Steps that trainings begin from now on."""
    original, begun = Trainer.step, []
    monkeypatch.setattr(Trainer, "step", lambda self, step, batch: begun.append(step) or original(self, step, batch))
    return begun


@pytest.mark.parametrize("method", ["v2l", "vqgan"])
def test_a_stopped_training_leaves_its_checkpoint_and_goes_on_when_its_guard_is_changed(toy, monkeypatch, method):  # noqa: F811
    limits = STRICT | ({"min_codes_share": 1.0} if method == "vqgan" else {})
    changes = COLLAPSED | {"guard": limits}
    expected = (outputs := toy(method, **changes | {"guard": limits | {"action": "off"}}))["metrics"].read_bytes()
    weights = read_tensors(outputs["weights"])[0]
    outputs["weights"].unlink()
    begun = begun_steps(monkeypatch)
    with pytest.raises(UserError, match="the codebook has collapsed at step 3 of 7") as caught:
        toy(method, **changes)
    assert begun == [0, 1, 2, 3] and checkpoint_of(toy.folder)["step"] == 4 and not outputs["weights"].exists()
    assert (next(toy.folder.glob("work/*")) / "metrics.jsonl").exists()
    with pytest.raises(UserError) as again:
        toy(method, **changes)
    assert str(again.value) == str(caught.value) and begun == [0, 1, 2, 3], "unchanged, it trains no further step"
    toy(method, **changes | {"guard": limits | {"action": "warn"}})
    assert begun == list(range(7)) and outputs["metrics"].read_bytes() == expected
    found = read_tensors(outputs["weights"])[0]
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_healthy_training_is_left_alone(toy, caplog):  # noqa: F811
    lines = lines_of(toy(guard=STRICT))
    shares = [line["guard_codes_share"] for line in lines if "guard_codes_share" in line]
    assert len(shares) >= 4 and min(shares) > 0.6
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_all_ranks_leave_a_stopped_training(stage):  # noqa: F811
    process: subprocess.Popen = stage(2, "stopped", **COLLAPSED)
    said = process.communicate(timeout=600)[1]
    assert process.returncode != 0 and said.count("error: training of toy-tokenizer: the codebook has collapsed") == 2
    assert said.count("Traceback") == 1 and "exitcode  : 1" in said, "the launcher's own, and no rank's"
    state = checkpoint_of(stage.folder / "stopped")
    assert f"collapsed at step {state['step'] - 1} of 20" in said and state["step"] < 20


def test_a_stop_at_the_step_of_an_interruption_asks_for_no_other_start(tmp_path):
    """Exit status INTERRUPTED would put a job back into SLURM's queue."""
    loop = Loop("toy", tmp_path, 5, 100, {})

    def advance(step: int, batch: int) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGUSR2)
            loop.stop(UserError("collapsed", "a healthy codebook", "change it"))

    with pytest.raises(UserError, match="collapsed"):
        loop.run(range(5), advance)
    assert newest_checkpoint(tmp_path) == {"step": 3}


def test_a_stopped_training_is_not_submitted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_log_to", lambda path: None)
    monkeypatch.setattr(launch.signal, "signal", lambda *what: None)
    monkeypatch.setattr("v2l.pipeline.record.provenance", lambda config, inputs: {})
    monkeypatch.setattr("v2l.pipeline.record.run_key", lambda config, record: "key")
    (tmp_path / "key").mkdir()
    section = TrainTokenizer.model_validate(SECTION)
    leave_reason(tmp_path / "key", section.guard, UserError("collapsed", "a healthy codebook", "change it"))
    data = {"job": {"tokenizer": "v2l", "work": str(tmp_path)}, "train_tokenizer": section.model_dump(mode="json")}
    with pytest.raises(UserError, match="collapsed"):
        launch.run_on_slurm(None, ["python", "-m", "v2l.train_tokenizer", "--config", canonical_json(data)])


def test_changed_limits_forget_the_stop(tmp_path):
    guard, changed = Guard(), Guard(min_codes_share=0.01)
    leave_reason(tmp_path, guard, UserError("collapsed", "a healthy codebook", "change it"))
    require_changes(tmp_path, changed)
    require_changes(tmp_path, guard)


# ---- what is shown


def test_every_experiment_but_the_short_ones_stops():
    actions = {name: load_experiment({"experiment": name}).train_tokenizer.guard.action for name in ("paper", "demo")}
    assert actions == {"paper": "stop", "demo": "warn"}


def test_usage_is_in_the_log_line_and_on_the_board_by_group(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("v2l.training.log.REPORT_SECONDS", 0)
    log = TrainingLog(tmp_path, tmp_path, Window(CODES), steps=40, writes=True)
    shown = []
    log.trackers = [
        SimpleNamespace(values=lambda values, step: shown.extend((tag(k), v, step) for k, v in values.items()))
    ]
    log.window.add({"pixel": 0.25, "learning_rate": 0.1, "guard_codes_share": 0.5})
    log.count(counts(50), 8)
    log.close_window(19, 0)
    assert log.shown_line == "pixel 0.25, 50.0% of the codes (perplexity 50)"
    assert f"step 20 of 40, {log.shown_line}, " in caplog.text and " images/s, 0:00:0" in caplog.text
    names = {"codebook/used", "codebook/share", "codebook/perplexity", "codebook/guard_share", "loss/pixel"}
    assert {name for name, _, _ in shown} == names | {"schedule/learning_rate", "schedule/epoch"}
    assert ("codebook/share", 0.5, 19) in shown
    assert tag("adaptive_weight") == "schedule/adaptive_weight" and tag("discriminator") == "loss/discriminator"
