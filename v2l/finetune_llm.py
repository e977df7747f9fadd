"""Stage finetune_llm: LoRA adapters with which a language model predicts masked local tokens (paper section 4.3).

Only steps and seeds decide the result: a run that was interrupted goes on from its newest checkpoint and ends in the
same adapter as one that was not. Shape suffixes: M images of a micro-batch, L map positions, T prompt ids, V codes.
"""

import json
import logging
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from v2l.configuration.llm_finetuning import FinetuneLLM, LoRA
from v2l.configuration.slices import StageConfig
from v2l.data.token_table import Tokens
from v2l.errors import UserError, check_finite
from v2l.io.atomic import atomic_path
from v2l.io.canonical import canonical_json
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.io.storage import write_tensors
from v2l.llm.code_ids import all_code_ids
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import MaskedPrompt
from v2l.pipeline.record import provenance, run_key
from v2l.pipeline.stage import run_stage
from v2l.runtime import rng
from v2l.tasks.token_maps import image_mask, random_mask
from v2l.training.schedule import learning_rate
from v2l.training.training_images import BatchOrder

REMEDY = "lower `finetune_llm.learning_rate`, or use precision float32"


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """inputs tokens, vocabulary; job tokenizer, predictor, work -> adapter and adapter_config (a PEFT folder), metrics.

    Metrics are JSON lines: the held-out loss and accuracy before training, beside those of the training images' code
    frequencies; means over the steps since the last line; held-out loss and accuracy after training. Losses are cross
    entropies over the codebook in nats a token. Checkpoints stand in a folder of `job.work` named by the hash of
    configuration and inputs; it goes when the adapter is written. Raises UserError for too few images, a prompt beyond
    the model's context, layers that the model does not have, and a loss that is not finite.
    """
    section, name = config.finetune_llm, config.job["predictor"]
    record = provenance(config, inputs)
    model, tokenizer, words = llm_of(config, inputs, section.precision)
    tokens = Tokens.read(inputs["tokens"])
    training, held_out = split(tokens, section, config.seed)
    ids = all_code_ids(tokens.tokenizer, words, inputs["vocabulary"])
    torch.manual_seed(int(rng(config.seed, "finetune_llm").integers(2**63)))
    tuner = Tuner(section, with_adapter(model, section.lora), MaskedPrompt(tokenizer), ids)
    tuner.require_context(tokens)
    held_out_masks = [
        image_mask(tokens.local_NL.shape[1], section.mask_share, config.seed, name)
        for name in tokens.image_id[held_out]
    ]
    held_out_NL, held_out_masked_NL = tokens.local_NL[held_out], np.array(held_out_masks)

    folder = Path(config.job["work"]) / run_key(config, record)
    started = time.monotonic()
    state = newest_checkpoint(folder) or {"step": 0, "lines": [], "window": []}
    if "tuner" in state:
        tuner.load_state_dict(state["tuner"])
        logging.info("%s: resumed before step %d of %d", name, state["step"], section.steps)
    elif len(held_out):
        before = tuner.measure(held_out_NL, held_out_masked_NL)
        before |= frequencies(tokens.local_NL[training], held_out_NL[held_out_masked_NL], len(ids))
        state["lines"].append(canonical_json({"step": 0} | before))
    lines = train(tuner, tokens.local_NL[training], config.seed, folder, state, name)
    if len(held_out):
        lines.append(canonical_json({"step": section.steps} | tuner.measure(held_out_NL, held_out_masked_NL)))
    write_adapter(tuner.model, outputs["adapter"], outputs["adapter_config"], record)
    with atomic_path(outputs["metrics"]) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines))
    write_beside(outputs["metrics"], record)
    shutil.rmtree(folder, ignore_errors=True)
    logging.info(
        "%s: %d steps on %d images in %.0f s; first line %s, last line %s",
        *(name, section.steps, len(training), time.monotonic() - started, lines[0], lines[-1]),
    )


