"""Stages of the language model: expand_vocabulary and evaluate_llm's restoration and classification."""

import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from torch import Tensor

from benchmarks.measuring import Case, counted, equal_share
from benchmarks.sizes import Sizes
from v2l.configuration.config import ExpandVocabulary
from v2l.configuration.evaluation import Classification, Grid, Restoration
from v2l.expand_vocabulary import continue_subwords
from v2l.llm.engine import generate
from v2l.llm.prompts import RestorationPrompt
from v2l.precision import WEIGHTS, backward_of, computed_in
from v2l.runtime import rng
from v2l.tasks.cells import ShownImages, cells_of
from v2l.tasks.classification import prompt_of, questions
from v2l.tasks.restoration import image_blocks, majority_predictor
from v2l.tasks.restoration_sequences import RestorationSequence, TokenMaps

CELL = Grid(ways=[5], tokens=[5], induction=[True], inner_shots=[3])  # prompts of about 450 tokens
CONTROL = 3  # ids that stand for no word
SUBWORD_PROMPT = [1, 263, 15373, 310]  # as long as "a photo of" is
STOP_SHARE = 4  # one id in so many ends an answer


def random_llm(sizes: Sizes, where: torch.device, precision: str) -> transformers.PreTrainedModel:
    """A LLaMA with random weights, made on the device in its own precision, that computes as a loaded one does."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**sizes.llama)
    with torch.device(where):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=WEIGHTS[precision], trust_remote_code=False)
    model = model.eval().requires_grad_(False)
    model.forward = computed_in(backward_of(precision))(model.forward)
    return model


class Words:
    """In place of a tokenizer: a word, a mark or a line's end is one id, and every text begins with id 1."""

    eos_token_id, unk_token_id = 2, 0

    def __init__(self, size: int):
        self.size = size

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        ids = [CONTROL + zlib.crc32(word.encode()) % (self.size - CONTROL) for word in re.findall(r"\w+|[^\w ]", text)]
        return SimpleNamespace(input_ids=[1] * add_special_tokens + ids)


@dataclass(frozen=True)
class Workload:
    """Prompts, and what generation is told about their answers."""

    task: str
    prompts: list[list[int]]
    most: int
    batch_size: int | None
    stop_ids: Collection[int] = ()
    allowed_ids: list[int] | None = None


