"""The figures of an experiment, by the name of their files."""

from collections.abc import Callable
from dataclasses import dataclass

from v2l.configuration import runs
from v2l.configuration.config import Config
from v2l.configuration.imported_weights import is_imported
from v2l.configuration.registry import Registry
from v2l.configuration.runs import CORRUPTED_INPUT, Run


def nothing(config: Config) -> list:
    """What a figure of something else shows of trainings or of runs."""
    return []


@dataclass(frozen=True)
class FigureKind:
    """`implementation` draws the figure; `caption` says what is to be seen, also to those who cannot see it.

    `runs` and `trainings` (names of tokenizers) are what it shows, first to last: without any there is no figure.
    """

    implementation: str
    caption: str
    runs: Callable[[Config], list[Run]] = nothing
    trainings: Callable[[Config], list[str]] = nothing


def shown_words(config: Config) -> list[Run]:
    """A tokenizer whose tokens stand for words: the first that restores, or else the first of all."""
    worded = runs.with_words(config)
    restoring = [run for run in worded if run.tokenizer in config.evaluate_llm.restoration.tokenizers[:1]]
    return (restoring or worded)[:1]


def shown_restorations(config: Config) -> list[Run]:
    """Restorations in the first protocol: each tokenizer's by the first language model (without any, by the first
    baseline), between the corrupted input and the first tokenizer's oracle."""
    section = config.evaluate_llm.restoration
    predictors, oracle = (section.llms or section.baselines)[:1], "tokenizer-oracle"
    restored = [
        run
        for run in runs.restorations(config, [*predictors, oracle])
        if run.source.protocol == section.protocols[0]
        and (run.source.predictor != oracle or run.tokenizer == section.tokenizers[0])
    ]
    return [CORRUPTED_INPUT, *sorted(restored, key=lambda run: run.source.predictor == oracle)]


def shown_masked(config: Config) -> list[Run]:
    """Masked restorations by the first tokenizer."""
    return [run for name in config.evaluate_llm.masked.tokenizers[:1] for run in runs.masked_runs(config, name)]


def shown_answers(config: Config) -> list[Run]:
    """The first run of each task that is answered in text."""
    return [run for task in runs.TEXT_TASKS for run in runs.task_runs(config, task)[:1]]


def shown_trainings(config: Config) -> list[str]:
    """Tokenizers that are trained here."""
    return [name for name in config.train_tokenizer.tokenizers if not is_imported(config.tokenizers[name])]


FIGURES: Registry[FigureKind] = Registry(
    "figure",
    {
        "global_tokens": FigureKind(
            "v2l.figures.described_images:global_tokens_figure",
            "Pictures with their nearest global tokens, nearest first. A circle marks single subwords, a square "
            "bigrams, a triangle trigrams (paper figure 6).",
            runs=shown_words,
        ),
        "reconstruction": FigureKind(
            "v2l.figures.image_grids:reconstruction_grid",
            "Pictures and what each tokenizer keeps of them: decoded from their own tokens, with PSNR in dB (higher is "
            "better) and LPIPS (lower is better) beneath (paper figure 7).",
            runs=runs.reconstructions,
        ),
        "restoration": FigureKind(
            "v2l.figures.image_grids:restoration_grid",
            "Image restoration by in-context learning, a block for each task: the corrupted input, the picture as each "
            "method restored it, the clean picture's own tokens decoded (tokenizer oracle) and the original. Dashed "
            "lines enclose what was hidden.",
            runs=shown_restorations,
        ),
        "masked": FigureKind(
            "v2l.figures.image_grids:masked_grid",
            "Masked image restoration by a fine-tuned language model (paper figure 8): the picture decoded with gaps, "
            "enclosed by dashed lines, with the gaps filled, with its own tokens (tokenizer oracle), and the original.",
            runs=shown_masked,
        ),
        "captioning_vqa": FigureKind(
            "v2l.figures.described_images:answers_figure",
            "Captions, and answers (A) to questions (Q), each beneath its picture (paper figure 5).",
            runs=shown_answers,
        ),
        "training_curves": FigureKind(
            "v2l.figures.training_curves:losses_figure",
            "Losses of the trainings, each the mean over the steps since the last point.",
            trainings=shown_trainings,
        ),
        "codebook_usage": FigureKind(
            "v2l.figures.training_curves:usage_figure",
            "Use of the codebook in the trainings: the share of its codes that occurred, and the perplexity of their "
            "frequencies, which is the number of codes if all occur equally often.",
            trainings=shown_trainings,
        ),
    },
)
