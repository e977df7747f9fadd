"""The training loop: batches in order, lines and grids, checkpoints, and a clean stop when a signal asks for it."""

import logging
import signal
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.errors import INTERRUPTED, check_finite
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.models.vision_tokenizer import Batch, VisionTokenizer
from v2l.runtime import rng
from v2l.training.log import TrainingLog
from v2l.training.trainer import Trainer
from v2l.training.training_images import BatchOrder, TrainingImages, loader

SHOWN = 8  # images in the sample grids
REMEDY = "lower train_tokenizer.learning_rate or the weights in train_tokenizer.loss, or use precision float32"


def train(
    trainer: Trainer, images: TrainingImages, feature_ND: Tensor, seed: int, folder: Path, log: TrainingLog
) -> None:
    """All steps that no checkpoint of `folder` holds; `feature_ND` has one row per image of `images`.

    Of an interrupted run everything up to the newest checkpoint counts.
    """
    config, tokenizer, ranks = trainer.config, trainer.tokenizer, trainer.ranks
    state = newest_checkpoint(folder)
    first_step = state["step"] if state else 0
    if state:
        trainer.load_state_dict(state["trainer"])
        log.load_state_dict(state["log"])
        logging.info("%s: resumed before step %d of %d", tokenizer.name, first_step, trainer.steps)
    order = BatchOrder(seed, len(images), config.global_batch_size, first_step, trainer.steps, ranks.rank, ranks.size)
    silent = None if ranks.first else True
    with StopSignal() as stop:
        progress = tqdm(loader(images, order), tokenizer.name, trainer.steps, initial=first_step, disable=silent)
        for step, (pixels_BCHW, index_B) in enumerate(progress, start=first_step):
            batch = training_batch(trainer, step, seed, pixels_BCHW, feature_ND[index_B])
            losses, ids_BL = trainer.step(step, batch)
            check_finite(f"training of {tokenizer.name}", step, losses, REMEDY)
            counts_V = ranks.sum(torch.bincount(ids_BL.flatten(), minlength=tokenizer.local_size))
            log.add(losses, counts_V, config.global_batch_size)
            epoch, position = divmod(step, order.steps_per_epoch)
            is_last, ends_epoch = step == trainer.steps - 1, position == order.steps_per_epoch - 1
            if step % config.log_every == 0 or ends_epoch or is_last:
                log.close_window(step, epoch)
            if (ends_epoch or is_last) and ranks.first:
                log.show(epoch, *samples(tokenizer, images, feature_ND))
            interrupted = ranks.any(stop.received)
            if ((step + 1) % config.checkpoint_every == 0 or interrupted) and not is_last:
                if ranks.first:
                    state = {"trainer": trainer.state_dict(), "log": log.state_dict(), "step": step + 1}
                    save_checkpoint(folder, step + 1, state)
                if interrupted:
                    ranks.wait()
                    logging.warning(
                        "%s: interrupted; a checkpoint holds everything before step %d", tokenizer.name, step + 1
                    )
                    raise SystemExit(INTERRUPTED)


class StopSignal:
    """Remembers SIGTERM and SIGUSR2, so that the training loop can end between two steps."""

    def __enter__(self) -> "StopSignal":
        self.received = False
        numbers = (signal.SIGTERM, signal.SIGUSR2)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True


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
