"""A tiny LLaMA and token maps with a pattern, for the tests of masked image restoration."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from tests.tiny import write_llama
from tests.token_experiment import task_section
from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.configuration.model_entries import LLM
from v2l.configuration.slices import StageConfig
from v2l.data.token_table import schema
from v2l.io.storage import parquet_metadata, write_parquet
from v2l.llm.code_ids import all_code_ids
from v2l.llm.language_model import load_llm
from v2l.llm.vocabulary import Vocabulary

SIDE, CODES, IMAGES = 4, 12, 14
FINETUNING = {
    "steps": 7,
    "batch_size": 4,
    "micro_batch_size": 3,
    "learning_rate": 0.02,
    "warmup_share": 0.0,
    "held_out_images": 4,
    "precision": "float32",
    "checkpoint_every": 2,
    "log_every": 3,
}


def build(folder: Path) -> dict[str, Path]:
    """Write `tokens` (IMAGES maps of SIDE x SIDE, each of two codes in stripes), `vocabulary` and the folder `llm`."""
    torch.manual_seed(0)
    write_llama(folder / "llm")
    words = Vocabulary(load_llm("tiny", entry(folder / "llm"), torch.device("cpu"))[1])
    pairs = words.subwords()
    columns = {"kind": ["subword"] * len(pairs), "token_ids": [[n] for n, _ in pairs], "text": [t for _, t in pairs]}
    metadata = {"vocabulary": words.identity("tiny") | {"subwords": len(pairs)}}
    inputs = {name: folder / f"{name}.parquet" for name in ("tokens", "vocabulary")} | {"llm": folder / "llm"}
    write_parquet(inputs["vocabulary"], pa.table(columns), {}, metadata)
    generator = np.random.default_rng(0)
    rows = []
    for number in range(IMAGES):
        stripes = np.tile(generator.choice(CODES, 2, replace=False), SIDE * SIDE // 2)
        rows.append((f"{number:02d}.png", "train", 0, "none", None, stripes.tolist()))
    table = pa.table(list(zip(*rows, strict=True)), schema=schema(SIDE * SIDE, 1))
    codebooks = {"local_size": CODES, "global_size": None}
    tokenizer = {"name": "stripes", "method": "vqgan", "note": "", "worded_ids": None, "shown_as": "ordinary token"}
    metadata |= {"tokenizer": tokenizer | {"codebooks": codebooks}}
    write_parquet(inputs["tokens"], table, {}, metadata | {"grid": [SIDE, SIDE]})
    return inputs


def ids_of(inputs: dict[str, Path]) -> np.ndarray:
    """The LLM's id of each code."""
    words = Vocabulary(load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1])
    return all_code_ids(parquet_metadata(inputs["tokens"])["tokenizer"], words, inputs["vocabulary"])


def entry(folder: Path) -> LLM:
    """The registry entry of the tiny LLaMA."""
    return LLM(path=str(folder), dtype="float32")


def stage_config(
    stage: str, inputs: dict[str, Path], work: Path, machine: dict[str, str] | None = None, **changes
) -> StageConfig:
    """The slice of `stage` for the tiny LLaMA; `changes` of FINETUNING, or of `evaluate_llm.masked`."""
    job = {"tokenizer": "stripes", "predictor": "tiny", "work": str(work)}
    data = {"seed": 0, "llms": {"tiny": {"path": str(inputs["llm"]), "dtype": "float32"}}}
    if stage == "finetune_llm":
        section = FinetuneLLM.model_validate(FINETUNING | changes).model_dump(mode="json")
        return StageConfig(stage, data | {"finetune_llm": section, "job": job})
    predictor = changes.pop("predictor", "tiny")
    job |= {"predictor": predictor, "protocol": "paper", "task": "masked"}
    section = task_section("masked", {"batch_size": 3} | changes)
    return StageConfig(stage, data | {"evaluate_llm": section, "job": job}, machine)
