"""A frozen masked language model from a local Hugging Face folder, kept whole inside a tokenizer's weights."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from pathlib import Path
from typing import Any, Self

import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import logging

from v2l.errors import UserError, few
from v2l.io.file_kinds import kind_of
from v2l.io.pickles import BROKEN, unpicklable
from v2l.io.state_dicts import unused_layers
from v2l.memory_errors import is_out_of_memory

logging.disable_progress_bar()

KEY = "`language_model` of the tokenizer"
FAILURES = (*BROKEN, SafetensorError)


class FrozenMaskedLM(nn.Module):
    """The model without gradients and always in evaluation mode, with its masked-LM head if `has_head`.

    `mask_id`: the id of its mask token. Weights that the model ties (head and word embeddings) are stored once.
    """

    model: transformers.PreTrainedModel

    def __init__(self, model: transformers.PreTrainedModel, has_head: bool, mask_id: int):
        super().__init__()
        self.has_head, self.mask_id = has_head, mask_id
        self.model = model.float().requires_grad_(False).eval()
        body = model.base_model
        if getattr(body, "pooler", None) is not None:
            body.register_module("pooler", None)  # of no use here, and random where the checkpoint has none
        self.register_state_dict_post_hook(_leave_out_tied)
        self.register_load_state_dict_pre_hook(_add_tied)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UserError unless `folder` holds a masked language model with or without its head."""
        mask_id = load_lm_tokenizer(folder).mask_token_id
        for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
            if other := kind_of(path):
                raise _unreadable(folder, f"{path.name} is {other}")
        level = logging.get_verbosity()
        logging.set_verbosity_error()  # a missing head is no fault to warn of
        try:
            for kind in (transformers.AutoModelForMaskedLM, transformers.AutoModel):
                model, info = kind.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
                )
                missing = [key for key in sorted(info["missing_keys"]) if not key.startswith("pooler.")]
                if not missing and (left := unused_layers(model.base_model, info["unexpected_keys"])):
                    raise _unreadable(folder, f"config.json does not use weights {few(left)}")
                if not missing:
                    return cls(model, kind is transformers.AutoModelForMaskedLM, mask_id)
        except FAILURES as error:
            if is_out_of_memory(error):
                raise
            raise _unreadable(folder, error) from None
        finally:
            logging.set_verbosity(level)
        raise _unreadable(folder, f"lacks weights {', '.join(missing[:3])}")

    @classmethod
    def rebuild(cls, build: dict) -> Self:
        """The model of `build` with random weights."""
        config = transformers.AutoConfig.for_model(**build["config"])
        kind = transformers.AutoModelForMaskedLM if build["has_head"] else transformers.AutoModel
        return cls(kind.from_config(config, trust_remote_code=False), build["has_head"], build["mask_id"])

    @property
    def build(self) -> dict:
        """What `rebuild` needs, as plain JSON."""
        return {"config": self.model.config.to_dict(), "has_head": self.has_head, "mask_id": self.mask_id}

    @property
    def embedding_VD(self) -> Tensor:
        """The word embeddings."""
        return self.model.get_input_embeddings().get_parameter("weight")

    @property
    def positions(self) -> int | None:
        """The longest sequence that the model has positions for; None if it has no limit."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        offset = self.model.config.pad_token_id + 1 if self._skips_padding else 0
        return None if limit is None else limit - offset

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, vector_BLD: Tensor, ids_BL: Tensor, predict: bool = False) -> tuple[Tensor, Tensor | None]:
        """The last hidden state (float32 BLD) of embedded words, and the head's logits_BLV if `predict`.

        Models that count positions without padding tokens (RoBERTa) count those of `ids_BL` (released).
        """
        inputs = {"inputs_embeds": vector_BLD}
        if self._skips_padding:
            embeddings = self._embeddings
            inputs["position_ids"] = embeddings.create_position_ids_from_input_ids(ids_BL, embeddings.padding_idx)
        if not predict:
            return self.model.base_model(**inputs).last_hidden_state.float(), None
        output = self.model(**inputs, output_hidden_states=True)
        return output.hidden_states[-1].float(), output.logits.float()

    @property
    def _skips_padding(self) -> bool:
        return hasattr(self._embeddings, "create_position_ids_from_input_ids")

    @property
    def _embeddings(self) -> Any:
        return getattr(self.model.base_model, "embeddings", None)


def load_lm_tokenizer(folder: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of a masked language model; raises UserError if there is none or it has no mask token."""
    if not folder.is_dir():
        raise UserError(
            f"{KEY}: {folder} is not a folder",
            "a Hugging Face model folder (config.json, tokenizer, weights)",
            "run `snakemake fetch_assets`, or set the path to where the model lies",
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        raise _unreadable(folder, error) from None
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"{KEY}: the tokenizer of {folder} has no mask token",
            "a masked language model (BERT, RoBERTa)",
            "set the path to one",
        )
    return tokenizer


def lm_words(folder: Path) -> list[str]:
    """The text of every id that a masked language model embeds; empty where its tokenizer has no token."""
    ids = range(
        transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).vocab_size
    )
    return load_lm_tokenizer(folder).batch_decode([[number] for number in ids], clean_up_tokenization_spaces=False)


def _unreadable(folder: Path, problem: str | Exception) -> UserError:
    text = " ".join((problem if isinstance(problem, str) else unpicklable(problem)).split())[:300]
    return UserError(
        f"{KEY}: {folder} cannot be loaded ({text})",
        "a complete masked language model that transformers knows",
        "check that the folder is complete and undamaged",
    )


def _tied(module: FrozenMaskedLM, prefix: str) -> dict[str, str]:
    """State-dict keys of tied weights -> the key that holds the same weight."""
    return {
        f"{prefix}model.{key}": f"{prefix}model.{source}" for key, source in module.model.all_tied_weights_keys.items()
    }


def _leave_out_tied(module: FrozenMaskedLM, state: dict, prefix: str, metadata: dict) -> None:
    for key in _tied(module, prefix):
        state.pop(key, None)


def _add_tied(module: FrozenMaskedLM, state: dict, prefix: str, *_: object) -> None:
    for key, source in _tied(module, prefix).items():
        if source in state:
            state[key] = state[source]
