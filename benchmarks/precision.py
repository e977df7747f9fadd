"""What each precision costs in exactness: of the demo's trained tokenizers, its image-text encoder and a training.

`python -m benchmarks.precision` prints the tables of docs/precision.md: in every precision, against float32, the share
of equal local and global ids of held-out pictures, the cosine of image features and the share of equal global ids that
they lead to, the PSNR of decoded pictures against float32's, and the losses of a training's first steps. On a CPU the
rounding of TF32 is imitated (`benchmarks.rounded_products`). It needs, of experiments demo and demo-training,
results/<experiment>/{train_tokenizer,embed_images,filter_vocabulary}.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.codebook import changed, train_changed
from benchmarks.held_out import HeldOut
from benchmarks.rounded_products import RoundedProducts
from v2l.configuration.config import Config
from v2l.configuration.experiment import load_experiment
from v2l.data.image_loading import load_image
from v2l.data.manifest import Manifest
from v2l.encoders.loader import load_encoder
from v2l.models.quantizers import nearest_k_codes
from v2l.models.tokenizer_file import load_tokenizer
from v2l.precision import computed_in
from v2l.runtime import device

OTHERS = ("tf32", "bfloat16", "float16")
LOSSES = ("pixel", "perceptual", "quantizer")


@contextmanager
def imitated(precision: str) -> Iterator[None]:
    """Scope of a precision whose TF32 is rounded also where no GPU does it."""
    if device().type == "cpu" and precision == "tf32":
        with RoundedProducts():
            yield
    else:
        yield


def share(equal: Tensor) -> str:
    return f"{100 * float(equal.float().mean()):.2f} %"


def tokenizers(config: Config) -> None:
    print(
        "| tokenizer | precision | equal local ids | equal codes of the global path | PSNR against float32's picture |"
    )
    print("|---|---|---|---|---|")
    for name in ("v2l", "vqgan", "lqae", "spae"):
        path = Path(f"results/{config.experiment}/train_tokenizer/{name}.safetensors")
        tokenizer = load_tokenizer(path, device())
        pictures = HeldOut(config, tokenizer.geometry)
        image_BCHW = pictures.original_BCHW * 2 - 1
        with torch.no_grad():
            wanted = tokenizer.encode(image_BCHW, pictures.feature_BD)
            decoded_BCHW = tokenizer.decode(*wanted)
            for precision in OTHERS:
                with imitated(precision), computed_in(precision):
                    found = tokenizer.encode(image_BCHW, pictures.feature_BD)
                    again_BCHW = tokenizer.decode(*wanted)
                error = (again_BCHW.clamp(-1, 1) - decoded_BCHW.clamp(-1, 1)).square().mean() / 4
                same = "-" if wanted.global_BK is None else share(found.global_BK == wanted.global_BK)
                local = share(found.local_BL == wanted.local_BL)
                print(f"| {name} | {precision} | {local} | {same} | {-10 * float(error.log10()):.1f} dB |", flush=True)


def features(config: Config, images: int) -> None:
    print("\n| encoder | precision | cosine with float32, mean | least | equal global ids |\n|---|---|---|---|---|")
    manifest = Manifest.read(Path(f"results/{config.experiment}/index_images/{config.train_tokenizer.dataset}.parquet"))
    rows = manifest.split_rows(["val"], "val")[:images]
    tokenizer = load_tokenizer(Path(f"results/{config.experiment}/train_tokenizer/v2l.safetensors"), device())
    global_VD, count = tokenizer.codebooks[1], tokenizer.global_tokens
    entry = config.encoders[config.encoder]

    def encoded(precision: str) -> Tensor:
        encoder = load_encoder(entry.model_copy(update={"precision": precision}), device())
        squares_NHWC = np.stack([encoder.square(load_image(manifest, row), manifest.fit) for row in rows])
        with imitated(precision):
            return torch.cat([encoder.encode_squares(part) for part in np.array_split(squares_NHWC, 8)])

    wanted_ND = encoded("float32")
    assert global_VD is not None
    wanted_NK = nearest_k_codes(wanted_ND, global_VD, count)
    for precision in OTHERS:
        found_ND = encoded(precision)
        cosine_N = cosine_similarity(found_ND.double(), wanted_ND.double())
        same = share(nearest_k_codes(found_ND, global_VD, count) == wanted_NK)
        print(f"| {config.encoder} | {precision} | {cosine_N.mean():.6f} | {cosine_N.min():.6f} | {same} |", flush=True)


def paper_encoder(images: int) -> None:
    """CLIP ViT-L/14 with random weights: rounding alone, no picture is like another to it."""
    torch.manual_seed(0)
    settings = open_clip.get_model_config("ViT-L-14")
    model = open_clip.CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"], quick_gelu=True)
    model.eval().requires_grad_(False).to(device())
    image_BCHW = torch.randn(images, 3, 224, 224, device=device())
    wanted_BD = model.encode_image(image_BCHW)
    for precision in OTHERS:
        with torch.no_grad(), imitated(precision), computed_in(precision):
            cosine_B = cosine_similarity(model.encode_image(image_BCHW).double(), wanted_BD.double())
        print(f"| ViT-L/14, random | {precision} | {cosine_B.mean():.6f} | {cosine_B.min():.6f} | - |", flush=True)


def training(steps: int, batch: int) -> None:
    print(f"\n| first {steps} steps | precision | {' | '.join(LOSSES)} |\n|---|---|{'---|' * len(LOSSES)}")
    config = load_experiment({"experiment": "demo-training"})

    def losses(precision: str) -> np.ndarray:
        section = changed(config, "v2l", {"log_every": 1}, steps, batch, precision)
        with imitated(precision):
            lines = train_changed(config, "v2l", section)[1]
        return np.array([[line[name] for name in LOSSES] for line in lines])

    wanted = losses("float32")
    for precision in OTHERS[:2]:
        relative = np.abs(losses(precision) / wanted - 1)
        cells = [f"{100 * values.mean():.2f} % (most {100 * values.max():.2f} %)" for values in relative.T]
        print(f"| v2l, {batch} pictures a step | {precision} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=123)
    arguments = parser.parse_args()
    config = load_experiment({"experiment": "demo"})
    tokenizers(config)
    features(config, arguments.images)
    paper_encoder(16)
    training(arguments.steps, arguments.batch)


if __name__ == "__main__":
    main()
