"""What an experiment evaluates: sources by tokenizer, as its selections ask for them."""

from typing import NamedTuple

from v2l.configuration.baselines import BASELINES
from v2l.configuration.config import Config
from v2l.configuration.sources import HELD_OUT, PAPER, Source

PIXELS = "pixels"  # stands for the tokenizer of images that none made
TEXT_TASKS = ("captioning", "vqa")
IMAGE_TASKS = ("reconstruction", "restoration", "masked")  # codes are decoded to images, which are scored


class Run(NamedTuple):
    """A source on one tokenizer's tokens; as text the path of its files below a stage's folder."""

    tokenizer: str
    source: Source

    def __str__(self) -> str:
        return f"{self.tokenizer}/{self.source}"


def protocols_of(config: Config, task: str) -> list[str]:
    """The protocols that a task is evaluated in."""
    return getattr(getattr(config.evaluate_llm, task), "protocols", [PAPER])


def task_runs(config: Config, task: str) -> list[Run]:
    """Every run of a task by a language model or a baseline that predicts.

    Where baselines depend on the protocol (restoration) they run in each; else only language models do. A predictor
    that reads no tokens runs once.
    """
    section = getattr(config.evaluate_llm, task)
    if task == "restoration":
        return restorations(config, [*section.llms, *section.baselines])
    asked = [Source(task, llm, protocol) for protocol in protocols_of(config, task) for llm in section.llms]
    runs = [Run(tokenizer, source) for tokenizer in section.tokenizers for source in asked]
    for baseline in section.baselines:
        reads_tokens = BASELINES[baseline].uses[task].reads_tokens
        tokenizers = section.tokenizers if reads_tokens else section.tokenizers[:1]
        runs += [Run(tokenizer, Source(task, baseline)) for tokenizer in tokenizers]
    return runs


def restorations(config: Config, predictors: list[str]) -> list[Run]:
    """Every restoration by `predictors`: each protocol of each tokenizer."""
    section = config.evaluate_llm.restoration
    return [
        Run(tokenizer, Source("restoration", name, protocol))
        for protocol in section.protocols
        for tokenizer in section.tokenizers
        for name in predictors
        if protocol != HELD_OUT or tokenizer in (section.held_out.tokenizers or section.tokenizers)
    ]


def masked_runs(config: Config, tokenizer: str) -> list[Run]:
    """A tokenizer's images in masked restoration, in the order of figure 8."""
    predicted = [run.source for run in task_runs(config, "masked") if run.tokenizer == tokenizer]
    bounds = [Source("masked", name) for name in ("corrupted-input", "tokenizer-oracle")]
    return [Run(tokenizer, source) for source in (bounds[0], *predicted, bounds[1])]


def reconstructions(config: Config) -> list[Run]:
    """Tokenizers of table 3; v2l-subword differs from v2l in its words alone and stands in tables 1 and 2."""
    return [
        Run(name, Source("reconstruction"))
        for name in config.train_tokenizer.tokenizers
        if config.tokenizers[name].method != "v2l-subword"
    ]


def with_words(config: Config) -> list[Run]:
    """Tokenizers of table 2: those whose tokens stand for words."""
    entries = {name: config.tokenizers[name] for name in config.train_tokenizer.tokenizers}
    return [Run(name, Source("semantics")) for name, entry in entries.items() if entry.method not in entry.wordless]


CORRUPTED_INPUT = Run(PIXELS, Source("restoration", "corrupted-input"))
MEAN_IMAGE = Run(PIXELS, Source("reconstruction", "mean-image"))