def expand_vocabulary(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """Two greedy tokens for each subword; published: one at a time, every pass over the whole prompt."""
    model, size = random_llm(sizes, where, sizes.llm_precision), ExpandVocabulary(llm="random").batch_size
    vocabulary = sizes.llama["vocab_size"]
    prompt = [number % vocabulary for number in SUBWORD_PROMPT]
    subwords = rng(0, "benchmark subwords").permutation(np.arange(CONTROL, vocabulary))[: sizes.subwords.own].tolist()
    banned = list(range(CONTROL))

    @torch.inference_mode()
    def published() -> Tensor:
        rows = []
        for subword in subwords[: sizes.subwords.published]:
            ids = [*prompt, subword]
            for _ in range(2):
                logits_V = model(torch.tensor([ids], device=where), use_cache=False).logits[0, -1]
                logits_V[banned] = -torch.inf
                ids.append(int(logits_V.argmax()))
            rows.append(ids[-2:])
        return torch.tensor(rows)

    few = subwords[:32]
    yield Case(
        *("expand_vocabulary", sizes.llm_precision, "subwords"),
        own=lambda: continue_subwords(model, prompt, subwords, banned, size),
        items=len(subwords),
        published=published,
        published_items=sizes.subwords.published,
        flop=lambda: counted(lambda: continue_subwords(model, prompt, few, banned, len(few))) / len(few),
        agreement=equal_share,
        sizes=described_llm(model, batch=size),
    )


def evaluate_llm(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """Prompts of restoration and of classification as one block asks them; published: one prompt at a time."""
    model = random_llm(sizes, where, sizes.llm_precision)
    words = Words(sizes.llama["vocab_size"])
    for workload in (restorations(sizes, words), classifications(sizes, words)):
        yield _generation(workload, model, sizes, where)


def _generation(workload: Workload, model: transformers.PreTrainedModel, sizes: Sizes, where: torch.device) -> Case:
    prompts = workload.prompts
    answers: list[list[int]] = []
    allowed = None if workload.allowed_ids is None else torch.tensor(workload.allowed_ids, device=where)

    def own() -> Tensor:
        answers[:] = generate(
            model,
            prompts,
            workload.most,
            workload.batch_size,
            stop_ids=workload.stop_ids,
            allowed_ids=workload.allowed_ids,
        )
        return _padded(answers, workload.most)

    @torch.inference_mode()
    def published() -> Tensor:
        rows = []
        for prompt in prompts[: sizes.prompts.published]:
            cache, token_1T, made = transformers.DynamicCache(config=model.config), torch.tensor([prompt]), []
            while len(made) < workload.most and not (made and made[-1] in workload.stop_ids):
                logits_V = model(token_1T.to(where), past_key_values=cache, use_cache=True).logits[0, -1]
                place = int((logits_V if allowed is None else logits_V[allowed]).argmax())
                made.append(place if allowed is None else workload.allowed_ids[place])
                token_1T = torch.tensor([made[-1:]])
            rows.append(made)
        return _padded(rows, workload.most)

    lengths = [len(prompt) for prompt in prompts]
    return Case(
        *(f"evaluate_llm.{workload.task}", sizes.llm_precision, "prompts"),
        own=own,
        items=len(prompts),
        published=published,
        published_items=min(sizes.prompts.published, len(prompts)),
        flop=lambda: owed(model, prompts, answers),
        agreement=equal_share,
        sizes=described_llm(model, batch=workload.batch_size, prompt_tokens=float(np.mean(lengths))),
    )


def restorations(sizes: Sizes, words: Words) -> Workload:
    """The middle prompts of images with random codes, in every task; a code is the id of the same number."""
    section, numbers = Restoration(), rng(0, "benchmark restoration")
    names = [str(number) for number in range(64)]
    codes = words.size - CONTROL
    maps = TokenMaps(
        protocol="paper",
        grid=(16, 16),
        codebook_size=codes,
        global_tokens=sizes.global_tokens,
        image_ids=names,
        codes={(kind, name): numbers.integers(codes, size=256) for kind in ("none", *section.tasks) for name in names},
    )
    prompt, found = RestorationPrompt(words, section.instruction), []
    for task in section.tasks:
        for name in image_blocks(section, maps)[0]:
            sequence = RestorationSequence(section, maps, task, name, 0)
            for _ in range(len(sequence.steps) // 2):
                sequence.take(*majority_predictor([sequence.question()]))
            question = sequence.question()
            shown = zip(question.example_SN + CONTROL, question.answer_SM + CONTROL, strict=True)
            examples = [(example.tolist(), answer.tolist()) for example, answer in shown]
            found.append(prompt.ids(examples, (question.query_N + CONTROL).tolist(), section.predicted_tokens))
    chosen = _spread(found, sizes.prompts.own)
    allowed = list(range(CONTROL, words.size))
    return Workload("restoration", chosen, section.predicted_tokens, section.batch_size, allowed_ids=allowed)


def classifications(sizes: Sizes, words: Words) -> Workload:
    """Episodes of one cell over random pictures; a set share of the ids ends an answer, as a newline would."""
    numbers, classes, per_class = rng(0, "benchmark classification"), 20, 12
    count = classes * per_class
    images = ShownImages(
        image_id=np.array([str(number) for number in range(count)]),
        split=np.array(["test"] * count),
        class_name=np.array([f"class{number % classes}" for number in range(count)]),
        code_NK=numbers.integers(4000, size=(count, 21)),
        text_V=[" ".join(f"{part}{number}" for part in "abc"[: 1 + number % 3]) for number in range(4000)],
    )
    section = Classification(grid=[CELL], episodes=sizes.prompts.own)
    blocks = questions(section, cells_of(section.grid), images, 0)
    prompts = [words(prompt_of(question, images)).input_ids for question in blocks[0]]
    stops = set(numbers.permutation(words.size)[: words.size // STOP_SHARE].tolist())
    return Workload("classification", prompts, section.max_new_tokens, section.batch_size, stop_ids=stops)


def owed(model: transformers.PreTrainedModel, prompts: list[list[int]], answers: list[list[int]]) -> float:
    """Operations for each prompt: its tokens and its answer's but one once, what all share once, no padding.

    A forward pass costs a second-degree polynomial of its tokens, known from three lengths, and each position's logits
    what one more position costs.
    """
    lengths = (8, 16, 32)

    def passed(tokens: int, kept: int) -> float:
        token_1T = torch.zeros(1, tokens, dtype=torch.int64, device=model.device)
        with torch.inference_mode():
            return counted(lambda: model(token_1T, use_cache=False, logits_to_keep=kept))

    costs = [passed(length, 1) for length in lengths]
    head = passed(8, 2) - costs[0]
    square, line, rest = np.polyfit(lengths, [cost - head for cost in costs], 2)

    def body(tokens: int) -> float:
        return square * tokens**2 + line * tokens + rest

    shared = 0
    while len(prompts) > 1 and all(len(row) > shared + 1 and row[shared] == prompts[0][shared] for row in prompts):
        shared += 1
    pairs = zip(prompts, answers, strict=True)
    own = sum(body(len(prompt) + len(answer) - 1) - body(shared) + head * len(answer) for prompt, answer in pairs)
    return float(own + body(shared)) / len(prompts)


def _padded(rows: list[list[int]], width: int) -> Tensor:
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows])


def _spread(items: list, count: int) -> list:
    """`count` of the items, spread over all of them."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


def described_llm(model: transformers.PreTrainedModel, **others: float | int | None) -> dict:
    """What a result says of the model."""
    return {"parameters": sum(part.numel() for part in model.parameters())} | others
