"""A frozen causal language model and its tokenizer from a local Hugging Face folder or GGUF file."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
import transformers
from transformers.utils import logging

from v2l.configuration.model_entries import LLM
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.pickles import unpicklable
from v2l.io.records import require_recorded
from v2l.io.storage import parquet_metadata, tensor_metadata
from v2l.llm.folder_checks import require_model
from v2l.llm.load_checks import OTHER, require_all_fit, require_causal, require_finite_weights
from v2l.llm.model_facts import precision_of
from v2l.llm.row_layout import require_steps
from v2l.llm.tokenizer_files import loading_options
from v2l.llm.vocabulary import Vocabulary
from v2l.llm.weight_headers import read_object
from v2l.memory_errors import is_out_of_memory
from v2l.precision import WEIGHTS, backward_of, computed_in
from v2l.runtime import device as default_device

logging.disable_progress_bar()


def load_llm(
    name: str,
    entry: LLM,
    device: torch.device,
    device_map: str = "",
    offload: Path | None = None,
    adapter: Path | None = None,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """The model of registry entry `llms.<name>` in evaluation mode on `device`, and its tokenizer.

    `entry.path` is a folder or a GGUF file, whose weights are expanded to its precision. `device_map` spreads the
    layers over devices instead: auto, balanced, sequential, or the path of a JSON object (part of the model -> device,
    cpu or disk); what goes to disk is kept in `offload`. `adapter` is a PEFT folder whose layers are put into the
    model, in float32 and not merged: bfloat16 weights would round them away. Nothing is downloaded.

    Raises UserError when the path or a part of the folder is missing or unreadable, when weights are missing, left
    over or not finite, when the device map cannot be followed, when the tokenizer has ids that the model has no
    embedding for, when the adapter does not fit, or when the model is none that generation can use (`load_checks`).
    """
    path, key = Path(entry.path), f"`llms.{name}.path`"
    require_model(path, key)
    precision = precision_of(entry)
    folder, options = loading_options(path)
    placed = {"device_map": _device_map(device_map), "offload_folder": offload} if device_map else {}
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is refused below
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            dtype=WEIGHTS[precision],
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **options,
            **placed,
        )
    except Exception as error:  # transformers raises whatever the files of users bring about
        if is_out_of_memory(error):
            raise
        raise _unloadable(error, path, key, device_map) from None
    finally:
        logging.set_verbosity(level)
    model, info = loaded
    require_all_fit(info, key, path)
    size, rows = max(tokenizer.get_vocab().values()) + 1, model.get_input_embeddings().num_embeddings
    if size > rows:
        raise UserError(
            f"{key}: the tokenizer of {path} has {size} ids, the model embeds {rows}",
            "a tokenizer and a model of the same vocabulary",
            "take both from one release",
        )
    model = model.eval().requires_grad_(False)
    model = model if device_map else model.to(device)
    if adapter is not None:
        model = _with_adapter(model, adapter, key).eval().requires_grad_(False)
    require_finite_weights(model, key)
    model.forward = computed_in(backward_of(precision))(model.forward)
    require_causal(model, key)
    require_steps(model, key)
    return model, tokenizer


def _unloadable(problem: BaseException, path: Path, key: str, device_map: str) -> UserError:
    """The error of a model that transformers does not load; of its advice, only what is safe is repeated."""
    remedy = "check that it is complete and undamaged"
    whole = " ".join(str(problem).split())
    text = whole[:300] or type(problem).__name__
    if isinstance(problem, RecursionError):
        text, remedy = (
            "its files refer to each other without end",
            "take its tokenizer and config.json from one release",
        )
    elif isinstance(problem, UnpicklingError) or "weights_only" in whole:
        text, remedy = "its weights are damaged, or Python code and not only numbers", "take a release in safetensors"
    elif "trust_remote_code" in whole:
        text, remedy = "it needs Python code of its own (auto_map), which is not executed", OTHER
    elif "Unrecognized configuration class" in whole:
        text, remedy = "transformers knows its kind, but not as a causal language model", OTHER
    elif "does not recognize this architecture" in whole or "Unrecognized model" in whole:
        known, remedy = f"none that transformers {transformers.__version__} knows", OTHER
        text = f"`model_type` of its config.json is {read_object(path / 'config.json').get('model_type')!r}, {known}"
    elif "backend tokenizer" in whole:
        text = "its files do not say which kind of tokenizer they are of"
        remedy = "add tokenizer.json, or `tokenizer_class` to tokenizer_config.json"
    elif not isinstance(problem, OSError | ValueError):
        text = f"{type(problem).__name__}: {text}"
    where = f" with device map {device_map}" if device_map else ""
    return UserError(
        f"{key}: {path} cannot be loaded{where} ({text})",
        "a complete causal language model that transformers knows",
        remedy + (", or correct resource `device_map`" if device_map else ""),
    )


def _device_map(text: str) -> str | dict[str, str | int]:
    if not text.endswith(".json"):
        return text
    try:
        return json.loads(Path(text).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"resource `device_map` of evaluate_llm: {text} cannot be read ({error})",
            "a JSON object: part of the model -> device",
            "correct the profile or the file",
        ) from None


def _with_adapter(model: transformers.PreTrainedModel, adapter: Path, key: str) -> transformers.PreTrainedModel:
    from peft import PeftModel  # takes seconds that models without an adapter can spare

    tensor_metadata(adapter / "adapter_model.safetensors")  # refuses a damaged file by name
    require_recorded(adapter / "adapter_config.json")
    try:
        return cast(transformers.PreTrainedModel, PeftModel.from_pretrained(model, str(adapter)).get_base_model())
    except Exception as error:  # as of the model: whatever the files bring about
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"the adapter in {adapter} cannot be put into the model of {key} ({_adapter_problem(error)})",
            "a PEFT folder (adapter_config.json, adapter_model.safetensors) made for this model",
            "delete the folder and run finetune_llm again",
        ) from None


def llm_of(
    config: StageConfig, inputs: Inputs, dtype: str | None = None
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase, Vocabulary]:
    """Model, tokenizer and words of `job.predictor`, whose vocabulary must be that of the tokens.

    With an input `adapter`, a file of a PEFT folder, the model has that adapter. `dtype` overrides the registry's.
    """
    name = config.job["predictor"]
    entry = config.llms[name]
    if dtype:
        entry = entry.model_copy(update={"dtype": dtype})
    adapter = inputs["adapter"].parent if "adapter" in inputs else None
    offload = Path(config.job["work"]) / "offload" if "work" in config.job else None
    model, tokenizer = load_llm(name, entry, default_device(), config.machine.get("device_map", ""), offload, adapter)
    words = Vocabulary(tokenizer)
    for key in ("tokens", "vocabulary"):
        words.require(name, parquet_metadata(inputs[key])["vocabulary"], inputs[key])
    return model, tokenizer, words


def _adapter_problem(error: Exception) -> str:
    whole = " ".join(str(error).split())
    return unpicklable(error) if "weights_only" in whole else whole[:300]