def split(tokens: Tokens, section: FinetuneLLM, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the held-out images, drawn with the seed."""
    images = len(tokens.image_id)
    if images < section.batch_size + section.held_out_images:
        raise UserError(
            f"sample `finetuning` has {images} images, of which `finetune_llm.held_out_images` = "
            f"{section.held_out_images} are not trained on",
            f"at least `finetune_llm.batch_size` = {section.batch_size} images for training",
            "raise `samples.finetuning.images`, or lower one of the two",
        )
    order = rng(seed, "finetuning split").permutation(images)
    return np.sort(order[section.held_out_images :]), np.sort(order[: section.held_out_images])


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


class Tuner:
    """A model with adapters and their optimizer; `ids_V` are the model's ids of the codes."""

    def __init__(self, section: FinetuneLLM, model: PeftModel, prompt: MaskedPrompt, ids_V: np.ndarray):
        self.section, self.model, self.prompt, self.ids_V = section, model, prompt, ids_V
        self.columns_V = torch.from_numpy(ids_V).to(model.device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        settings = {"lr": section.learning_rate, "betas": section.betas, "weight_decay": section.weight_decay}
        self.optimizer = torch.optim.AdamW(self.trained, **settings)

    def require_context(self, tokens: Tokens) -> None:
        """Raise UserError if a map and its repetition exceed the model's context; all prompts are equally long."""
        length = len(self._ids(tokens.local_NL[0], np.zeros_like(tokens.local_NL[0], dtype=bool)))
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and length > context:
            raise UserError(
                f"the prompt of image {tokens.image_id[0]} has {length} tokens",
                f"at most {context}, the context of {self.model.config.name_or_path or 'the language model'}",
                MaskedPrompt.REMEDY,
            )

    def step(self, step: int, local_BL: np.ndarray, seed: int) -> dict[str, float]:
        """One update on the codes of a batch; masks and dropout come from seed and step alone."""
        generator = rng(seed, "finetuning step", step)
        torch.manual_seed(int(generator.integers(2**63)))
        length = local_BL.shape[1]
        masked_BL = np.stack([random_mask(length, self.section.mask_share, generator) for _ in local_BL])
        rate = learning_rate(self.section, step, self.section.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = right = 0.0
        for rows in self._micro_batches(len(local_BL)):
            part, hits = self._loss(local_BL[rows], masked_BL[rows])
            (part / masked_BL.sum()).backward()
            loss, right = loss + part.item(), right + hits
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.section.max_gradient_norm)
        self.optimizer.step()
        count = int(masked_BL.sum())
        return {"loss": loss / count, "accuracy": right / count, "gradient_norm": norm.item(), "learning_rate": rate}

    @torch.no_grad()
    def measure(self, local_NL: np.ndarray, masked_NL: np.ndarray) -> dict[str, float]:
        """Loss and accuracy of masked tokens when everything before each of them is given."""
        self.model.eval()
        parts = [self._loss(local_NL[rows], masked_NL[rows]) for rows in self._micro_batches(len(local_NL))]
        loss, right = sum(part.item() for part, _ in parts), sum(hits for _, hits in parts)
        return {"held_out_loss": loss / masked_NL.sum(), "held_out_accuracy": right / masked_NL.sum()}

    def _loss(self, local_ML: np.ndarray, masked_ML: np.ndarray) -> tuple[Tensor, int]:
        """Summed cross entropy of the masked codes among all codes, and how many are the likeliest."""
        prompts = [self._ids(local_L, masked_L) for local_L, masked_L in zip(local_ML, masked_ML, strict=True)]
        token_MT = torch.tensor(prompts, device=self.model.device)
        # the id at a position is predicted by the output before it: the last L outputs but one are the second map's
        length = local_ML.shape[1]
        logits_MLV = self.model(input_ids=token_MT[:, :-1], use_cache=False, logits_to_keep=length).logits
        where_ML = torch.from_numpy(masked_ML).to(logits_MLV.device)
        logits_NV = logits_MLV[where_ML][:, self.columns_V].float()
        target_N = torch.from_numpy(local_ML[masked_ML]).to(logits_NV.device)
        hits = (logits_NV.argmax(1) == target_N).sum()
        return F.cross_entropy(logits_NV, target_N, reduction="sum"), int(hits)

    def _ids(self, local_L: np.ndarray, masked_L: np.ndarray) -> list[int]:
        return self.prompt.ids(self.ids_V[local_L], masked_L, len(local_L))

    def _micro_batches(self, images: int) -> list[slice]:
        size = self.section.micro_batch_size
        return [slice(start, start + size) for start in range(0, images, size)]

    def state_dict(self) -> dict:
        """Adapters and optimizer."""
        return {"adapter": get_peft_model_state_dict(self.model), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        set_peft_model_state_dict(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])


def train(tuner: Tuner, local_NL: np.ndarray, seed: int, folder: Path, state: dict, name: str) -> list[str]:
    """All steps from `state` on (step, lines, window: values since the last line); returns the metrics' lines."""
    section, lines, window = tuner.section, list(state["lines"]), list(state["window"])
    order = BatchOrder(seed, len(local_NL), section.batch_size, state["step"], section.steps)
    progress = tqdm(order, f"finetune {name}", section.steps, initial=state["step"], disable=None)
    for step, places in enumerate(progress, start=state["step"]):
        window.append(tuner.step(step, local_NL[np.array(places) % len(local_NL)], seed))
        check_finite(f"fine-tuning of {name}", step, window[-1], REMEDY)
        last = step == section.steps - 1
        if (step + 1) % section.log_every == 0 or last:
            means = {key: sum(values[key] for values in window) / len(window) for key in window[0]}
            lines.append(canonical_json({"step": step + 1} | means))
            window.clear()
        if (step + 1) % section.checkpoint_every == 0 and not last:
            state = {"tuner": tuner.state_dict(), "step": step + 1, "lines": lines, "window": window}
            save_checkpoint(folder, step + 1, state)
    return lines


def frequencies(training_NL: np.ndarray, target_N: np.ndarray, codes: int) -> dict[str, float]:
    """What the training images' code frequencies (plus one) alone would reach on held-out tokens, and pure chance."""
    count_V = np.bincount(training_NL.ravel(), minlength=codes) + 1
    share_V = count_V / count_V.sum()
    return {
        "frequency_loss": float(-np.log(share_V[target_N]).mean()),
        "frequency_accuracy": float((target_N == count_V.argmax()).mean()),
        "chance_loss": math.log(codes),
    }


def write_adapter(model: PeftModel, path: Path, config_path: Path, record: dict) -> None:
    """The files of a PEFT folder: adapter_model.safetensors and adapter_config.json, equal bytes for equal adapters."""
    write_tensors(path, get_peft_model_state_dict(model), record)
    settings = model.peft_config["default"].to_dict() | {"inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    with atomic_path(config_path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")
    write_beside(config_path, record)


if __name__ == "__main__":
    run_stage(run)
