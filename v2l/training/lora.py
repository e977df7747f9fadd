"""LoRA adapters (Hu et al. 2021): put into a model, and written as the two files of a PEFT folder."""

import json
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from v2l.configuration.llm_finetuning import LoRA
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.records import write_beside
from v2l.io.storage import write_tensors

LINEAR = (nn.Linear, Conv1D)  # Conv1D: GPT-2's linear layers


def with_adapter(model: PreTrainedModel, lora: LoRA) -> PeftModel:
    """The frozen model with new adapters in float32: A drawn as in `torch.nn.Linear`, B zero (released).

    Raises UserError for a name of `lora.modules` that is no linear layer of the model, and a rank beyond a layer's.
    """
    _require_layers(model, lora)
    try:
        return get_peft_model(
            model,
            LoraConfig(
                task_type="CAUSAL_LM",
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.modules,
            ),
        )
    except ValueError as error:
        raise UserError(
            f"`finetune_llm.lora.modules` is {lora.modules} ({' '.join(str(error).split())[:200]})",
            "names of linear layers of the language model",
            "look at the names of its weights, and set the key",
        ) from None


def _require_layers(model: PreTrainedModel, lora: LoRA) -> None:
    """PEFT takes it for enough if one of the names is a layer, and gives any rank."""
    shapes = {name: layer.weight.shape for name, layer in model.named_modules() if isinstance(layer, LINEAR)}
    matched = {
        module: [name for name in shapes if name == module or name.endswith(f".{module}")] for module in lora.modules
    }
    if lacking := [module for module, names in matched.items() if not names]:
        raise UserError(
            f"`finetune_llm.lora.modules` is {lora.modules}, but the language model has no linear layer "
            f"{', '.join(map(repr, lacking))}",
            f"names of its linear layers: {', '.join(sorted({name.rpartition('.')[2] for name in shapes}))}",
            "take away what the model does not have, or name its own layers",
        )
    narrowest = min((name for names in matched.values() for name in names), key=lambda name: min(shapes[name]))
    if lora.rank > min(shapes[narrowest]):
        raise UserError(
            f"`finetune_llm.lora.rank` is {lora.rank}, but {narrowest} is a matrix of "
            f"{' x '.join(map(str, shapes[narrowest]))}",
            f"at most {min(shapes[narrowest])}",
            "lower the rank, or take that layer out of `finetune_llm.lora.modules`",
        )


def write_adapter(model: PeftModel, path: Path, config_path: Path, record: dict) -> None:
    """The files of a PEFT folder: adapter_model.safetensors and adapter_config.json, equal bytes for equal adapters."""
    write_tensors(path, get_peft_model_state_dict(model), record)
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    with atomic_path(config_path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")
    write_beside(config_path, record)
