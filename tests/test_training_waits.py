"""What a training step leaves alone: it waits for no device, projects codes once, and finds global ids before it."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_spae import ENTRY as SPAE_ENTRY
from tests.test_train_tokenizer import SECTION, lines_of, toy, vgg  # noqa: F401
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.errors import UserError
from v2l.models import quantizers
from v2l.models.convolutional import ProjectedCodebook
from v2l.models.v2l import V2LNetwork
from v2l.models.vision_tokenizer import Batch
from v2l.models.vqgan import VQGANTokenizer
from v2l.training import tokenizer_loop
from v2l.training.ranks import Ranks
from v2l.training.trainer import Trainer
from v2l.training.training_batches import all_global_ids
from v2l.training.unread_losses import UnreadLosses

# Operators whose result's shape or value the host must know before it goes on.
WAITING = ("_local_scalar_dense", "bincount", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")
READING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")


class Waits(TorchDispatchMode):
    """Counts the operators that make the host wait for the device."""

    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        masked = name == "index" and any(i is not None and i.dtype == torch.bool for i in arguments[1])
        self.found[name] += name in WAITING or masked
        return function(*arguments, **(keywords or {}))


@pytest.fixture
def waits(monkeypatch) -> dict[int, Counter]:
    """By step: what made the host wait in it, from the batch to the loop's last look at the signals."""
    by_step: dict[int, Counter] = {}
    run, current = tokenizer_loop.Loop.run, [Counter()]

    def counted(loop, batches, advance, settle):
        def watched(step, loaded):
            by_step[step] = current[0] = Counter()
            with Waits(current[0]):
                advance(step, loaded)
            current[0] = Counter()

        run(loop, batches, watched, settle)

    def reading(name):
        original = getattr(torch.Tensor, name)

        def read(tensor, *arguments):
            current[0][name] += 1
            return original(tensor, *arguments)

        return read

    monkeypatch.setattr(tokenizer_loop.Loop, "run", counted)
    for name in READING:
        monkeypatch.setattr(torch.Tensor, name, reading(name))
    return by_step


@pytest.mark.parametrize("method", ["v2l", "vqgan", "spae"])
def test_a_step_without_a_line_waits_for_no_device(toy, waits, method):  # noqa: F811
    changes = {"match_until": 0.0, "average_decay": 0.5, "log_every": 4, "global_batch_size": 2, "max_steps": 9}
    changes |= {"guard": {"positions_per_code": 1000}, "micro_batch_size": 1, "epochs": 1, "checkpoint_every": 100}
    toy(method, SPAE_ENTRY if method == "spae" else None, **changes)
    found = {step: +counter for step, counter in waits.items()}
    assert all(found[step] for step in (4, 5, 8)), "lines and ends of epochs read"
    assert {step: found[step] for step in (1, 2, 3, 6, 7)} == {step: Counter() for step in (1, 2, 3, 6, 7)}


def test_a_full_window_of_the_guard_is_read_at_once(toy, waits):  # noqa: F811
    toy(**{"match_until": 0.0, "log_every": 100, "max_steps": 7, "guard": {"positions_per_code": 8}})
    assert [step for step, counter in waits.items() if +counter] == [0, 1, 2, 3, 5, 6], "5 x 16 positions, 30 codes"


def test_losses_are_read_together_and_in_order():
    unread = UnreadLosses()
    unread.add(3, {"pixel": torch.tensor(0.5), "rate": 0.1})
    unread.add(4, {"pixel": torch.tensor(0.25), "discriminator": torch.tensor(1.0), "rate": 0.2})
    expected = [(3, {"pixel": 0.5, "rate": 0.1}), (4, {"pixel": 0.25, "discriminator": 1.0, "rate": 0.2})]
    assert list(unread.read()) == expected and list(unread.read()) == []


def test_a_loss_that_is_not_finite_names_its_step_and_no_checkpoint_has_it(toy, monkeypatch):  # noqa: F811
    original = Trainer.step

    def step(self, number, batch):
        losses, ids_BL = original(self, number, batch)
        return (losses | {"pixel": losses["pixel"] * float("nan")} if number == 4 else losses), ids_BL

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(UserError, match=r"diverged at step 4 \(pixel nan"):
        toy(log_every=100, max_steps=9, checkpoint_every=2, global_batch_size=2)
    assert {path.name for path in toy.folder.glob("work/*/step-*.pt")} == {"step-000000002.pt", "step-000000004.pt"}


