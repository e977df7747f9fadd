"""What the trained tokenizers of an experiment keep of held-out pictures, and what the global codes are worth.

`python -m benchmarks.held_out demo` reads results/demo: PSNR and LPIPS of each tokenizer on split `val`, what shuffling
the global codes among the pictures costs, and the 95 % bootstrap interval of the difference of `v2l` to `v2l-local`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from v2l.configuration.config import Config
from v2l.configuration.experiment import load_experiment
from v2l.data.geometry import Geometry
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.metrics.bootstrap import mean_interval
from v2l.metrics.image_quality import LPIPS, PSNR
from v2l.models.tokenizer_file import load_tokenizer
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.runtime import device, rng
from v2l.training.training_images import TrainingImages

SHIFTS = (11, 37, 61, 80, 101)  # each shuffle gives every picture the codes of the one so many places before it
DRAWS = 4000


class HeldOut:
    """Split `val` of the experiment's training pictures: original_BCHW in [0, 1], feature_BD, and the two measures."""

    def __init__(self, config: Config, geometry: Geometry):
        name, results = config.train_tokenizer.dataset, Path("results") / config.experiment
        manifest = Manifest.read(results / f"index_images/{name}.parquet")
        rows = manifest.split_rows("val", "val")
        images = TrainingImages(manifest, rows, geometry)
        self.original_BCHW = torch.stack(images.tensors).to(device()) / 255
        self.feature_BD = load_features(results / f"embed_images/{name}.safetensors", manifest)[rows].to(device())
        self.measures = {
            "psnr": PSNR(config.score_predictions, device()),
            "lpips": LPIPS(config.score_predictions, device()),
        }

    @torch.no_grad()
    def scores(self, tokenizer: VisionTokenizer) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Each measure of every picture; and its mean less that with shuffled global codes, where there are some."""
        local_BL, global_BK = tokenizer.encode(self.original_BCHW * 2 - 1, self.feature_BD)

        def measured(ids_BK: Tensor | None) -> dict[str, Tensor]:
            image_BCHW = (tokenizer.decode(local_BL, ids_BK) / 2 + 0.5).clamp(0, 1)
            return {name: measure(image_BCHW, self.original_BCHW) for name, measure in self.measures.items()}

        found, costs = measured(global_BK), {}
        if tokenizer.needs_features and global_BK is not None:
            shuffled = [measured(global_BK.roll(shift, 0)) for shift in SHIFTS]
            costs = {
                name: float(np.mean([(found[name] - one[name]).mean().item() for one in shuffled])) for name in found
            }
        return found, costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", default="demo")
    config = load_experiment({"experiment": parser.parse_args().experiment})
    found = {}
    for name in config.train_tokenizer.tokenizers:
        tokenizer = load_tokenizer(Path(f"results/{config.experiment}/train_tokenizer/{name}.safetensors"), device())
        found[name], costs = HeldOut(config, tokenizer.geometry).scores(tokenizer)
        means = {measure: round(float(values.mean()), 4) for measure, values in found[name].items()}
        print(
            name, means, "less with shuffled global codes:", {key: round(cost, 4) for key, cost in costs.items()} or "-"
        )
    for measure in ("psnr", "lpips"):
        values = (found["v2l"][measure] - found["v2l-local"][measure]).cpu().numpy()
        low, high, _ = mean_interval(values, DRAWS, rng(config.seed, "held-out difference", measure))
        print(f"v2l less v2l-local, {measure}: {values.mean():.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
