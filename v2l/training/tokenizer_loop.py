"""Training of a tokenizer: batches in their order, losses and codebook usage, sample grids."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2l.errors import check_finite
from v2l.models.vision_tokenizer import Batch, VisionTokenizer
from v2l.runtime import rng
from v2l.training.batch_order import BatchOrder
from v2l.training.guard import TrainingGuard
from v2l.training.log import TrainingLog
from v2l.training.loop import Loop, Resumable
from v2l.training.stopped_run import leave_reason
from v2l.training.trainer import Trainer
from v2l.training.training_images import TrainingImages, loader

SHOWN = 8  # images in the sample grids
REMEDY = "lower train_tokenizer.learning_rate or the weights in train_tokenizer.loss, or use precision float32"


def train(
    trainer: Trainer, images: TrainingImages, feature_ND: Tensor, seed: int, folder: Path, log: TrainingLog
) -> None:
    """All steps that no checkpoint of `folder` holds; `feature_ND` has one row per image of `images`.

    Raises UserError when a loss is not finite, and when the guard of the configuration stops the run.
    """
    config, tokenizer, ranks = trainer.config, trainer.tokenizer, trainer.ranks
    guard = TrainingGuard(tokenizer.name, config, tokenizer.local_size, trainer.steps, ranks)
    parts: dict[str, Resumable] = {"trainer": trainer, "log": log, "guard": guard}
    loop = Loop(tokenizer.name, folder, trainer.steps, config.checkpoint_every, parts, ranks)
    order = BatchOrder(
        seed, len(images), config.global_batch_size, loop.first_step, trainer.steps, ranks.rank, ranks.size
    )

    def advance(step: int, loaded: tuple[Tensor, Tensor]) -> None:
        pixels_BCHW, index_B = loaded
        batch = training_batch(trainer, step, seed, pixels_BCHW, feature_ND[index_B])
        losses, ids_BL = trainer.step(step, batch)
        check_finite(f"training of {tokenizer.name}", step, losses, REMEDY)
        counts_V = ranks.sum(torch.bincount(ids_BL.flatten(), minlength=tokenizer.local_size)).cpu()
        log.add(losses | guard.observe(step, losses, counts_V), counts_V, config.global_batch_size)
        epoch, position = divmod(step, order.steps_per_epoch)
        ends_epoch = position == order.steps_per_epoch - 1 or step == trainer.steps - 1
        if step % config.log_every == 0 or ends_epoch:
            log.close_window(step, epoch)
            loop.shown = log.shown_line
        if ends_epoch and ranks.first:
            log.show(epoch, *samples(tokenizer, images, feature_ND))
        if guard.reason:
            if ranks.first:
                leave_reason(folder, config.guard, guard.reason)
            loop.stop(guard.reason)

    loop.run(loader(images, order), advance)


def training_batch(trainer: Trainer, step: int, seed: int, pixels_BCHW: Tensor, feature_BD: Tensor) -> Batch:
    """This rank's batch of `step` on its device; random numbers come from seed, step and place in the batch alone."""
    config, ranks = trainer.config, trainer.ranks
    target = next(trainer.tokenizer.parameters()).device
    torch.manual_seed(int(rng(seed, "training step", step, ranks.rank).integers(2**63)))
    shape = config.global_batch_size, trainer.tokenizer.geometry.grid**2
    noise_BL = rng(seed, "training noise", step).random(shape, dtype=np.float32)[ranks.rank :: ranks.size]
    image_BCHW = pixels_BCHW.to(target).float() / 127.5 - 1
    return Batch(image_BCHW, feature_BD.to(target), torch.from_numpy(noise_BL).to(target))


@torch.no_grad()
def samples(tokenizer: VisionTokenizer, images: TrainingImages, feature_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The first training images and their reconstructions, both in [-1, 1] on the CPU."""
    shown = range(min(SHOWN, len(images)))
    target = next(tokenizer.parameters()).device
    image_BCHW = torch.stack([images.plain(index) for index in shown]).to(target).float() / 127.5 - 1
    tokenizer.eval()
    codes = tokenizer.encode(image_BCHW, feature_ND[list(shown)].to(target))
    reconstruction_BCHW = tokenizer.decode(*codes)
    tokenizer.train()
    return image_BCHW.cpu(), reconstruction_BCHW.cpu()
