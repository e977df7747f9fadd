"""The files of weights/demo/ from the trainings of experiment `demo-training`: `make demo-training` ends with it."""

import csv
import logging
import platform
from pathlib import Path

import torch

from v2l.configuration.experiment import load_experiment
from v2l.models.compact import write_compact

EXPERIMENT, TARGET = "demo-training", Path("weights/demo")


def machine() -> str:
    """What the trainings ran on: the GPU, else the processor with its cores."""
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} cores of {platform.processor() or platform.machine()}"


def hours(benchmark: Path) -> float:
    """Wall-clock hours of the job that Snakemake's benchmark file tells of."""
    with open(benchmark) as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t")) / 3600


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in load_experiment({"experiment": EXPERIMENT}).train_tokenizer.tokenizers:
        source = Path(f"results/{EXPERIMENT}/train_tokenizer/{name}.safetensors")
        spent = hours(Path(f"logs/{EXPERIMENT}/train_tokenizer/{name}.benchmark.tsv"))
        write_compact(source, TARGET / source.name, "make demo-training", machine(), spent)


if __name__ == "__main__":
    main()
