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


def load_llm(
    name: str, entry: LLM, device: torch.device, adapter: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of registry entry `llms.<name>` in evaluation mode on `device`, and its tokenizer.

    `adapter` is a PEFT folder whose layers are put into the model, in float32 and not merged: bfloat16 weights would
    round them away. Nothing is downloaded. Raises UserError when the folder or one of its parts is missing or
    unreadable, when the tokenizer has ids that the model has no embedding for, or when the adapter does not fit.
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
    if adapter is not None:
        model = _with_adapter(model, adapter, key)
    return model.to(device).eval().requires_grad_(False), tokenizer


def _with_adapter(model: PreTrainedModel, adapter: Path, key: str) -> PreTrainedModel:
    from peft import PeftModel  # takes seconds that models without an adapter can spare

    try:
        return PeftModel.from_pretrained(model, str(adapter)).get_base_model()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the adapter in {adapter} cannot be put into the model of {key} ({' '.join(str(error).split())[:300]})",
            "a PEFT folder (adapter_config.json, adapter_model.safetensors) made for this model",
            "delete the folder and run finetune_llm again",
        ) from None


def llm_of(
    config: StageConfig, inputs: Paths, dtype: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Words]:
    """Model, tokenizer and words of `job.predictor`, whose vocabulary must be that of the tokens.

    With an input `adapter`, a file of a PEFT folder, the model has that adapter. `dtype` overrides the registry's.
    """
    name = config.job["predictor"]
    entry = config.llms[name]
    if dtype:
        entry = entry.model_copy(update={"dtype": dtype})
    adapter = inputs["adapter"].parent if "adapter" in inputs else None
    model, tokenizer = load_llm(name, entry, default_device(), adapter)
    words = Words(tokenizer)
    for key in ("tokens", "vocabulary"):
        words.require(name, parquet_facts(inputs[key])["vocabulary"], inputs[key])
    return model, tokenizer, words
