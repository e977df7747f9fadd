"""Stages that train: steps of train_tokenizer on batches as its loader gives them, and steps of finetune_llm."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.encoders import as_published, random_clip
from benchmarks.language_models import CONTROL, Words, described_llm, random_llm
from benchmarks.measuring import Case, counted
from benchmarks.published_training import PublishedTraining
from benchmarks.sizes import Sizes
from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.data.images import to_float
from v2l.llm.prompts import MaskedPrompt
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.lpips_network import empty_lpips
from v2l.models.v2l import V2LNetwork
from v2l.training.adapter_tuner import AdapterTuner
from v2l.training.lora import with_adapter
from v2l.training.trainer import Trainer
from v2l.training.training_batches import TrainingBatches
from v2l.training.unread_losses import UnreadLosses

FIRST = 20_000  # a step after the discriminator's start; the projector is matched before the first step alone
COMPARED = ("pixel", "perceptual", "quantizer", "adversarial")


def random_tokenizer(sizes: Sizes, image_BCHW: Tensor) -> V2LNetwork:
    """A V2L tokenizer, drawn the same way each time, its projector matched to what the encoder makes of images."""
    torch.manual_seed(0)
    width = sizes.feature_width
    codebooks = torch.randn(sizes.local_codes, width), F.normalize(torch.randn(sizes.global_codes, width))
    tokenizer = V2LNetwork("v2l", "v2l", sizes.network, sizes.global_tokens, *codebooks).to(image_BCHW.device)
    tokenizer.match_moments(image_BCHW)
    return tokenizer


def train_tokenizer(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """A case for each precision of the training step; the published step has PyTorch's default switches in each."""
    count, side = sizes.train_batch, sizes.network.image_size
    torch.manual_seed(1)
    pixels_BCHW = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    image_BCHW = to_float(pixels_BCHW)
    lpips = empty_lpips("vgg").to(where)
    clip = as_published(random_clip(sizes, where, folder), where).visual
    clip_image_BCHW = torch.randn(count, 3, *clip.image_size, dtype=clip.proj.dtype)
    with torch.no_grad():
        feature_BD = F.normalize(clip(clip_image_BCHW.to(where)).float(), dim=1).cpu()

    def networks() -> tuple[V2LNetwork, Discriminator]:
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
        trainer = Trainer(config, *networks(), PerceptualLoss(copy.deepcopy(lpips)), steps=10 * FIRST)

        batches = TrainingBatches(trainer, feature_BD, seed=0)

        def own(trainer: Trainer = trainer, batches: TrainingBatches = batches) -> dict[str, float]:
            unread = UnreadLosses()
            unread.add(FIRST, trainer.step(FIRST, batches.batch(FIRST, pixels_BCHW, torch.arange(count)))[0])
            return next(unread.read())[1]

        @functools.cache
        def step(config: TrainTokenizer = config) -> PublishedTraining:
            return PublishedTraining(config, *networks(), lpips, clip)

        def published(step=step) -> dict[str, float]:
            return step().step(1e-4, image_BCHW.to(where), clip_image_BCHW.to(where))

        yield Case(
            *("train_tokenizer", precision, "images"),
            own=own,
            items=count,
            published=published,
            published_items=count,
            flop=lambda own=own: counted(own) / count,
            agreement=lambda found, expected: _loss_difference(found, expected, COMPARED),
            sizes={
                "batch": count,
                "parameters": sum(part.numel() for part in trainer.tokenizer.parameters() if part.requires_grad),
                "codes": [sizes.local_codes, sizes.global_codes],
                "network": sizes.network.model_dump(mode="json"),
            },
        )
        step.cache_clear()


def finetune_llm(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """A step of the adapters. None is published: beside it the same step with one image at a time."""
    precision, count = sizes.finetune_precision, sizes.finetuned.own
    vocabulary = sizes.llama["vocab_size"]
    sections = [
        FinetuneLLM(precision=precision, batch_size=count),
        FinetuneLLM(precision=precision, batch_size=count, micro_batch_size=1),
    ]
    model = with_adapter(random_llm(sizes, where, precision), sections[0].lora)
    ids_V = np.arange(CONTROL, vocabulary)
    own, one_at_a_time = (AdapterTuner(section, model, MaskedPrompt(Words(vocabulary)), ids_V) for section in sections)
    local_BL = np.random.default_rng(0).integers(len(ids_V), size=(count, 256))

    yield Case(
        *("finetune_llm", precision, "images"),
        own=lambda: own.step(0, local_BL, 0),
        items=count,
        published=lambda: one_at_a_time.step(0, local_BL, 0),
        published_items=count,
        flop=lambda: counted(lambda: own.step(0, local_BL, 0)) / count,
        agreement=lambda found, expected: _loss_difference(found, expected, ("loss",)),
        sizes=described_llm(model, batch=count, micro_batch=sections[0].micro_batch_size),
    )


def _loss_difference(found: dict[str, float], expected: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """The largest relative difference of the first step's losses."""
    pairs = [(found[name], expected[name]) for name in names]
    return {"loss_difference": max(abs(one - other) / max(abs(other), 1e-3) for one, other in pairs)}
