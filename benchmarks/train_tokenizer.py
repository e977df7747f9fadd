"""Images per second of a training step at the paper's sizes, against the published step on the same machine.

Random weights: CLIP ViT-L/14, the V2L network at 128 px with 32,000 local and 11,908 global codes, LPIPS on VGG16,
discriminator on. The published step runs image encoder and network twice, and differentiates 0 times the second pass's
losses; ours reads stored features and runs once. Without that idle backward pass the published step is shown too.
`python -m benchmarks.train_tokenizer --batch 2 --steps 3`
"""

import argparse
import statistics
import time

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.published_training import PublishedTraining
from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.configuration.variants import map_side
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.lpips_network import empty_lpips
from v2l.models.v2l import V2LTokenizer
from v2l.models.vision_tokenizer import Batch
from v2l.training.trainer import Trainer

GLOBAL_CODES, LOCAL_CODES, WIDTH = 11_908, 32_000, 768
FIRST = 20_000  # a step after the discriminator's start; the projector is matched before the first step alone


def networks(config: TrainTokenizer, image_BCHW: Tensor) -> tuple[V2LTokenizer, Discriminator]:
    """Both networks, drawn the same way for both steps, the projector matched to the encoder."""
    torch.manual_seed(0)
    codebooks = torch.randn(LOCAL_CODES, WIDTH), F.normalize(torch.randn(GLOBAL_CODES, WIDTH))
    tokenizer = V2LTokenizer("v2l", "v2l", config.network, config.global_tokens, *codebooks)
    tokenizer.match_moments(image_BCHW)
    return tokenizer, Discriminator(config.network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each, in turn, after one that is not")
    arguments = parser.parse_args()
    config = TrainTokenizer(
        dataset="none", loss=Loss(perceptual_weights="none"), global_batch_size=arguments.batch, match_until=0
    )
    torch.manual_seed(1)
    image_BCHW = torch.rand(arguments.batch, 3, 128, 128) * 2 - 1
    clip_image_BCHW = torch.randn(arguments.batch, 3, 224, 224)
    settings = open_clip.get_model_config("ViT-L-14")
    tower = open_clip.CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"], quick_gelu=True).visual
    tower = tower.eval().requires_grad_(False)
    lpips = empty_lpips("vgg")
    with torch.no_grad():
        feature_BD = F.normalize(tower(clip_image_BCHW), dim=1)

    published = PublishedTraining(config, *networks(config, image_BCHW), lpips, tower)
    ours = Trainer(config, *networks(config, image_BCHW), PerceptualLoss(lpips), steps=10 * FIRST)
    batch = Batch(image_BCHW, feature_BD, torch.zeros(arguments.batch, map_side(config.network) ** 2))
    seconds: dict[str, list[float]] = {"published": [], "published, no idle backward": [], "ours": []}
    for step in range(arguments.steps + 1):
        for name in seconds:
            started = time.perf_counter()
            if name == "ours":
                losses = ours.step(FIRST + step, batch)[0]
            else:
                rerun = "whole" if name == "published" else "forward"
                reference = published.step(1e-4, image_BCHW, clip_image_BCHW, rerun)
            seconds[name].append(time.perf_counter() - started)
            if step == 0 and name == "published":
                published_losses = reference
        if step == 0:
            for key in ("pixel", "perceptual", "quantizer", "adversarial", "adaptive_weight"):
                print(f"first step, {key}: published {published_losses[key]:.6f}, ours {losses[key]:.6f}")
    for name, (_, *values) in seconds.items():
        speed = arguments.batch / statistics.median(values)
        ratios = [value / own for value, own in zip(values, seconds["ours"][1:], strict=True)]
        print(f"{name}: {speed:.3f} images/s, {[round(value, 2) for value in values]} s; ours is", end=" ")
        print(f"{statistics.median(ratios):.2f} times as fast (pairs {[round(ratio, 2) for ratio in ratios]})")


if __name__ == "__main__":
    main()
