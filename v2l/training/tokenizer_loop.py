"""Training of a tokenizer: batches in their order, losses and codebook usage, sample grids."""

from pathlib import Path

import torch
from torch import Tensor

from v2l.data.images import to_float
from v2l.errors import check_finite
from v2l.memory_errors import out_of_memory
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.training.batch_order import BatchOrder
from v2l.training.guard import TrainingGuard
from v2l.training.log import TrainingLog
from v2l.training.loop import Loop, Resumable
from v2l.training.stopped_run import leave_reason
from v2l.training.trainer import Trainer
from v2l.training.training_batches import TrainingBatches
from v2l.training.training_images import TrainingImages, loader
from v2l.training.unread_losses import UnreadLosses

SHOWN = 8  # images in the sample grids
REMEDY = "lower train_tokenizer.learning_rate or the weights in train_tokenizer.loss, or use precision float32"


def train(
    trainer: Trainer, images: TrainingImages, feature_ND: Tensor, seed: int, folder: Path, log: TrainingLog
) -> None:
    """All steps that no checkpoint of `folder` holds; `feature_ND` has one row per image of `images`.

    Between two lines of the log the host waits for the device only where the guard judges a window and where the
    codebook is matched. Raises UserError when a loss is not finite, found at the next such time or before a checkpoint
    is written; when memory runs out; and when the guard of the configuration stops the run.
    """
    config, tokenizer, ranks = trainer.config, trainer.tokenizer, trainer.ranks
    what, codes = f"training of {tokenizer.name}", tokenizer.local_size
    guard = TrainingGuard(tokenizer.name, config, codes, trainer.steps, ranks)
    parts: dict[str, Resumable] = {"trainer": trainer, "log": log, "guard": guard}
    loop = Loop(tokenizer.name, folder, trainer.steps, config.checkpoint_every, parts, ranks)
    order = BatchOrder(
        seed, len(images), config.global_batch_size, loop.first_step, trainer.steps, ranks.rank, ranks.size
    )
    batches, unread = TrainingBatches(trainer, feature_ND, seed), UnreadLosses()

    def settle() -> None:
        for step, losses in unread.read():
            check_finite(what, step, losses, REMEDY)
            log.window.add(losses)
            guard.add(losses)

    def advance(step: int, loaded: tuple[Tensor, Tensor]) -> None:
        at_once = min(config.micro_batch_size or len(loaded[0]), len(loaded[0]))
        with out_of_memory(what, "train_tokenizer.micro_batch_size", f"{at_once} images"):
            losses, ids_BL = trainer.step(step, batches.batch(step, *loaded))
        unread.add(step, losses)
        counts_V = ranks.sum(code_counts(ids_BL, codes))
        log.count(counts_V, config.global_batch_size)
        guard.count(counts_V, ids_BL.numel() * ranks.size)
        epoch, position = divmod(step, order.steps_per_epoch)
        ends_epoch = position == order.steps_per_epoch - 1 or step == trainer.steps - 1
        has_line = step % config.log_every == 0 or ends_epoch
        if has_line or guard.is_full:
            settle()
        log.window.add(guard.judge(step))
        if has_line:
            log.close_window(step, epoch)
            loop.shown = log.shown_line
        if ends_epoch and ranks.first:
            log.show(epoch, *samples(tokenizer, images, feature_ND))
        if guard.reason:
            if ranks.first:
                leave_reason(folder, config.guard, guard.reason)
            loop.stop(guard.reason)

    loop.run(loader(images, order, ranks.cores), advance, settle)


def code_counts(ids_BL: Tensor, codes: int) -> Tensor:
    """How often each of `codes` codes is among the ids (int64, V); unlike bincount it waits for no device."""
    ids_N = ids_BL.flatten()
    return ids_N.new_zeros(codes).scatter_add_(0, ids_N, torch.ones_like(ids_N))


@torch.no_grad()
def samples(tokenizer: VisionTokenizer, images: TrainingImages, feature_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The first training images and their reconstructions, both in [-1, 1] on the CPU."""
    shown = range(min(SHOWN, len(images)))
    target = next(tokenizer.parameters()).device
    image_BCHW = to_float(torch.stack([images.plain(index) for index in shown]).to(target))
    tokenizer.eval()
    local_BL, global_BK = tokenizer.encode(image_BCHW, feature_ND[list(shown)].to(target))
    reconstruction_BCHW = tokenizer.decode(local_BL.clamp(min=0), global_BK)
    tokenizer.train()
    return image_BCHW.cpu(), reconstruction_BCHW.cpu()
