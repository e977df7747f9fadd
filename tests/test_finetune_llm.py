"""Stage finetune_llm on a tiny LLaMA: the adapter, its loss, exact resuming, gradient accumulation, bad input."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.masked_experiment import FINETUNING, SIDE, build, entry, ids_of, stage_config
from v2l.configuration.llm_finetuning import FinetuneLLM, LoRA
from v2l.data.token_table import Tokens
from v2l.errors import INTERRUPTED, UserError
from v2l.finetune_llm import run, split
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_tensors, write_parquet
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import MaskedPrompt
from v2l.tasks.token_maps import random_mask
from v2l.training.adapter_loop import frequencies
from v2l.training.adapter_tuner import AdapterTuner
from v2l.training.lora import with_adapter

MEASURED = ("held_out_loss", "held_out_accuracy")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return build(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def go(inputs, tmp_path):
    """Runs the stage with changes of FINETUNING, and returns its outputs."""

    def finetune(folder: str = "adapter", tokens: Path = inputs["tokens"], **changes) -> dict[str, Path]:
        names = {"adapter": "adapter_model.safetensors", "adapter_config": "adapter_config.json"}
        outputs = {key: tmp_path / folder / name for key, name in (names | {"metrics": "metrics.jsonl"}).items()}
        config = stage_config("finetune_llm", inputs, tmp_path / "work", **changes)
        run(config, Inputs({"tokens": tokens, "vocabulary": inputs["vocabulary"]}), outputs)
        return outputs

    return finetune


def lines_of(outputs: dict[str, Path]) -> list[dict]:
    return [json.loads(line) for line in outputs["metrics"].read_text().splitlines()]


def tuner_of(inputs: dict[str, Path], **changes) -> tuple[AdapterTuner, Tokens]:
    section = FinetuneLLM.model_validate(FINETUNING | changes)
    model, tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))
    torch.manual_seed(1)
    model = with_adapter(model, section.lora)
    return AdapterTuner(section, model, MaskedPrompt(tokenizer), ids_of(inputs)), Tokens.read(inputs["tokens"])


def masks(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([random_mask(SIDE * SIDE, 0.3, generator) for _ in range(count)])


def test_the_adapter_is_a_peft_folder_with_the_released_settings(inputs, go, tmp_path):
    outputs = go()
    folder = outputs["adapter"].parent
    base = AutoModelForCausalLM.from_pretrained(inputs["llm"], trust_remote_code=False)
    frozen = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = PeftModel.from_pretrained(base, str(folder))
    settings = model.peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (4, 32, 0.0)
    assert settings.target_modules == {"q_proj", "k_proj"}
    tensors = load_file(outputs["adapter"])
    assert len(tensors) == 2 * 2 * 2 and all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert all(tensor.abs().sum() > 0 for tensor in tensors.values()), "B starts at zero and must have moved"
    loaded = {name.replace(".base_layer", ""): tensor for name, tensor in model.get_base_model().state_dict().items()}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in frozen.items())
    record = read_tensors(outputs["adapter"])[1]["v2l"]
    assert record["stage"] == "finetune_llm" and set(record["inputs"]) == {"tokens", "vocabulary", "llms.tiny.path"}
    assert "peft" in record["versions"]
    assert not list((tmp_path / "work").iterdir())


def test_metrics_tell_what_was_reached_before_during_and_after(go):
    lora = {"modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    lines = lines_of(go(steps=40, log_every=16, learning_rate=2e-3, lora=lora))
    assert [line["step"] for line in lines] == [0, 16, 32, 40, 40]
    first, *trained, last = lines
    assert set(first) == {"step", "frequency_loss", "frequency_accuracy", "chance_loss", *MEASURED}
    assert set(last) == {"step", *MEASURED} and last["held_out_loss"] != first["held_out_loss"]
    assert all(set(line) == {"step", "loss", "accuracy", "gradient_norm", "learning_rate"} for line in trained)
    assert trained[-1]["loss"] < trained[0]["loss"] - 0.5 and trained[-1]["accuracy"] > trained[0]["accuracy"]


@pytest.mark.parametrize(("survivor", "dropout"), [(4, 0.0), (2, 0.0), (4, 0.3)])
def test_interrupted_and_resumed_training_equals_uninterrupted(go, tmp_path, interrupt, survivor, dropout):
    settings = {"lora": {"dropout": dropout}}
    expected = {name: path.read_bytes() for name, path in go("whole", **settings).items()}
    taken = interrupt(AdapterTuner)
    with pytest.raises(InterruptedError):
        go("resumed", **settings)
    checkpoints = sorted((tmp_path / "work").glob("*/step-*.pt"))
    assert len(checkpoints) == 2 and not (tmp_path / "resumed").exists()
    if survivor == 2:
        checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:2000])
    outputs = go("resumed", **settings)
    assert taken == [0, 1, 2, 3, 4, 5, *range(survivor, 7)]
    assert {name: path.read_bytes() for name, path in outputs.items()} == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_ends_it_after_a_step_and_a_new_start_goes_on_exactly(go, tmp_path, monkeypatch, caplog, number):
    expected = {name: path.read_bytes() for name, path in go("whole").items()}
    original, taken, before = AdapterTuner.step, [], signal.getsignal(number)

    def step(self, place, *batch):
        taken.append(place)
        if taken == [0, 1, 2, 3, 4]:
            os.kill(os.getpid(), number)
        return original(self, place, *batch)

    monkeypatch.setattr(AdapterTuner, "step", step)
    with pytest.raises(SystemExit) as stopped:
        go("stopped")
    assert stopped.value.code == INTERRUPTED and signal.getsignal(number) is before
    assert "tiny: interrupted; a checkpoint holds everything before step 5" in caplog.text
    assert [path.name for path in sorted((tmp_path / "work").glob("*/step-*.pt"))][-1] == "step-000000005.pt"
    assert not (tmp_path / "stopped").exists()
    outputs = go("stopped")
    assert taken == list(range(7)) and not list((tmp_path / "work").iterdir())
    assert {name: path.read_bytes() for name, path in outputs.items()} == expected


def test_dropout_changes_training(go):
    with_dropout, without = (go(str(rate), lora={"dropout": rate})["adapter"] for rate in (0.3, 0.0))
    tensors = load_file(with_dropout), load_file(without)
    assert any(not torch.equal(tensors[0][name], tensor) for name, tensor in tensors[1].items())


def test_a_changed_configuration_does_not_continue_an_old_run(go, tmp_path, interrupt):
    interrupt(AdapterTuner)
    with pytest.raises(InterruptedError):
        go()
    assert list((tmp_path / "work").iterdir())
    assert lines_of(go(learning_rate=0.01))[0]["step"] == 0
    assert not list((tmp_path / "work").iterdir()), "the old one is swept"


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_add_up_to_the_batch(inputs, micro_batch_size):
    whole, tokens = tuner_of(inputs, micro_batch_size=4)
    parts, _ = tuner_of(inputs, micro_batch_size=micro_batch_size)
    for step in range(2):
        values = [tuner.step(step, tokens.local_NL[:4], 0) for tuner in (whole, parts)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)
    for one, other in zip(whole.trained, parts.trained, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_the_loss_is_that_of_the_masked_codes_alone_among_all_codes(inputs):
    """Against one forward pass for each masked token, with nothing after it, on the frozen model (B is zero)."""
    tuner, tokens = tuner_of(inputs)
    local_ML, masked_ML = tokens.local_NL[:3], masks(3)
    model, tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))
    ids, prompt = ids_of(inputs), MaskedPrompt(tokenizer)
    losses, hits = [], []
    for local_L, masked_L in zip(local_ML, masked_ML, strict=True):
        for position in np.flatnonzero(masked_L):
            token_1T = torch.tensor([prompt.ids(ids[local_L], masked_L, int(position))])
            share_V = model(token_1T).logits[0, -1, ids].log_softmax(0)
            losses.append(-share_V[local_L[position]].item())
            hits.append(int(share_V.argmax()) == local_L[position])
    found = tuner.measure(local_ML, masked_ML)
    assert found["held_out_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert found["held_out_accuracy"] == pytest.approx(np.mean(hits))


def test_held_out_images_are_drawn_with_the_seed_and_not_trained_on(inputs):
    tokens, section = Tokens.read(inputs["tokens"]), FinetuneLLM.model_validate(FINETUNING)
    training, held_out = split(tokens, section, 0)
    assert len(held_out) == 4 and sorted([*training, *held_out]) == list(range(len(tokens.image_id)))
    assert any(not np.array_equal(split(tokens, section, seed)[1], held_out) for seed in (1, 2))


def test_without_held_out_images_only_the_steps_are_told(go):
    assert [line["step"] for line in lines_of(go(held_out_images=0))] == [3, 6, 7]


def test_frequencies_of_the_training_codes():
    found = frequencies(np.array([[0, 0, 0, 1]]), np.array([0, 1, 2, 0]), codes=4)
    shares = np.array([4, 2, 1, 1]) / 8  # counts plus one
    assert found["frequency_loss"] == pytest.approx(-np.log(shares[[0, 1, 2, 0]]).mean())
    assert found["frequency_accuracy"] == 0.5 and found["chance_loss"] == pytest.approx(np.log(4))


def test_bfloat16_trains_float32_adapters(go):
    assert {tensor.dtype for tensor in load_file(go(precision="bfloat16")["adapter"]).values()} == {torch.float32}


def test_a_loaded_adapter_changes_the_model_as_trained(inputs, go):
    """load_llm with an adapter gives the logits of the model that was trained; without, those of the frozen one."""
    outputs = go(steps=20)
    device, token_1T = torch.device("cpu"), torch.tensor([[1, 5, 9, 300, 12]])
    frozen, _ = load_llm("tiny", entry(inputs["llm"]), device)
    tuned, _ = load_llm("tiny", entry(inputs["llm"]), device, adapter=outputs["adapter"].parent)
    reference = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(inputs["llm"], trust_remote_code=False), str(outputs["adapter"].parent)
    ).eval()
    assert torch.allclose(tuned(token_1T).logits, reference(token_1T).logits, atol=1e-5)
    assert not torch.allclose(tuned(token_1T).logits, frozen(token_1T).logits, atol=1e-2)
    assert not tuned.training and not any(parameter.requires_grad for parameter in tuned.parameters())


def test_an_adapter_that_is_damaged_or_does_not_fit_is_named(inputs, go):
    path = go()["adapter"].parent / "adapter_model.safetensors"
    of_another_size = {name: tensor[:1].clone() for name, tensor in load_file(path).items()}
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="adapter_model.safetensors cannot be used"):
        load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"), adapter=path.parent)
    save_file(of_another_size, path)
    with pytest.raises(UserError, match="adapter in .*llms.tiny.path.*run finetune_llm again"):
        load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"), adapter=path.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 11}, "has 14 images, of which .*held_out_images` = 4.*at least .*batch_size` = 11"),
        ({"lora": {"modules": ["qkv"]}}, r"`finetune_llm.lora.modules` is \['qkv'\]"),
        (
            {"lora": {"modules": ["q_proj", "qkv", "all-linear"]}},
            "no linear layer 'qkv', 'all-linear'.*: down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj",
        ),
        ({"lora": {"modules": ["q_proj", "embed_tokens"]}}, "no linear layer 'embed_tokens'"),
        ({"lora": {"modules": ["q_.*"]}}, "no linear layer 'q_"),
        ({"lora": {"rank": 1000}}, "rank` is 1000, but model.layers.0.self_attn.[qk]_proj is a matrix of .*at most"),
        ({"learning_rate": 1e30}, "fine-tuning of tiny diverged at step .*`finetune_llm.learning_rate`"),
    ],
)
def test_what_cannot_be_trained_is_told(go, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        go(**changes)
    assert not (tmp_path / "adapter").exists()


def test_a_prompt_beyond_the_context_is_named(inputs):
    tuner, tokens = tuner_of(inputs)
    tuner.require_context(tokens)
    tuner.model.config.max_position_embeddings = 2 * SIDE * SIDE
    with pytest.raises(UserError, match="prompt of image 00.png has .* tokens.*at most 32.*lower `train_tokenizer"):
        tuner.require_context(tokens)


def test_another_vocabulary_is_refused(inputs, go, tmp_path):
    metadata = {key: parquet_metadata(inputs["tokens"])[key] for key in ("vocabulary", "tokenizer", "grid")}
    metadata["vocabulary"] = metadata["vocabulary"] | {"llm": "other", "sha256": "ab" * 32}
    write_parquet(tmp_path / "tokens.parquet", pq.read_table(inputs["tokens"]), {}, metadata)
    with pytest.raises(UserError, match="vocabulary of language model tiny .* does not match"):
        go(tokens=tmp_path / "tokens.parquet")


def test_every_named_layer_gets_an_adapter(inputs):
    tuner, _ = tuner_of(inputs, lora={"modules": ["q_proj", "self_attn.v_proj", "down_proj"]})
    layers = tuner.model.config.num_hidden_layers
    found = [
        name.split(".lora_A")[0].rpartition(".")[2] for name, _ in tuner.model.named_parameters() if "lora_A" in name
    ]
    assert sorted(found) == sorted(["q_proj", "v_proj", "down_proj"] * layers)


def test_a_layer_named_twice_is_refused():
    with pytest.raises(ValidationError, match="names q_proj twice"):
        LoRA(modules=["q_proj", "k_proj", "q_proj"])


def test_lora_defaults_are_the_released_ones():
    assert LoRA().model_dump() == {"rank": 4, "alpha": 32, "dropout": 0.0, "modules": ["q_proj", "k_proj"]}
