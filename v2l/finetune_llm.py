"""Stage finetune_llm: LoRA adapters with which a language model predicts masked local tokens (paper section 4.3).

Only steps and seeds decide the result: a run that was interrupted goes on from its newest checkpoint and ends in the
same adapter as one that was not. SIGTERM and SIGUSR2 interrupt it after the step under way, with a checkpoint and exit
status 75.
"""

import logging
import shutil
import time

import numpy as np
import torch

from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.configuration.slices import StageConfig
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.records import write_beside
from v2l.llm.code_ids import all_code_ids
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import MaskedPrompt
from v2l.pipeline.record import provenance
from v2l.pipeline.run_folder import run_folder
from v2l.pipeline.stage import run_stage
from v2l.runtime import rng
from v2l.tasks.token_maps import image_mask
from v2l.training.adapter_loop import tune
from v2l.training.adapter_tuner import AdapterTuner
from v2l.training.lora import with_adapter, write_adapter


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
    tuner = AdapterTuner(section, with_adapter(model, section.lora), MaskedPrompt(tokenizer), ids)
    tuner.require_context(tokens)
    held_out_masks = [
        image_mask(tokens.local_NL.shape[1], section.mask_share, config.seed, image_id)
        for image_id in tokens.image_id[held_out]
    ]
    maps = tokens.local_NL[training], tokens.local_NL[held_out], np.array(held_out_masks)
    started = time.monotonic()
    with run_folder(config, record) as folder:
        metrics = tune(tuner, *maps, config.seed, folder, name)
        write_adapter(tuner.model, outputs["adapter"], outputs["adapter_config"], record)
        with atomic_path(outputs["metrics"]) as temporary:
            temporary.write_text(metrics.text)
        write_beside(outputs["metrics"], record)
        shutil.rmtree(folder, ignore_errors=True)
    logging.info(
        "%s: %d steps on %d images in %.0f s; first line %s, last line %s",
        *(name, section.steps, len(training), time.monotonic() - started, metrics.lines[0], metrics.lines[-1]),
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


if __name__ == "__main__":
    run_stage(run)
