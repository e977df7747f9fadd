"""Whether a path holds a language model that can be loaded: asked before anything is loaded, and said by name."""

from pathlib import Path
from typing import Any

from v2l.errors import UserError
from v2l.io.file_kinds import POINTER, kind_of
from v2l.llm.model_facts import text_part
from v2l.llm.weight_headers import gguf_size, read_object, require_weights_whole, weight_files

# Each line is one way to have a tokenizer.
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("vocab.txt",),
)
JSON_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "generation_config.json", "added_tokens.json"),
    "special_tokens_map.json",
)
EXPECTED = "a Hugging Face model folder (config.json, tokenizer, weights)"
# Settings of quantised checkpoints beside config.json, and the library that writes them.
QUANTISED = {"quantize_config.json": "gptq", "quant_config.json": "awq"}


def require_model(path: Path, key: str) -> None:
    """Raise UserError that says why `path`, which config key `key` names, is no causal language model's folder or file.

    Weights are not read, but for their headers.
    """
    try:
        _require_model(path, key)
    except UserError as error:
        if error.problem.startswith(key):
            raise
        raise UserError(f"{key}: {error.problem}", error.expected, error.remedy) from None


def _require_model(path: Path, key: str) -> None:
    if path.suffix == ".gguf" and path.is_file():
        gguf_size(path)
        return
    if not path.is_dir():
        raise UserError(
            f"{key}: {path} is not a folder",
            f"{EXPECTED} or a .gguf file",
            "run `snakemake fetch_assets`, or set the path to where the model lies",
        )
    _require_parts(path, key)
    config = read_object(path / "config.json")
    _require_plain(path, key, config)
    for name in JSON_FILES:
        if (path / name).exists():
            read_object(path / name)
    for name in {name for files in TOKENIZERS for name in files if (path / name).is_file()}:
        with open(path / name, "rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise UserError(f"{key}: {path / name} is {kind_of(path / name)}", EXPECTED, "get the file itself")
    require_weights_whole(path, key)


def _require_parts(folder: Path, key: str) -> None:
    """Raise UserError for a folder that lacks a part of a model, or is that of something else."""
    has_config = (folder / "config.json").exists()
    if not has_config and (folder / "adapter_config.json").exists():
        base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
        raise UserError(
            f"{key}: {folder} is a PEFT adapter{f' of {base}' if base else ''}, not a language model",
            EXPECTED,
            "set the path to the model, or merge the adapter into it (`merge_and_unload` of PEFT) and save the result",
        )
    pieces = [*folder.glob("consolidated*.pth"), *folder.glob("consolidated*.safetensors")]
    if pieces and not (has_config and weight_files(folder)):
        raise UserError(
            f"{key}: {folder} has the publisher's own format ({pieces[0].name}"
            f"{', params.json' if (folder / 'params.json').exists() else ''})",
            EXPECTED,
            "convert the checkpoint to Hugging Face format with transformers' script for its family, or take that "
            "release",
        )
    files = sorted(folder.glob("*.gguf"))
    if files and not has_config:
        raise UserError(f"{key}: {folder} holds GGUF files", EXPECTED, f"name the file itself: {files[0]}")
    if not has_config and (inner := sorted(found.parent for found in folder.glob("*/config.json"))):
        raise UserError(f"{key}: {folder} has no config.json", EXPECTED, f"name the folder of the model: {inner[0]}")
    found = {
        "config.json": has_config,
        "tokenizer.json or tokenizer.model (or vocab.json with merges.txt)": any(
            all((folder / name).exists() for name in files) for files in TOKENIZERS
        ),
        "weights (model.safetensors or pytorch_model.bin, or their index.json)": bool(weight_files(folder)),
    }
    if missing := [part for part, is_there in found.items() if not is_there]:
        raise UserError(
            f"{key}: {folder} has no {', no '.join(missing)}",
            EXPECTED,
            "complete the folder, or convert the checkpoint to Hugging Face format",
        )


def _require_plain(folder: Path, key: str, config: dict[str, Any]) -> None:
    """Raise UserError for a model that its config.json says to be quantised, or no decoder alone."""
    if method := _quantisation(folder, config):
        raise UserError(
            f"{key}: the weights in {folder} are quantised ({method})",
            "weights in float32, bfloat16 or float16, or a .gguf file, whose weights are expanded",
            "take the release that is not quantised",
        )
    if config.get("is_encoder_decoder") is True:
        raise UserError(
            f"{key}: {folder} holds a model of an encoder and a decoder ({config.get('model_type')})",
            "a causal language model, a decoder alone (LLaMA, Mistral, Qwen, Gemma, GPT-2)",
            "choose such a model",
        )


def _quantisation(folder: Path, config: dict[str, Any]) -> str | None:
    for part in (config, text_part(config)):
        for name in ("quantization_config", "compression_config"):
            settings = part.get(name)
            if settings:
                method = settings.get("quant_method") or _bits(settings) if isinstance(settings, dict) else None
                return f"{name}: {method or 'of an unknown kind'}"
    return next((f"{file}: {method}" for file, method in QUANTISED.items() if (folder / file).exists()), None)


def _bits(settings: dict[str, Any]) -> str | None:
    return "bitsandbytes" if settings.get("load_in_8bit") or settings.get("load_in_4bit") else None
