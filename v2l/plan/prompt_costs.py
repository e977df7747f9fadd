"""How many prompts a task asks and how long they are, without data: the tasks' own code on words of usual length."""

import re
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from v2l.configuration.config import Config
from v2l.configuration.evaluation import TextTask
from v2l.configuration.model_entries import LLM
from v2l.configuration.run_settings import for_run
from v2l.configuration.runs import Run
from v2l.configuration.sources import PAPER, RELEASED
from v2l.errors import UserError
from v2l.llm.batches import BLOCK, LEAST
from v2l.llm.prompts import (
    MaskedPrompt,
    RestorationPrompt,
    caption_heading,
    classification_prompt,
    instruction_text,
    join_words,
    question_heading,
    text_prompt,
)
from v2l.llm.text_ids import TextIds
from v2l.llm.tokenizer_files import load_tokenizer
from v2l.tasks.captioning import CaptioningTask
from v2l.tasks.cells import cells_of
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.masked import gaps_of
from v2l.tasks.token_maps import context, image_count, image_mask, steps
from v2l.tasks.vqa import VQATask

CLASS_NAME, CAPTION = "golden retriever", "A man is riding a horse on a beach near the sea."
QUESTIONS_OF_AN_IMAGE = 5  # in VQAv2
QUESTION, ANSWER = "What is the man in the picture doing?", "riding"
# Words of usual length: global tokens of method v2l are subwords, bigrams and trigrams, those of others single words.
EXPANDED, SINGLE = ("dog", "big dog", "a big dog"), ("dog",)
MASKS = 32  # random masks behind the mean length of a gap


class Prompts(NamedTuple):
    """`asked` prompts of a mean length in tokens, of which `cached` are computed once for many; `new` are generated."""

    asked: int
    length: float
    cached: float
    new: float


class StandIn:
    """Counts tokens where a model's own tokenizer is not there: a token for each word, mark and line's end."""

    unk_token_id = bos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> Any:
        pieces = re.findall(r"\w{1,8}|[^\w\s]|\n", text)
        return SimpleNamespace(input_ids=[0] * add_special_tokens + [1] * len(pieces))


def tokenizer_of(entry: LLM) -> Any:
    """The model's tokenizer if it can be loaded, else a stand-in."""
    try:
        return load_tokenizer(Path(entry.path))
    except UserError:
        return StandIn()


class PromptCosts:
    """Prompts of one language model. `grid`: sides of the token map; `images` of the task's sample."""

    def __init__(self, config: Config, entry: LLM):
        self.config, self.tokenizer = config, tokenizer_of(entry)
        self.texts = TextIds(self.tokenizer)

    def prompts(self, run: Run, grid: tuple[int, int], images: int) -> list[Prompts]:
        """The prompts of a run, by what they are alike in."""
        task = run.source.task
        if task in ("captioning", "vqa"):
            return [self._text_task(run, images)]
        if task == "classification":
            return self._classification(run)
        return self._masked(grid, images) if task == "masked" else self._restoration(run, grid, images)

    def masked_length(self, grid: tuple[int, int]) -> int:
        """Tokens of a training image of stage finetune_llm."""
        length = grid[0] * grid[1]
        nothing = np.zeros(length, dtype=bool)
        return len(MaskedPrompt(self.tokenizer).ids(np.zeros(length, np.int64), nothing, length))

    def _tokens(self, text: str) -> int:
        return len(self.texts.first(text))

    def _words(self, run: Run, count: int) -> str:
        words = EXPANDED if self.config.tokenizers[run.tokenizer].method == "v2l" else SINGLE
        return join_words(words[place % len(words)] for place in range(count))

    def _classification(self, run: Run) -> list[Prompts]:
        section, found = self.config.evaluate_llm.classification, []
        is_released = run.source.protocol == RELEASED
        answer = self._tokens(CLASS_NAME + "\n") - 1
        for cell in cells_of(for_run(section, run.tokenizer, PAPER).grid):
            words, names = self._words(run, cell.tokens), [CLASS_NAME] * cell.ways
            support = [(words, CLASS_NAME)] * (cell.ways * cell.inner_shots)
            text = classification_prompt(names, support, words, cell.induction, cell.repeats, is_released)
            found.append(Prompts(section.episodes, self._tokens(text), 0, min(answer, section.max_new_tokens)))
        return found

    def _restoration(self, run: Run, grid: tuple[int, int], images: int) -> list[Prompts]:
        section, protocol = self.config.evaluate_llm.restoration, run.source.protocol
        images = min(images, image_count(section, run.tokenizer, protocol) or images)
        prompt, found = RestorationPrompt(self.tokenizer, section.instruction), []
        head = self._tokens(instruction_text(section.instruction, section.predicted_tokens))
        for task in section.tasks:
            masked, shapes = corruption_class(task).is_masked, []
            for step in steps(mask_positions(task, grid), section.predicted_tokens):
                shapes.append((len(context(masked, step, section.context_tokens, protocol)), len(step)))
            lengths = {
                (shown, count): len(
                    prompt.ids([([0] * shown, [0] * count)] * len(section.replacement_shares), [0] * shown, count)
                )
                for shown, count in set(shapes)
            }
            mean = fmean(lengths[shape] for shape in shapes)
            new = fmean(count for _, count in shapes)
            found.append(Prompts(len(shapes) * images, mean, head * (1 - 1 / (section.batch_size or LEAST)), new))
        return found

    def _masked(self, grid: tuple[int, int], images: int) -> list[Prompts]:
        length, share = grid[0] * grid[1], self.config.evaluate_llm.masked.mask_share
        masks = [image_mask(length, share, self.config.seed, f"plan {number}") for number in range(MASKS)]
        gaps = [gap for mask_L in masks for gap in gaps_of(mask_L)]
        prompt, map_L, none_L = MaskedPrompt(self.tokenizer), np.zeros(length, np.int64), np.zeros(length, dtype=bool)
        whole = len(prompt.ids(map_L, none_L, 0))
        mean = whole + fmean(int(gap[0]) for gap in gaps)
        return [Prompts(round(images * len(gaps) / MASKS), mean, 0, fmean(map(len, gaps)))]

    def _text_task(self, run: Run, images: int) -> Prompts:
        section: TextTask = getattr(self.config.evaluate_llm, run.source.task)
        words = self._words(run, section.tokens)
        if run.source.task == "captioning":
            heading, answer, most = caption_heading(words), CAPTION, self.config.evaluate_llm.captioning.images
            instruction, asked = CaptioningTask.instruction, images
        else:
            heading, answer, most = question_heading(words, QUESTION), ANSWER, self.config.evaluate_llm.vqa.questions
            instruction, asked = VQATask.instruction, QUESTIONS_OF_AN_IMAGE * images
        whole = text_prompt(instruction, [(heading, answer)] * section.in_context_examples, heading)
        shared = self._tokens(whole) - self._tokens(heading)
        count = min(most, max(1, asked - section.contexts * section.in_context_examples))
        cached = shared * (1 - 1 / (BLOCK * section.batch_size if section.batch_size else LEAST))
        return Prompts(count, self._tokens(whole), cached, min(self._tokens(answer), section.max_new_tokens))
