"""Stages that read pictures: embed_images, extract_tokens, reconstruct_images and score_predictions.

Each runs as it does in the pipeline, from files to files; only its networks are given instead of loaded.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.encoders import as_published, random_clip, random_encoder
from benchmarks.measuring import Case, cosine, counted, equal_share
from benchmarks.pictures import FIT, Pictures, given, job
from benchmarks.sizes import Sizes
from benchmarks.training import random_tokenizer
from v2l import embed_images as embedding
from v2l import extract_tokens as extraction
from v2l import reconstruct_images as reconstruction
from v2l.configuration.config import EmbedImages, ExtractTokens, ReconstructImages, ScorePredictions
from v2l.configuration.dataset_entries import Sample
from v2l.data.geometry import network_geometry
from v2l.data.images import decode_png, encode_png, to_float, to_tensor, to_uint8, tokenizer_image
from v2l.data.token_table import Tokens
from v2l.io.storage import read_tensors
from v2l.metrics import image_blocks, image_quality
from v2l.metrics.frechet import load_feature_network
from v2l.models.lpips_network import empty_lpips
from v2l.models.v2l import V2LNetwork
from v2l.tasks import decoded_images as decoding

SAMPLE = "reconstruction"


def embed_images(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """The stage on JPEG files, and its encoder on decoded pictures; published: float16 on a GPU, else float32."""
    pictures = Pictures(sizes, folder, sizes.images.own)
    model = as_published(random_clip(sizes, where, folder), where)
    dtype = model.text_projection.dtype
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=model.visual.image_size), is_train=False
    )
    size = EmbedImages().batch_size or embedding.IMAGES_AT_ONCE

    @torch.no_grad()
    def published(images: list[Any], load: Callable[[Any], Image.Image]) -> Tensor:
        parts = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(images), size):
                batch = torch.stack(list(pool.map(lambda item: transform(load(item)), images[start : start + size])))
                parts.append(F.normalize(model.encode_image(batch.to(where, dtype)).float(), dim=1).cpu())
        return torch.cat(parts)

    for precision in sizes.encoder_precisions:
        encoder = random_encoder(sizes, where, folder, precision)
        squares = [encoder.square(Image.open(path), FIT) for path in pictures.paths(min(64, sizes.squares.own))]
        square_NHWC = np.stack([squares[number % len(squares)] for number in range(sizes.squares.own)])
        entry = {"kind": "open_clip", "weights": "none", "precision": precision}
        settings = {"encoder": "clip", "encoders": {"clip": entry}, "embed_images": {"batch_size": size}}
        output = folder / "features.safetensors"

        def stage(encoder=encoder, settings=settings, output=output) -> Tensor:
            with given((embedding, "load_encoder", encoder)):
                config = job("embed_images", settings, dataset="random")
                embedding.run(config, pictures.inputs("manifest"), {"features": output})
            return read_tensors(output)[0]["feature_ND"]

        def decoded(encoder=encoder, square_NHWC=square_NHWC) -> Tensor:
            parts = [
                encoder.encode_squares(square_NHWC[start : start + size]).cpu()
                for start in range(0, len(square_NHWC), size)
            ]
            return torch.cat(parts)

        shared = {
            "precision": precision,
            "unit": "images",
            "flop": lambda encoder=encoder, one=square_NHWC[:2]: counted(lambda: encoder.encode_squares(one)) / 2,
            "agreement": cosine,
            "sizes": {"model": sizes.clip, "batch": size},
        }
        yield Case(
            stage="embed_images",
            own=stage,
            items=sizes.images.own,
            published=lambda: published(pictures.paths(sizes.images.published), Image.open),
            published_items=sizes.images.published,
            **shared,
        )
        yield Case(
            stage="embed_images.squares",
            own=decoded,
            items=len(square_NHWC),
            published=lambda square_NHWC=square_NHWC: published(
                list(square_NHWC[: sizes.squares.published]), Image.fromarray
            ),
            published_items=sizes.squares.published,
            **shared,
        )


class TokenMaps:
    """Pictures, a random tokenizer, and its tokens of them by the stage."""

    def __init__(self, sizes: Sizes, where: torch.device, folder: Path, count: int):
        self.pictures = Pictures(sizes, folder, count)
        self.where = where
        self.image_BCHW = self.pictures.tokenizer_images(min(8, count)).to(where)
        self.tokenizer: V2LNetwork = random_tokenizer(sizes, self.image_BCHW).eval().requires_grad_(False)
        self.feature_ND = read_tensors(self.pictures.files["features"])[0]["feature_ND"]
        self.output = folder / f"tokens-{count}.parquet"
        self.sizes = {"codes": [sizes.local_codes, sizes.global_codes], "batch": ExtractTokens().batch_size}

    def extracted(self, precision: str) -> Tensor:
        """Local and global ids that stage extract_tokens wrote."""
        settings = {
            "samples": {SAMPLE: Sample(dataset="random", splits=["val"]).model_dump(mode="json")},
            "extract_tokens": ExtractTokens(precision=precision).model_dump(mode="json"),
        }
        config = job("extract_tokens", settings, sample=SAMPLE, tokenizer="v2l")
        inputs = self.pictures.inputs("manifest", "weights", "features", "words")
        with given((extraction, "load_tokenizer", self.tokenizer)):
            extraction.run(config, inputs, {"tokens": self.output})
        tokens = Tokens.read(self.output)
        return torch.from_numpy(np.concatenate([tokens.local_NL, tokens.global_NK], axis=1))


def extract_tokens(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """The stage on JPEG files with stored features; published: one picture at a time."""
    maps = TokenMaps(sizes, where, folder, sizes.tokenized.own)
    geometry = network_geometry(sizes.network)

    def published() -> Tensor:
        rows = []
        for number, path in enumerate(maps.pictures.paths(sizes.tokenized.published)):
            image = tokenizer_image(Image.open(path).convert("RGB"), geometry, FIT)
            codes = maps.tokenizer.encode(to_tensor([image]).to(where), maps.feature_ND[number : number + 1].to(where))
            rows.append(torch.cat([codes.local_BL, codes.global_BK], dim=1).cpu())
        return torch.cat(rows)

    image_BCHW, feature_BD = maps.image_BCHW[:2], maps.feature_ND[:2].to(where)
    for precision in sizes.tokenizer_precisions:
        yield Case(
            *("extract_tokens", precision, "images"),
            own=lambda precision=precision: maps.extracted(precision),
            items=sizes.tokenized.own,
            published=published,
            published_items=sizes.tokenized.published,
            flop=lambda: counted(lambda: maps.tokenizer.encode(image_BCHW, feature_BD)) / 2,
            agreement=equal_share,
            sizes=maps.sizes,
        )


def reconstruct_images(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """The stage on a sample's clean tokens; published: one map at a time."""
    maps = TokenMaps(sizes, where, folder, sizes.tokenized.own)
    maps.extracted("float32")
    tokens = Tokens.read(maps.output)
    local_NL, global_NK = (torch.from_numpy(part).to(where) for part in (tokens.local_NL, tokens.global_NK))

    def own(precision: str) -> list[bytes]:
        output = folder / "images.parquet"
        settings = {"reconstruct_images": ReconstructImages(precision=precision).model_dump(mode="json")}
        config = job("reconstruct_images", settings, tokenizer="v2l", source=SAMPLE)
        inputs = maps.pictures.inputs("weights", tokens=maps.output)
        with given(
            (reconstruction, "tokenizer_description", maps.tokenizer.description),
            (decoding, "load_tokenizer", maps.tokenizer),
        ):
            reconstruction.run(config, inputs, {"images": output})
        return pq.read_table(output)["image"].to_pylist()

    @torch.inference_mode()
    def published() -> list[bytes]:
        made = []
        for row in range(sizes.tokenized.published):
            image_1CHW = maps.tokenizer.decode(local_NL[row : row + 1], global_NK[row : row + 1])
            made.append(encode_png(to_uint8(image_1CHW)[0].cpu().numpy()))
        return made

    for precision in sizes.tokenizer_precisions:
        yield Case(
            *("reconstruct_images", precision, "images"),
            own=lambda precision=precision: own(precision),
            items=sizes.tokenized.own,
            published=published,
            published_items=sizes.tokenized.published,
            flop=lambda: counted(lambda: maps.tokenizer.decode(local_NL[:2], global_NK[:2])) / 2,
            agreement=lambda found, expected: cosine(_pixels(found), _pixels(expected)),
            sizes=maps.sizes,
        )


