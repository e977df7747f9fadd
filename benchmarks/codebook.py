"""Which setting keeps the codebook in use: one factor changed at a time, each run judged on held-out pictures.

`python -m benchmarks.codebook --steps 600 --batch 64 CHANGE ...` prints a row for each change by its name below (none
named: all); docs/training.md reads them. It needs what the trainings of experiment `demo-training` need:
`snakemake results/demo-training/filter_vocabulary/codebook.safetensors --config experiment=demo-training`.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.held_out import HeldOut
from v2l.configuration.config import Config
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig, project
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.configuration.variants import merge, variant_settings
from v2l.data.geometry import network_geometry
from v2l.io.job_files import Inputs
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.train_tokenizer import trained
from v2l.training.ranks import Ranks

EXPERIMENT = "demo-training"
RESULTS = Path("results") / EXPERIMENT
CHANGES: dict[str, tuple[str, dict]] = {
    "nothing": ("v2l-local", {}),
    "start-alone": ("v2l-local", {"match_until": 0}),
    "start-alone-fast": ("v2l-local", {"match_until": 0, "projector_learning_rate": 1}),
    "start-alone-frozen": ("v2l-local", {"match_until": 0, "projector_learning_rate": 0}),
    "start-alone-rotation": ("v2l-local", {"match_until": 0, "loss": {"estimator": "rotation"}}),
    "start-alone-summed": ("v2l-local", {"match_until": 0, "loss": {"quantizer": 384}}),
    "early": ("v2l-local", {"match_until": 0.12}),
    "to-the-end": ("v2l-local", {"match_until": 1}),
    "every-100": ("v2l-local", {"match_every": 100}),
    "fast-projector": ("v2l-local", {"projector_learning_rate": 1}),
    "summed": ("v2l-local", {"loss": {"quantizer": 384}}),
    "exchanged": ("v2l-local", {"loss": {"codebook": 1, "commitment": 0.33}}),
    "rotation": ("v2l-local", {"loss": {"estimator": "rotation"}}),
    "no-gan": ("v2l-local", {"loss": {"adversarial": 0}}),
    "gan-first": ("v2l-local", {"loss": {"discriminator_start": 0}}),
    "gan-strong": ("v2l-local", {"loss": {"discriminator_start": 0, "adversarial": 0.75}}),
    "gan-fast": ("v2l-local", {"loss": {"discriminator_start": 0}, "discriminator_learning_rate": 1}),
    "average": ("v2l-local", {"average_decay": 0.99}),
    "groups-32": ("v2l-local", {"network": {"norm_groups": 32}}),
    "v2l": ("v2l", {}),
    "v2l-zero": ("v2l", {"network": {"cross_attention_init": "zero"}}),
    "v2l-hidden-0": ("v2l", {"loss": {"hidden_codes": 0}}),
    "v2l-hidden-0.5": ("v2l", {"loss": {"hidden_codes": 0.5}}),
}


def changed(config: Config, name: str, change: dict, steps: int, batch: int, precision: str) -> TrainTokenizer:
    """The settings of tokenizer `name` in so many steps, with `change`; the GAN starts at half of them."""
    section = variant_settings(config.train_tokenizer, config.tokenizers[name]).model_dump()
    start = {"discriminator_start": steps // 2}
    shared = {"max_steps": steps, "global_batch_size": batch, "precision": precision, "loss": start, "log_every": 10}
    return TrainTokenizer.model_validate(merge(merge(section, shared), change))


def train_changed(config: Config, name: str, section: TrainTokenizer) -> tuple[VisionTokenizer, list[dict]]:
    """The tokenizer `name` of the experiment, trained as `section` says, and the lines of its metrics."""
    inputs = {
        "manifest": RESULTS / f"index_images/{section.dataset}.parquet",
        "features": RESULTS / f"embed_images/{section.dataset}.safetensors",
        "codebook": RESULTS / "filter_vocabulary/codebook.safetensors",
        "vocabulary": RESULTS / "expand_vocabulary/vocabulary.parquet",
    }
    with tempfile.TemporaryDirectory() as folder:
        job = {"tokenizer": name, "work": folder, "logs": folder}
        keys = ["seed", "train_tokenizer", f"tokenizers.{name}", f"datasets.{section.dataset}"]
        data = project(config.model_copy(update={"train_tokenizer": section}), keys, job)
        files = Inputs({key: [path] for key, path in inputs.items()})
        tokenizer, log, _ = trained(StageConfig("train_tokenizer", data), files, Path(folder) / "run", Ranks())
    return tokenizer.eval(), [json.loads(line) for line in log.lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("changes", nargs="*", choices=[[], *CHANGES], default=[], metavar="CHANGE")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    config = load_experiment({"experiment": EXPERIMENT})
    pictures = HeldOut(config, network_geometry(config.train_tokenizer.network))
    print("| changed | codes in the last lines | perplexity | PSNR | LPIPS | shuffled |\n|---|---|---|---|---|---|")
    for name in arguments.changes or CHANGES:
        method, change = CHANGES[name]
        section = changed(config, method, change, arguments.steps, arguments.batch, arguments.precision)
        tokenizer, (*_, line) = train_changed(config, method, section)
        found, costs = pictures.scores(tokenizer)
        scores = f"{found['psnr'].mean():.2f} | {found['lpips'].mean():.3f} | {costs.get('psnr', float('nan')):.3f}"
        print(f"| {name} | {line['codes_used']} | {line['codes_perplexity']:.0f} | {scores} |", flush=True)


if __name__ == "__main__":
    main()
