"""A data set, codebooks, features and untrained tokenizers small enough for the tests of the token stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from PIL import Image

from v2l.configuration.config import Config, EvaluateLLM
from v2l.configuration.experiment import validate
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.slices import StageConfig, project
from v2l.configuration.tokenizer_training import Network
from v2l.configuration.variants import merge
from v2l.data.geometry import network_geometry
from v2l.data.manifest import SCHEMA
from v2l.data.token_table import WORDS_SCHEMA
from v2l.io.storage import write_parquet, write_tensors
from v2l.models.v2l import V2LNetwork
from v2l.models.vqgan import VQGANTokenizer

NETWORK = Network(
    image_size=16,
    resize_via=None,
    channels=8,
    channel_multipliers=[1, 1, 1],
    residual_blocks=1,
    latent_channels=8,
    cross_attention_heads=2,
    cross_attention_head_channels=4,
    learned_codebook_size=12,
    learned_codebook_channels=8,
)  # 4x4 tokens
GEOMETRY = network_geometry(NETWORK)
DEMO = Path(__file__).parents[1] / "config/experiments/demo.yaml"
WIDTH, SUBWORDS, GLOBAL_CODES, GLOBAL_TOKENS = 16, 10, 7, 3
TRAIN, VAL = 3, 4


def build(folder: Path) -> dict[str, Path]:
    """Write the inputs of the token stages to `folder`; returns them by name, weights as `weights.<tokenizer>`."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    rows = []
    for number in range(TRAIN + VAL):
        split = "train" if number < TRAIN else "val"
        path = folder / "images" / split / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = 20 + number, 24 - number
        Image.fromarray(generator.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
        rows.append((f"{split}/{number}.png", split, number % 2, f"class {number % 2}", [], [], width, height))
    names = {name: folder / f"{name}.safetensors" for name in ("features", "codebook")}
    names |= {name: folder / f"{name}.parquet" for name in ("manifest", "words")}
    dataset = {"name": "pictures", "root": str(folder / "images"), "fit": "crop", "classes": ["class 0", "class 1"]}
    table = pa.table(list(zip(*rows, strict=True)), schema=SCHEMA)
    write_parquet(names["manifest"], table, {}, {"dataset": dataset})
    feature_ND = torch.nn.functional.normalize(torch.randn(len(rows), WIDTH), dim=1)
    write_tensors(names["features"], {"feature_ND": feature_ND}, {}, {"encoder": "fake"})
    codebook = {"global_VD": torch.randn(GLOBAL_CODES, WIDTH), "local_VD": torch.randn(SUBWORDS, WIDTH)}
    write_tensors(names["codebook"], codebook | {"global_entries_V": torch.arange(GLOBAL_CODES)}, {})
    texts = [f" word{number}" for number in range(GLOBAL_CODES)]
    words = pa.table([range(GLOBAL_CODES), texts, range(GLOBAL_CODES)], WORDS_SCHEMA)
    write_parquet(names["words"], words, {}, {"vocabulary": {"llm": "tiny", "subwords": SUBWORDS}})
    for tokenizer in (
        V2LNetwork("v2l", "v2l", NETWORK, GLOBAL_TOKENS, codebook["local_VD"], codebook["global_VD"]),
        V2LNetwork("v2l-local", "v2l-local", NETWORK, GLOBAL_TOKENS, codebook["local_VD"]),
        VQGANTokenizer("vqgan", NETWORK),
    ):
        tokenizer.eval().match_moments(torch.rand(4, 3, 16, 16) * 2 - 1)
        names[f"weights.{tokenizer.name}"] = folder / f"{tokenizer.name}.safetensors"
        tokenizer.save(names[f"weights.{tokenizer.name}"], {})
    return names


def experiment(**overrides) -> Config:
    """The demo experiment with samples of these pictures; `overrides` are config sections."""
    settings = {
        "experiment": "demo",
        "datasets": {"pictures": {"kind": "folder", "root": "images"}},
        "samples": {
            "reconstruction": {"dataset": "pictures", "splits": ["val"]},
            "restoration": {
                "dataset": "pictures",
                "splits": ["val"],
                "images": 3,
                "corruptions": ["none", *RESTORATION_TASKS],
            },
        },
        "train_tokenizer": {"dataset": "pictures", "network": NETWORK.model_dump()},
        "tokenizers": {"spae": {"pyramid": [1, 2, 4], "semantic_layers": 2}},
        "extract_tokens": {"batch_size": 2},
        "reconstruct_images": {"batch_size": 2},
    }
    return validate(merge(merge(yaml.safe_load(DEMO.read_text()), settings), overrides), "the test")


def stage_config(stage: str, keys: list[str], job: dict[str, str], **overrides) -> StageConfig:
    """The slice of `experiment(**overrides)` under `keys` for a job of `stage`."""
    return StageConfig(stage, project(experiment(**overrides), keys, job))


def task_section(task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Section `evaluate_llm` of a job of `task`, as its rule passes it."""
    config = Config.model_construct(evaluate_llm=EvaluateLLM.model_validate({task: settings}))
    return project(config, [f"evaluate_llm.{task}"])["evaluate_llm"]