def score_predictions(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """Every image metric and the Frechet features of reconstructed pictures; published: one pair at a time."""
    maps = TokenMaps(sizes, where, folder, sizes.scored.own)
    pictures, geometry = maps.pictures, network_geometry(sizes.network)
    count, output = sizes.scored.own, folder / "scored.parquet"
    rows = {
        "image_id": pictures.manifest.image_id.tolist(),
        "task": [SAMPLE] * count,
        "image": [
            encode_png(np.asarray(tokenizer_image(Image.open(path).rotate(3), geometry, FIT)))
            for path in pictures.paths(count)
        ],
    }
    pq.write_table(reconstruction.SCHEMA.empty_table().from_pydict(rows, reconstruction.SCHEMA), output)
    section = ScorePredictions(lpips_weights="none", frechet=sizes.frechet, frechet_weights="none")
    torch.manual_seed(0)
    lpips, features = empty_lpips("alex").to(where), _feature_network(sizes.frechet, folder, where)

    def own() -> Tensor:
        inputs = pictures.inputs("manifest", images=output)
        with given((image_blocks, "load_feature_network", features), (image_quality, "load_lpips", lpips)):
            scored = image_blocks.scored_images(section, geometry, inputs, lambda blocks, tables: tables(blocks))
        found = scored[SAMPLE]
        return torch.cat([torch.from_numpy(found.values["lpips"])[:, None], found.feature_ND], dim=1)

    @torch.inference_mode()
    def published() -> Tensor:
        made = []
        for number, path in enumerate(pictures.paths(sizes.scored.published)):
            original = np.asarray(tokenizer_image(Image.open(path).convert("RGB"), geometry, FIT))
            pair = [
                torch.from_numpy(part.copy()).permute(2, 0, 1)[None]
                for part in (decode_png(rows["image"][number]), original)
            ]
            value = lpips(*(to_float(part.to(where)) for part in pair)).cpu()
            feature_1D, _ = features(pair[0]), features(pair[1])
            made.append(torch.cat([value.reshape(1, 1), feature_1D], dim=1))
        return torch.cat(made)

    def flop() -> float:
        pixels = torch.zeros(2, 3, geometry.image_size, geometry.image_size, dtype=torch.uint8)
        unit = pixels.to(where).float()
        return counted(lambda: (features(pixels), features(pixels), lpips(unit, unit))) / 2

    yield Case(
        *("score_predictions", "float32", "images"),
        own=own,
        items=count,
        published=published,
        published_items=sizes.scored.published,
        flop=flop,
        agreement=cosine,
        sizes={"features": sizes.frechet, "batch": section.batch_size},
    )


def _pixels(images: list[bytes]) -> Tensor:
    return torch.from_numpy(np.stack([decode_png(image).reshape(-1) for image in images])).float()


def _feature_network(kind: str, folder: Path, where: torch.device) -> Callable[[Tensor], Tensor]:
    """The feature network with random weights."""
    from unittest.mock import patch

    from efficientnet_lite_pytorch import EfficientNet
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = folder / f"{kind}.pth"
    if kind == "inception-v3-fid":
        with patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
            torch.save({}, path)
            network = FeatureExtractorInceptionV3(kind, ["2048"], feature_extractor_weights_path=str(path))
    else:
        network = EfficientNet.from_name(kind)
    torch.save(network.state_dict(), path)
    return load_feature_network(kind, path, where)
