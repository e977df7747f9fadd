"""Stage train_tokenizer: steps on batches as its loader gives them, beside the published step."""

import functools
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.encoders import as_published, random_clip
from benchmarks.measuring import Case, counted
from benchmarks.published_training import PublishedTraining
from benchmarks.sizes import Sizes
from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.lpips_network import empty_lpips
from v2l.models.v2l import V2LTokenizer
from v2l.training.tokenizer_loop import training_batch
from v2l.training.trainer import Trainer

FIRST = 20_000  # a step after the discriminator's start; the projector is matched before the first step alone
COMPARED = ("pixel", "perceptual", "quantizer", "adversarial")


def random_tokenizer(sizes: Sizes, image_BCHW: Tensor) -> V2LTokenizer:
    """A V2L tokenizer, drawn the same way each time, its projector matched to what the encoder makes of images."""
    torch.manual_seed(0)
    width = sizes.feature_width
    codebooks = torch.randn(sizes.local_codes, width), F.normalize(torch.randn(sizes.global_codes, width))
    tokenizer = V2LTokenizer("v2l", "v2l", sizes.network, sizes.global_tokens, *codebooks).to(image_BCHW.device)
    tokenizer.match_moments(image_BCHW)
    return tokenizer


def train_tokenizer(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """A case for each precision of the training step; the published step has PyTorch's default switches in each."""
    count, side = sizes.train_batch, sizes.network.image_size
    torch.manual_seed(1)
    pixels_BCHW = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    image_BCHW = pixels_BCHW.float() / 127.5 - 1
    clip = as_published(random_clip(sizes, where, folder), where).visual
    clip_image_BCHW = torch.randn(count, 3, *clip.image_size, dtype=clip.proj.dtype)
    with torch.no_grad():
        feature_BD = F.normalize(clip(clip_image_BCHW.to(where)).float(), dim=1).cpu()

    def networks() -> tuple[V2LTokenizer, Discriminator]:
        tokenizer = random_tokenizer(sizes, image_BCHW[:8].to(where))
        return tokenizer, Discriminator(sizes.network).to(where)

    for precision in sizes.train_precisions:
        config = TrainTokenizer(
            dataset="none",
            network=sizes.network,
            loss=Loss(perceptual_weights="none"),
            global_tokens=sizes.global_tokens,
            global_batch_size=count,
            match_until=0,
            precision=precision,
        )
        trainer = Trainer(config, *networks(), PerceptualLoss(empty(where)), steps=10 * FIRST)

        def own(trainer: Trainer = trainer) -> dict[str, float]:
            return trainer.step(FIRST, training_batch(trainer, FIRST, 0, pixels_BCHW, feature_BD))[0]

        @functools.cache
        def step(config: TrainTokenizer = config) -> PublishedTraining:
            return PublishedTraining(config, *networks(), empty(where), clip)

        def published(step=step) -> dict[str, float]:
            return step().step(1e-4, image_BCHW.to(where), clip_image_BCHW.to(where))

        yield Case(
            *("train_tokenizer", precision, "images"),
            own=own,
            items=count,
            published=published,
            published_items=count,
            flop=lambda own=own: counted(own) / count,
            agreement=_loss_difference,
            sizes={
                "batch": count,
                "parameters": sum(part.numel() for part in trainer.tokenizer.parameters() if part.requires_grad),
                "codes": [sizes.local_codes, sizes.global_codes],
                "network": sizes.network.model_dump(mode="json"),
            },
        )
        step.cache_clear()


def empty(where: torch.device) -> torch.nn.Module:
    """LPIPS on VGG16, drawn the same way each time."""
    torch.manual_seed(2)
    return empty_lpips("vgg").to(where)


def _loss_difference(found: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    """The largest relative difference of the first step's losses."""
    pairs = [(found[name], expected[name]) for name in COMPARED]
    return {"loss_difference": max(abs(one - other) / max(abs(other), 1e-3) for one, other in pairs)}
