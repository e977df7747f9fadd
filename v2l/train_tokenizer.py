"""Stage train_tokenizer: train one tokenizer variant on a data set (paper section 3.3).

Only steps and seeds decide the result: a run that was interrupted goes on from its newest checkpoint and ends in the
same weights as one that was not.
"""

import json
import logging
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.config import TrainTokenizer, canonical_json
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.provenance import provenance, run_key, write_beside
from v2l.io.storage import read_tensors
from v2l.loading import load_features
from v2l.manifest import Manifest
from v2l.metrics.lpips_network import load_lpips
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.tokenizer import VisionTokenizer
from v2l.runtime import device, rng
from v2l.stage import Paths, StageConfig, run_stage
from v2l.training.data import BatchOrder, TrainingImages, loader
from v2l.training.trainer import Trainer
from v2l.training.window import Window


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """inputs manifest, features, codebook; job tokenizer, work -> weights, metrics (one JSON line per `log_every`).

    Checkpoints stand in a folder of `job.work` named by the hash of configuration and inputs, so that a changed run
    never continues an old one; the folder goes when the weights are written. Raises UserError for a split without
    images, inputs that do not fit together, a batch larger than the data, and a loss that is not finite.
    """
    section, name = config.train_tokenizer, config.job["tokenizer"]
    record = provenance(config, inputs)
    manifest = Manifest.read(inputs["manifest"])
    rows = training_rows(manifest, section)
    feature_ND, codebook = training_inputs(manifest, inputs)
    steps = section.max_steps or section.epochs * (len(rows) // section.global_batch_size)

    torch.manual_seed(int(rng(config.seed, "train_tokenizer").integers(2**63)))
    tokenizer = VisionTokenizer(
        name,
        config.tokenizers[name].method,
        section.network,
        section.global_tokens,
        codebook["local_VD"],
        codebook["global_VD"],
    ).to(device())
    perceptual = None
    if section.loss.perceptual:
        perceptual = PerceptualLoss(load_lpips("vgg", Path(section.loss.perceptual_weights))).to(device())
    trainer = Trainer(section, tokenizer, Discriminator(section.network).to(device()), perceptual, steps)
    images = TrainingImages(manifest, rows, section.network)

    folder = Path(config.job["work"]) / run_key(config, record)
    started = time.monotonic()
    lines = train(trainer, images, feature_ND[rows], config.seed, folder)
    tokenizer.save(outputs["weights"], record)
    with atomic_path(outputs["metrics"]) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines))
    write_beside(outputs["metrics"], record)
    shutil.rmtree(folder, ignore_errors=True)
    last = json.loads(lines[-1])
    logging.info(
        "%s: %d steps on %d images in %.0f s, L1 %.3f, %d codes in use",
        *(name, steps, len(rows), time.monotonic() - started, last["pixel"], last["codes_used"]),
    )


def train(trainer: Trainer, images: TrainingImages, feature_ND: Tensor, seed: int, folder: Path) -> list[str]:
    """All steps that no checkpoint of `folder` holds; returns the lines of the metrics file.

    `feature_ND` has one row per image of `images`. Of an interrupted run everything up to the newest checkpoint counts.
    """
    config, tokenizer = trainer.config, trainer.tokenizer
    target = next(tokenizer.parameters()).device
    window, lines, first_step = Window(tokenizer.local_size), [], 0
    state = newest_checkpoint(folder)
    if state:
        trainer.load_state_dict(state["trainer"])
        window.load_state_dict(state["window"])
        lines, first_step = state["lines"], state["step"]
        logging.info("%s: resumed before step %d of %d", tokenizer.name, first_step, trainer.steps)
    order = BatchOrder(seed, len(images), config.global_batch_size, first_step, trainer.steps)
    progress = tqdm(loader(images, order), tokenizer.name, trainer.steps, initial=first_step, disable=None)
    for step, (pixels_BCHW, index_B) in enumerate(progress, start=first_step):
        image_BCHW = pixels_BCHW.to(target).float() / 127.5 - 1
        ids_BK = tokenizer.global_ids(feature_ND[index_B].to(target)) if tokenizer.has_global else None
        losses, ids_BL = trainer.step(step, image_BCHW, ids_BK)
        check_finite(tokenizer.name, step, losses)
        window.add(losses, ids_BL)
        if step % config.log_every == 0 or step == trainer.steps - 1:
            lines.append(canonical_json({"step": step, "epoch": step // order.steps_per_epoch} | window.close()))
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < trainer.steps:
            state = {"trainer": trainer.state_dict(), "window": window.state_dict(), "lines": lines, "step": step + 1}
            save_checkpoint(folder, step + 1, state)
    return lines


def training_rows(manifest: Manifest, section: TrainTokenizer) -> np.ndarray:
    """Rows of the training split, enough of them for a batch."""
    rows = np.flatnonzero(manifest.split == section.split)
    if not len(rows):
        raise UserError(
            f"train_tokenizer.split: data set {section.dataset!r} has no image in split {section.split!r}",
            f"one of its splits: {', '.join(sorted(set(manifest.split)))}",
            "name one of these, or check what index_images found",
        )
    if section.global_batch_size > len(rows):
        raise UserError(
            f"train_tokenizer.global_batch_size is {section.global_batch_size}, with {len(rows)} training images",
            f"at most {len(rows)}",
            "lower it or train on more images",
        )
    return rows


def training_inputs(manifest: Manifest, inputs: Paths) -> tuple[Tensor, dict[str, Tensor]]:
    """Image features and codebooks, once they are known to fit the manifest and each other."""
    feature_ND = load_features(inputs["features"], manifest)
    codebook = read_tensors(inputs["codebook"])[0]
    widths = {"features": feature_ND.shape[1]} | {key: codebook[key].shape[1] for key in ("local_VD", "global_VD")}
    if len(set(widths.values())) > 1:
        raise UserError(
            f"{inputs['features']} and {inputs['codebook']} differ in width ({widths})",
            "features and codebooks of one encoder",
            "run embed_vocabulary, embed_images and filter_vocabulary again with the same `encoder`",
        )
    return feature_ND.float(), codebook


def check_finite(name: str, step: int, losses: dict[str, float]) -> None:
    """Raises UserError when a loss is infinite or not a number."""
    if not all(math.isfinite(value) for value in losses.values()):
        found = ", ".join(f"{key} {value:.4g}" for key, value in losses.items())
        raise UserError(
            f"training of {name} diverged at step {step} ({found})",
            "finite losses",
            "lower train_tokenizer.learning_rate or the weights in train_tokenizer.loss, or use precision float32",
        )


if __name__ == "__main__":
    run_stage(run)
