"""A frozen causal language model and its tokenizer from a local Hugging Face folder."""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from v2l.errors import UserError
from v2l.io.storage import parquet_facts
from v2l.llm.vocabulary import Words
from v2l.registries import LLM
from v2l.runtime import DTYPES
from v2l.runtime import device as default_device
from v2l.stage import Paths, StageConfig

logging.disable_progress_bar()

LAYOUT = {
    "config.json": ["config.json"],
    "tokenizer.json or tokenizer.model": ["tokenizer.json", "tokenizer.model"],
    "weights (*.safetensors or *.bin)": ["*.safetensors", "*.bin"],
}


def load_llm(name: str, entry: LLM, device: torch.device) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of registry entry `llms.<name>` in evaluation mode on `device`, and its tokenizer.

    Nothing is downloaded. Raises UserError when the folder or one of its parts is missing or unreadable, or when the
    tokenizer has ids that the model has no embedding for.
    """
    folder, key = Path(entry.path), f"`llms.{name}.path`"
    if not folder.is_dir():
        raise UserError(
            f"{key}: {folder} is not a folder",
            "a Hugging Face model folder (config.json, tokenizer, weights)",
            "run `snakemake fetch_assets`, or set the path to where the model lies",
        )
    missing = [part for part, patterns in LAYOUT.items() if not any(any(folder.glob(pattern)) for pattern in patterns)]
    if missing:
        raise UserError(
            f"{key}: {folder} has no {', no '.join(missing)}",
            "a Hugging Face model folder (config.json, tokenizer, weights)",
            "complete the folder, or convert the checkpoint to Hugging Face format",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=DTYPES[entry.dtype], output_loading_info=True
        )
        problem = f"lacks weights {', '.join(sorted(info['missing_keys'])[:3])}" if info["missing_keys"] else None
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        problem = " ".join(str(error).split())[:300] or type(error).__name__
    if problem:
        raise UserError(
            f"{key}: {folder} cannot be loaded ({problem})",
            "a complete causal language model that transformers knows",
            "check that the folder is complete and undamaged",
        )
    size, rows = max(tokenizer.get_vocab().values()) + 1, model.get_input_embeddings().num_embeddings
    if size > rows:
        raise UserError(
            f"{key}: the tokenizer of {folder} has {size} ids, the model embeds {rows}",
            "a tokenizer and a model of the same vocabulary",
            "take both from one release",
        )
    return model.to(device).eval().requires_grad_(False), tokenizer


def llm_of(config: StageConfig, inputs: Paths) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Words]:
    """Model, tokenizer and words of `job.predictor`, whose vocabulary must be that of the tokens."""
    name = config.job["predictor"]
    model, tokenizer = load_llm(name, config.llms[name], default_device())
    words = Words(tokenizer)
    for key in ("tokens", "vocabulary"):
        words.require(name, parquet_facts(inputs[key])["vocabulary"], inputs[key])
    return model, tokenizer, words
