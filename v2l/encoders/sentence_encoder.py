"""A sentence encoder of the transformers library whose sentences are the mean over its tokens' last hidden states."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from v2l.errors import UserError, few
from v2l.io.file_kinds import kind_of
from v2l.io.pickles import BROKEN, unpicklable
from v2l.io.state_dicts import unused_layers
from v2l.memory_errors import is_out_of_memory

logging.disable_progress_bar()
FAILURES = (*BROKEN, ImportError, SafetensorError)
WEIGHTS = ("*.safetensors", "*.bin")
POOLED = "pooling_mode_"
MEAN = "pooling_mode_mean_tokens"
# Parts of a sentence-transformers folder that are computed here; Normalize changes no direction.
KNOWN_PARTS = ("Transformer", "Pooling", "Normalize")
PROBES = ("a cat", "a dog that runs after a red ball")


def load_sentence_encoder(folder: Path, device: torch.device) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and frozen float32 model on `device`.

    Raises UserError unless all layers of the folder's weights are the model's and the other way round, it reads a text
    in both directions, and its sentences are means where the folder says how they are made.
    """
    _require_whole_files(folder)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # its report on weights that do not fit is judged below
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, info = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        raise _unfit(folder, f"cannot be loaded ({unpicklable(error)[:300]})") from None
    finally:
        logging.set_verbosity(level)
    if other := [f"{key}: {tuple(found)} for {tuple(wanted)}" for key, found, wanted in info["mismatched_keys"]]:
        raise _unfit(folder, f"has weights of other shapes than its config.json says ({few(sorted(other))})")
    if missing := [key for key in sorted(info["missing_keys"]) if not key.startswith("pooler.")]:
        raise _unfit(folder, f"cannot be loaded (lacks {few(missing)})")
    if left := unused_layers(model, info["unexpected_keys"]):
        raise _unfit(folder, f"has weights that its config.json does not use ({few(left)})")
    if len(tokenizer) > model.config.vocab_size:
        raise _unfit(folder, f"has a tokenizer of {len(tokenizer)} tokens, but a model of {model.config.vocab_size}")
    _require_mean_pooling(folder)
    model = model.eval().requires_grad_(False)
    _require_both_directions(folder, tokenizer, model)
    return tokenizer, model.to(device)


def longest_text(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Tokens that a text may have; models that count positions without padding (RoBERTa, MPNet) have some less."""
    embeddings: Any = getattr(model, "embeddings", None)
    offset = embeddings.padding_idx + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit - offset if isinstance(limit, int) and limit > 0 else tokenizer.model_max_length


def _require_whole_files(folder: Path) -> None:
    if not folder.is_dir():
        raise _unfit(folder, "is no folder")
    for path in sorted(path for pattern in WEIGHTS for path in folder.glob(pattern)):
        if kind := kind_of(path):
            raise _unfit(folder, f"cannot be loaded ({path.name} is {kind})")


def _require_mean_pooling(folder: Path) -> None:
    """As far as the folder says it: sentence-transformers writes modules.json and a folder for each part."""
    parts = _json(folder / "modules.json", [])
    names = [str(part.get("type", "")).rpartition(".")[2] for part in parts if isinstance(part, dict)]
    if other := [name for name in names if name not in KNOWN_PARTS]:
        raise _unfit(folder, f"has a part {', '.join(other)} behind its transformer (modules.json)")
    for path in sorted(folder.glob("*_Pooling/config.json")):
        said = _json(path, {})
        modes = [key.removeprefix(POOLED) for key, value in said.items() if key.startswith(POOLED) and value is True]
        if modes and modes != [MEAN.removeprefix(POOLED)]:
            raise _unfit(folder, f"makes a sentence by {', '.join(modes)} ({path.parent.name}/config.json)")


@torch.no_grad()
def _require_both_directions(folder: Path, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """In a causal model the first tokens do not know what follows: the mean over them is no sentence."""
    try:
        batch = tokenizer(list(PROBES), padding=True, truncation=True, max_length=16, return_tensors="pt")
        hidden_NTD: Tensor = model(**batch).last_hidden_state
    except (ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise _unfit(folder, f"does not encode a text ({' '.join(str(error).split())[:200]})") from None
    short, long = batch["input_ids"].tolist()
    if short[0] == long[0] and short != long and torch.allclose(hidden_NTD[0, 0], hidden_NTD[1, 0], atol=1e-6):
        raise _unfit(folder, "reads texts in one direction (a causal language model)")


def _json(path: Path, default: Any) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else default
    except (OSError, ValueError, RecursionError):
        found = default
    return found if isinstance(found, type(default)) else default


def _unfit(folder: Path, problem: str) -> UserError:
    return UserError(
        f"encoder key `text`: {folder} {problem}",
        "a Hugging Face folder with config, tokenizer and weights of one sentence encoder with mean pooling",
        "run fetch_assets again, or correct the path",
    )