def test_memory_that_runs_out_names_the_micro_batch(toy, monkeypatch):  # noqa: F811
    def step(self, number, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(UserError, match=r"training of toy-tokenizer: no memory left for 2 images at once.* GiB free"):
        toy(micro_batch_size=2)


@pytest.mark.parametrize("method", ["v2l", "spae"])
def test_all_codes_are_projected_once_a_step_whatever_the_micro_batch(toy, monkeypatch, method):  # noqa: F811
    rows, begun, original = [], [], Trainer._step_generator

    def count(module, inputs, output):
        rows.append((len(begun), output.shape[:-1].numel()))

    def step_generator(self, *arguments):
        begun.append(self.tokenizer.codebook_projection.register_forward_hook(count))
        result = original(self, *arguments)
        begun[-1].remove()
        return result

    monkeypatch.setattr(Trainer, "_step_generator", step_generator)
    changes = {"max_steps": 3, "micro_batch_size": 2, "loss": SECTION["loss"] | {"adversarial": 0.0}}
    toy(method, SPAE_ENTRY if method == "spae" else None, **changes)
    assert rows == [(1, 30), (2, 30), (3, 30)]


@pytest.mark.parametrize("whole", [False, True])
def test_rows_of_a_known_projection_have_its_values_and_gradients(whole):
    torch.manual_seed(0)
    table_VD, ids = torch.randn(30, 8).double(), None if whole else torch.randint(30, (2, 5))
    found, wanted = (torch.nn.Linear(8, 8).double() for _ in range(2))
    found.load_state_dict(wanted.state_dict())
    projected_VD = found(table_VD).detach()
    rows = quantizers.RowsOfProjection.apply(found.weight, found.bias, projected_VD, table_VD, ids)
    reference = wanted(table_VD if ids is None else table_VD[ids])
    torch.testing.assert_close(rows, reference, rtol=0, atol=1e-12)
    weight = torch.randn_like(rows)
    (rows.sin() * weight).sum().backward()
    (reference.sin() * weight).sum().backward()
    torch.testing.assert_close(found.weight.grad, wanted.weight.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.bias.grad, wanted.bias.grad, rtol=0, atol=1e-12)


def test_fixed_codes_end_with_their_scope(toy):  # noqa: F811
    tokenizer = V2LNetwork("toy", "v2l-local", TrainTokenizer.model_validate(SECTION).network, 3, torch.randn(30, 8))
    assert isinstance(tokenizer, ProjectedCodebook)
    with tokenizer.codes_fixed():
        before = tokenizer.codes().detach()
    with torch.no_grad():
        tokenizer.codebook_projection.weight.mul_(2)
        assert not torch.equal(tokenizer.codes(), before)
    assert tokenizer._projected_VD is None


def test_global_ids_are_found_once_and_are_those_of_the_features(toy, monkeypatch):  # noqa: F811
    searched, batches = [], []
    nearest, step = quantizers.nearest_k_codes, Trainer.step
    monkeypatch.setattr(quantizers, "nearest_k_codes", lambda *what: searched.append(len(what[0])) or nearest(*what))
    monkeypatch.setattr(Trainer, "step", lambda self, number, batch: batches.append(batch) or step(self, number, batch))
    monkeypatch.setattr("v2l.training.training_batches.FEATURES_AT_ONCE", 5)
    expected = lines_of(toy(max_steps=3))
    assert searched[:3] == [5, 5, 2] and all(batch.feature_BD is None and batch.noise_BL is None for batch in batches)
    assert {batch.global_ids_BK.dtype for batch in batches} == {torch.int64} and len(expected) == 3


def test_ranks_share_the_search_for_global_ids():
    torch.manual_seed(0)
    network = TrainTokenizer.model_validate(SECTION).network
    tokenizer = V2LNetwork("toy", "v2l", network, 3, torch.randn(30, 8), torch.randn(20, 8))
    feature_ND, shares = torch.randn(7, 8), {}

    class Shared(Ranks):
        def gather(self, tensor_N):
            shares[self.rank] = tensor_N
            return torch.stack([shares[rank] for rank in sorted(shares)], dim=1).flatten(0, 1)

    for rank in range(3):
        found = all_global_ids(tokenizer, feature_ND, torch.device("cpu"), Shared(rank, 3))
    assert found.dtype == torch.int32 and torch.equal(found.long(), tokenizer.global_ids(feature_ND))


def test_a_tokenizer_without_global_ids_of_features_says_so():
    tokenizer = VQGANTokenizer("plain", TrainTokenizer.model_validate(SECTION).network)
    with pytest.raises(ValueError, match="tokenizer plain has no global ids of image features alone"):
        tokenizer.global_ids(torch.randn(2, 8))


def test_batches_say_what_is_missing():
    with pytest.raises(ValueError, match="reads `noise_BL`"):
        Batch(torch.zeros(1, 3, 4, 4)).required("noise_BL")


@pytest.mark.parametrize(
    ("environment", "ranks", "cores"),
    [
        ({}, Ranks(), 16),
        ({"LOCAL_WORLD_SIZE": "4"}, Ranks(0, 8), 4),
        ({"LOCAL_WORLD_SIZE": "32"}, Ranks(0, 32), 1),
        ({"LOCAL_WORLD_SIZE": "4", "SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "8"}, Ranks(0, 4), 8),
        ({"LOCAL_WORLD_SIZE": "4", "SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "16"}, Ranks(0, 4), 4),
    ],
)
def test_ranks_of_a_machine_share_its_cores(monkeypatch, environment, ranks, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.cores == cores
