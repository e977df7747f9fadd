"""LoRA adapters (Hu et al. 2021): put into a model, and written as the two files of a PEFT folder."""

import json
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import PreTrainedModel

from v2l.configuration.llm_finetuning import LoRA
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.provenance import write_beside
from v2l.io.storage import write_tensors


def with_adapter(model: PreTrainedModel, lora: LoRA) -> PeftModel:
    """The frozen model with new adapters in float32: A drawn as in `torch.nn.Linear`, B zero (released)."""
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


def write_adapter(model: PeftModel, path: Path, config_path: Path, record: dict) -> None:
    """The files of a PEFT folder: adapter_model.safetensors and adapter_config.json, equal bytes for equal adapters."""
    write_tensors(path, get_peft_model_state_dict(model), record)
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    with atomic_path(config_path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")
    write_beside(config_path, record)
