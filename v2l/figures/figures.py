"""The figures of an experiment, by the name of their files."""

from collections.abc import Callable
from dataclasses import dataclass

from v2l.configuration import runs
from v2l.configuration.config import Config
from v2l.configuration.registry import Registry
from v2l.configuration.runs import CORRUPTED_INPUT, Run


@dataclass(frozen=True)
class FigureKind:
    """`runs` is what the figure shows, first to last: without any there is no figure. `implementation` draws it.

    `caption` says in words what is to be seen, for a reader who has the figure and for one who cannot see it.
    """

    implementation: str
    runs: Callable[[Config], list[Run]]
    caption: str


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


FIGURES: Registry[FigureKind] = Registry(
    "figure",
    {
        "global_tokens": FigureKind(
            "v2l.figures.described_images:global_tokens_figure",
            runs.with_words,
            "Pictures with their nearest global tokens, nearest first. A circle marks single subwords, a square bigrams, "
            "a triangle trigrams (paper figure 6).",
        ),
        "reconstruction": FigureKind(
            "v2l.figures.image_grids:reconstruction_grid",
            runs.reconstructions,
            "Held-out pictures and what each tokenizer keeps of them: decoded from their own tokens, with PSNR in dB "
            "(higher is better) and LPIPS (lower is better) beneath (paper figure 7).",
        ),
        "restoration": FigureKind(
            "v2l.figures.image_grids:restoration_grid",
            shown_restorations,
            "Image restoration by in-context learning, a block for each task: the corrupted input, the restored "
            "picture by each method, the clean picture's own tokens decoded (tokenizer oracle) and the original. A dashed "
            "line encloses the tokens that were hidden.",
        ),
        "masked": FigureKind(
            "v2l.figures.image_grids:masked_grid",
            shown_masked,
            "Masked image restoration by a fine-tuned language model (paper figure 8): the input decoded with gaps, the "
            "pictures with the gaps filled, the picture's own tokens decoded (tokenizer oracle) and the original. Dashed "
            "lines enclose the gaps in the input.",
        ),
        "captioning_vqa": FigureKind(
            "v2l.figures.described_images:answers_figure",
            shown_answers,
            "Captions and answers to questions, each beneath its picture (paper figure 5).",
        ),
    },
)
