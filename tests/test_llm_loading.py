"""What language model folders and files are: facts without loading, refusals by name, and checks after loading."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.test_llm import byte_level_tokenizer, naive
from tests.tiny_gguf import write_gguf
from v2l.configuration.model_entries import LLM
from v2l.errors import UserError
from v2l.llm import memory
from v2l.llm.engine import generate
from v2l.llm.folder_checks import require_model
from v2l.llm.language_model import load_llm
from v2l.llm.model_facts import context_of, parameters, precision_of, weight_bytes
from v2l.llm.weight_headers import size_of

SIZES = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2} | {
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
Change = Callable[[Path], Any]
MIXTRAL = {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32} | {
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("llm") / "original"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder)
    byte_level_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "llm")


def load(path: Path, **settings):
    return load_llm("x", LLM(path=str(path), **settings), torch.device("cpu"))


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def configured(**values) -> Change:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def changed(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def instead(files: dict[str, str]) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)

    return change


def nested(folder: Path) -> None:
    shutil.copytree(folder, folder / "snapshot")
    (folder / "config.json").unlink()


def in_shards(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {key: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, key in enumerate(sorted(state))}
    for name in set(names.values()):
        part = {key: state[key] for key, place in names.items() if place == name}
        save_file(part, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def without_a_shard(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def bpe_files(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')


class Executed:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def with_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Executed()}, folder / "pytorch_model.bin")


NOT_LOADED: dict[str, tuple[Change, str]] = {
    **{
        f"{name} is an LFS pointer": (text(name, POINTER), f"{name} is a Git LFS pointer.*git lfs pull")
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    },
    "a list": (text("config.json", "[1]"), "config.json holds list where an object should be"),
    "null": (text("config.json", "null"), "config.json holds NoneType where an object should be"),
    "cut off": (text("config.json", '{"model_type": "ll'), "config.json cannot be read as JSON"),
    "nested": (text("config.json", '{"a":' * 5000 + "1" + "}" * 5000), "config.json is nested too deeply"),
    "half a tokenizer": (text("tokenizer.json", '{"model":'), "tokenizer.json cannot be read as JSON"),
    "no files": (instead({}), "has no config.json, no tokenizer.json or tokenizer.model .*, no weights"),
    "adapter": (
        instead({"adapter_config.json": '{"base_model_name_or_path": "base"}'}),
        "is a PEFT adapter of base, not a language model.*merge_and_unload",
    ),
    "Meta's format": (
        instead({"params.json": "{}", "consolidated.00.pth": "x", "tokenizer.model": "x"}),
        r"own format \(consolidated.00.pth, params.json\).*convert the checkpoint to Hugging Face format",
    ),
    "GGUF in a folder": (instead({"a.gguf": "GGUF"}), "holds GGUF files.*name the file itself: .*a.gguf"),
    "a folder above": (nested, "has no config.json.*name the folder of the model: .*snapshot"),
    **{
        f"quantised: {method}": (
            configured(quantization_config={"quant_method": method}),
            rf"the weights in .* are quantised \(quantization_config: {method}\).*take the release that is not",
        )
        for method in ("gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "mxfp4")
    },
    "quantised: old bitsandbytes": (configured(quantization_config={"load_in_8bit": True}), "config: bitsandbytes"),
    "quantised: AutoGPTQ": (text("quantize_config.json", "{}"), r"quantised \(quantize_config.json: gptq\)"),
    "quantised text part": (
        configured(text_config={"quantization_config": {"quant_method": "fp8"}}),
        r"quantised \(quantization_config: fp8\)",
    ),
    "encoder and decoder": (
        configured(model_type="t5", is_encoder_decoder=True),
        r"a model of an encoder and a decoder \(t5\).*a causal language model",
    ),
    "a lost shard": (without_a_shard, "lacks 1 of the 2 files that its index names: model-00002-of-00002.safetensors"),
    "an index of nothing": (
        lambda folder: (in_shards(folder), (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')),
        "index.json names no files of weights",
    ),
    "an empty file": (text("model.safetensors", ""), "model.safetensors is empty"),
    "a web page": (text("model.safetensors", "<!DOCTYPE html>"), "model.safetensors is a web page"),
}
REFUSED: dict[str, tuple[Change, str]] = {
    "a list for a number": (configured(hidden_size=[1, 2]), "'hidden_size' expected int, got list"),
    "null for a number": (configured(hidden_size=None), "'hidden_size' expected int, got NoneType"),
    "no heads": (configured(num_attention_heads=0), r"cannot be loaded \(ZeroDivisionError"),
    "unknown kind": (configured(model_type="zzz"), "`model_type` of its config.json is 'zzz', none that transformers"),
    "no kind": (configured(model_type=None), "`model_type` of its config.json is None, none that transformers"),
    "code of its own": (
        configured(model_type="zzz", auto_map={"AutoConfig": "z.Z", "AutoModelForCausalLM": "z.Z"}),
        r"needs Python code of its own \(auto_map\), which is not executed",
    ),
    "of text and pictures": (configured(model_type="qwen2_vl"), "knows its kind, but not as a causal language model"),
    "another kind": (
        configured(model_type="gpt2"),
        "lacks weights transformer.h.0.* and has others: model.embed_tokens.weight",
    ),
    "a layer less": (configured(num_hidden_layers=1), "has 9 weights that its architecture does not take: model.lay"),
    "another vocabulary": (
        configured(vocab_size=301),
        "other shapes: lm_head.weight is 300 x 32 where the model has 301 x 32, model.embed_tokens",
    ),
    "a classifier's head": (
        tensors(lambda state: state.update({"score.weight": torch.ones(2, 32)})),
        "has 1 weights that its architecture does not take: score.weight",
    ),
    "a bias": (
        tensors(lambda state: state.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)})),
        "does not take: model.layers.0.self_attn.q_proj.bias",
    ),
    "not a number": (
        tensors(lambda state: state["model.norm.weight"].fill_(torch.nan)),
        "weights of .* are not finite in float32: model.norm.weight.*get the weights again",
    ),
    "Python code": (with_code, "its weights are damaged, or Python code .*take a release in safetensors"),
    "a tokenizer without a class": (
        lambda folder: (bpe_files(folder), (folder / "tokenizer_config.json").unlink()),
        "do not say which kind of tokenizer.*`tokenizer_class`",
    ),
}


@pytest.mark.parametrize("case", NOT_LOADED)
def test_a_folder_is_refused_before_anything_is_loaded(folder, case):
    change, message = NOT_LOADED[case]
    change(folder)
    with pytest.raises(UserError, match=f"(?s)^`llms.x.path`: .*{message}"):
        require_model(folder, "`llms.x.path`")
    assert memory.gpus(LLM(path=str(folder)), 80000) == 1


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_is_refused_when_it_is_loaded(folder, case):
    change, message = REFUSED[case]
    change(folder)
    with pytest.raises(UserError, match=f"(?s)^`llms.x.path`: .*{message}") as caught:
        load(folder)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "config"),
    [
        ("BertForMaskedLM", transformers.BertConfig(**SIZES)),
        ("RobertaForMaskedLM", transformers.RobertaConfig(**SIZES)),
        ("ElectraForMaskedLM", transformers.ElectraConfig(embedding_size=32, **SIZES)),
    ],
)
def test_models_that_see_what_follows_are_refused(folder, network, config):
    getattr(transformers, network)(config).save_pretrained(folder)
    with pytest.raises(UserError, match=f"{config.model_type} in .* is not causal: a later token changes"):
        load(folder)


def test_a_model_that_answers_otherwise_with_a_cache_is_refused(folder):
    config = transformers.RwkvConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, context_length=64)
    transformers.RwkvForCausalLM(config).save_pretrained(folder)
    with pytest.raises(UserError, match="rwkv in .* answers otherwise with a cache than without"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        in_shards,
        as_bin,
        bpe_files,
        configured(auto_map={"AutoModelForCausalLM": "modeling_x.X"}),
        tensors(lambda state: state.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})),
        tensors(lambda state: state.update({"vision_tower.layer.weight": torch.ones(4)})),
    ],
    ids=["shards", "bin", "vocab.json and merges.txt", "needless code", "a known table", "another sense"],
)
def test_other_forms_of_a_model_are_the_same_model(original, folder, change):
    change(folder)
    (wanted, known), (model, tokenizer) = load(original), load(folder)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in wanted.state_dict().items())
    assert tokenizer("a cat sat").input_ids == known("a cat sat").input_ids


class TestPrecision:
    @pytest.mark.parametrize(
        ("stated", "expected"),
        [
            ({"dtype": "bfloat16"}, "bfloat16"),
            ({"dtype": None, "torch_dtype": "torch.float16"}, "float16"),
            ({"dtype": None, "text_config": {"torch_dtype": "bfloat16"}}, "bfloat16"),
            ({"dtype": "float64"}, "float32"),
            ({"dtype": None}, "float32"),
            ({"dtype": "auto"}, "float32"),
            ({"dtype": [1]}, "float32"),
        ],
    )
    def test_is_what_the_checkpoint_says(self, folder, stated, expected):
        configured(**stated)(folder)
        assert precision_of(LLM(path=str(folder))) == expected
        assert precision_of(LLM(path=str(folder), dtype="tf32")) == "tf32"

    def test_is_that_of_the_weights_if_nothing_is_said(self, folder):
        configured(dtype=None)(folder)
        tensors(lambda state: state.update({key: value.bfloat16() for key, value in state.items()}))(folder)
        assert precision_of(LLM(path=str(folder))) == "bfloat16"
        model, _ = load(folder)
        assert model.dtype == torch.bfloat16

    def test_of_gguf_files_and_of_what_is_not_there(self, tmp_path):
        path = tmp_path / "tiny.gguf"
        _, weights = write_gguf(path)
        assert precision_of(LLM(path=str(path))) == "float32"
        assert size_of(path).values == sum(weight.size for weight in weights.values())
        assert memory.megabytes(LLM(path=str(path), dtype="float16")) == 1
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(UserError, match="tiny.gguf is no GGUF file, or cut off in its header"):
            size_of(path)
        path.write_text(POINTER)
        with pytest.raises(UserError, match="tiny.gguf is a Git LFS pointer"):
            size_of(path)
        assert precision_of(LLM(path=str(tmp_path / "none"))) == "float16"

    def test_weights_beyond_float16_are_named(self, folder):
        tensors(lambda state: state["model.norm.weight"].fill_(7e4))(folder)
        message = "weights of .* are not finite in float16: model.norm.weight.*set `llms.x.dtype: bfloat16`, or float32"
        with pytest.raises(UserError, match=message):
            load(folder, dtype="float16")
        assert load(folder, dtype="bfloat16")[0].dtype == torch.bfloat16

    def test_logits_beyond_float16_are_named_at_loading(self, folder):
        tensors(lambda state: [state[key].mul_(9e3) for key in ("model.norm.weight", "lm_head.weight")])(folder)
        with pytest.raises(UserError, match="llama in .* gives logits that are not numbers in float16.*dtype: bfloat1"):
            load(folder, dtype="float16")
        load(folder, dtype="float32")

    @pytest.mark.parametrize("options", [{}, {"stop_ids": {5}}, {"allowed_ids": [3, 4, 7]}, {"batch_size": 1}])
    def test_logits_that_are_not_numbers_decide_nothing(self, folder, options):
        model, _ = load(folder)
        with torch.no_grad():
            model.model.embed_tokens.weight[7] = torch.nan
        assert generate(model, [[8, 9], [10, 11, 12]], 1, **options)
        with pytest.raises(UserError, match="language model of .* gives logits that are not numbers in float32"):
            generate(model, [[8, 9], [10, 7, 12]], 3, **options)


class TestContext:
    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (LlamaConfig(max_position_embeddings=64), 64),
            (transformers.GPT2Config(n_positions=64), 64),
            (transformers.MptConfig(max_seq_len=64), 64),
            (transformers.OPTConfig(max_position_embeddings=64), 64),
            (transformers.MistralConfig(max_position_embeddings=64, sliding_window=8), 64),
            (transformers.BloomConfig(), None),
            (transformers.FalconConfig(alibi=True), None),
            (transformers.MambaConfig(), None),
            (transformers.Gemma3Config(text_config={"max_position_embeddings": 64}), 64),
            (transformers.LlavaConfig(text_config=LlamaConfig(max_position_embeddings=64)), 64),
        ],
        ids=lambda value: getattr(value, "model_type", str(value)),
    )
    def test_is_found_for_every_family(self, config, expected):
        assert context_of(config.to_dict()) == expected

    def test_grows_by_yarn(self):
        scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
        assert context_of({"max_position_embeddings": 32768, "rope_scaling": scaling}) == 131072
        assert context_of({"max_position_embeddings": 163840, "rope_parameters": scaling}) == 163840
        llama = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
        assert context_of({"max_position_embeddings": 131072, "rope_scaling": llama}) == 131072

    def test_of_a_model_of_text_and_pictures_is_kept(self, folder):
        text = {key: value for key, value in SIZES.items() if key != "num_attention_heads"}
        config = transformers.Gemma3Config(
            text_config=text | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
            vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
            | {"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
            image_token_index=299,
        )
        torch.manual_seed(0)
        transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
        model, _ = load(folder)
        prompt = list(range(3, 40))
        assert generate(model, [prompt, prompt[:5]], 3) == [naive(model, prompt, 3), naive(model, prompt[:5], 3)]
        with pytest.raises(UserError, match="prompt 0 has 62 tokens and 3 more may follow.*at most 64 tokens"):
            generate(model, [list(range(3, 65))], 3)


class TestSize:
    def test_is_that_of_the_headers(self, original, folder, tmp_path):
        model, _ = load(original)
        count = sum(weight.numel() for weight in model.parameters())
        for change in (lambda folder: None, in_shards):
            change(folder)
            assert weight_bytes(LLM(path=str(folder), dtype="float16")) == 2 * count
            assert weight_bytes(LLM(path=str(folder))) == 4 * count

    def test_of_pickled_weights_is_that_of_the_files(self, folder):
        as_bin(folder)
        size = (folder / "pytorch_model.bin").stat().st_size
        assert weight_bytes(LLM(path=str(folder))) == size
        assert weight_bytes(LLM(path=str(folder), dtype="bfloat16")) == -(-size // 2)

    def test_of_experts_before_the_weights_are_there(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps(MIXTRAL))
        assert parameters(MIXTRAL) == 46_702_792_704  # Mixtral-8x7B
        assert memory.megabytes(LLM(path=str(tmp_path))) == 93406
        assert memory.gpus(LLM(path=str(tmp_path)), 80000) == 2

    @pytest.mark.parametrize("content", ["[1]", "null", '{"hidden_size": null}', '{"hidden_size": [1]}', "{"])
    def test_of_a_config_that_says_nothing_is_not_known(self, tmp_path, content):
        (tmp_path / "config.json").write_text(content)
        assert memory.megabytes(LLM(path=str(tmp_path))) is None
