"""Whether a loaded language model is what generation takes it for: finite and causal."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import math
import re
from typing import Any

import torch
import transformers
from torch import Tensor

from v2l.errors import UserError, few
from v2l.io.state_dicts import dimensions
from v2l.llm.model_facts import context_of
from v2l.llm.token_budget import input_device
from v2l.memory_errors import is_out_of_memory

# Tables that models compute themselves and that older files hold, too.
BUFFERS = re.compile(
    r"(^|\.)(inv_freq|masked_bias|position_ids|causal_mask|embed_positions\.weights|attn\.bias|attention\.bias"
    r"|rotary_emb\.(cos|sin)_cached|attn\.attention\.bias)$"
)
# Parts of models of text and pictures that their language model does without.
OTHER_SENSES = re.compile(r"(^|\.)(vision|visual|image|audio|speech|multi_modal|multimodal|mm)_?\w*\.")
PROBE_TOKENS = 6
# Largest difference of logits, in standard deviations of theirs: another order of sums makes less, another model more.
CAUSAL = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.05}
KIND = "a causal language model, which sees only what stands before a token, and continues from a cache"
OTHER = "choose another language model (docs/bring-your-own.md)"


def require_all_fit(info: dict[str, Any], key: str, path: object) -> None:
    """Raise UserError for weights that are lacking, of another shape, or left over; known buffers may be left over.

    `info` is what transformers says of a loading.
    """
    unexpected = info["unexpected_keys"]
    left = sorted(name for name in unexpected if not BUFFERS.search(name) and not OTHER_SENSES.search(name))
    others = f", and has others: {few(left)}" if left else ""
    shapes = [
        f"{name} is {dimensions(found)} where the model has {dimensions(own)}"
        for name, found, own in sorted(info["mismatched_keys"])
    ]
    if missing := sorted(info["missing_keys"] - {name for name, *_ in info["mismatched_keys"]}):
        problem = f"lacks weights {few(missing)}{others}"
    elif shapes:
        problem = f"has weights of other shapes: {few(shapes)}"
    elif left:
        problem = f"has {len(left)} weights that its architecture does not take: {few(left)}"
    else:
        return
    raise UserError(
        f"{key}: {path} {problem}",
        "weights and a config.json that belong together",
        "correct `architectures` and `model_type` in config.json, or take all files from one release",
    )


def require_finite_weights(model: transformers.PreTrainedModel, key: str) -> None:
    """Raise UserError for weights that are not finite. Every weight that is in memory is read once."""
    names, bounds = [], []
    for name, weight in model.named_parameters():
        if weight.device.type != "meta" and weight.is_floating_point() and weight.numel():
            names.append(name)
            bounds.append(torch.stack(weight.detach().aminmax()).float().cpu())
    broken = [name for name, bound in zip(names, bounds, strict=True) if not bool(bound.isfinite().all())]
    if broken:
        raise UserError(
            f"{key}: weights of {model.config.name_or_path} are not finite in {_dtype(model)}: {few(broken)}",
            "finite numbers",
            _remedy(model, key),
        )


@torch.inference_mode()
def require_causal(model: transformers.PreTrainedModel, key: str) -> None:
    """Raise UserError for a model whose logits depend on later tokens or are not finite.

    Costs a pass of two rows of six tokens.
    """
    what = described(model, key)
    last = min(PROBE_TOKENS, context_of(model.config.to_dict()) or PROBE_TOKENS) - 1
    if last < 2:
        raise UserError(f"{what} has a context of {last + 1} tokens", "room for a prompt", OTHER)
    size = model.get_input_embeddings().get_parameter("weight").shape[0]
    row_T = torch.arange(1, last + 3) * max(1, size // (last + 4)) % size
    ids_2T = torch.stack([row_T[:-1], torch.cat([row_T[: last - 1], row_T[-2:]])]).to(input_device(model))
    try:
        whole_2TV = model(input_ids=ids_2T, use_cache=False).logits.float()
    except Exception as error:  # whatever a model's own code raises
        if is_out_of_memory(error):
            raise
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{what} cannot read six tokens ({text})", KIND, OTHER) from None
    if not bool(whole_2TV.isfinite().any(-1).all() and not whole_2TV.isnan().any()):
        raise UserError(
            f"{what} gives logits that are not numbers in {_dtype(model)}", "finite logits", _remedy(model, key)
        )
    if logit_difference(whole_2TV[0, : last - 1], whole_2TV[1, : last - 1]) > CAUSAL[model.dtype]:
        raise UserError(f"{what} is not causal: a later token changes what it says of earlier ones", KIND, OTHER)


def described(model: transformers.PreTrainedModel, key: str) -> str:
    """A model as messages name it."""
    return f"{key}: {model.config.model_type} in {model.config.name_or_path}"


def require_logits(is_finite: bool, model: transformers.PreTrainedModel) -> None:
    """Raise UserError if logits that were to decide a token were not finite."""
    if not is_finite:
        raise UserError(
            f"the language model of {model.config.name_or_path} gives logits that are not numbers in {_dtype(model)}",
            "finite logits",
            _remedy(model, "llms.<name>.path"),
        )


def logit_difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of logits in standard deviations of those that are wanted; infinite for NaN."""
    both = wanted.isfinite() & (found.isfinite() | found.isnan())
    difference = float((found - wanted)[both].abs().max() / wanted[both].std().clamp(min=1e-6))
    return torch.inf if math.isnan(difference) else difference


def _dtype(model: transformers.PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _remedy(model: transformers.PreTrainedModel, key: str) -> str:
    entry = key.strip("`").removesuffix(".path")
    if model.dtype == torch.float16:
        return f"set `{entry}.dtype: bfloat16`, or float32: float16 ends at 65504"
    return "get the weights again: they are damaged"
