"""What a file of predictions, images or scores is made of: a task, who answered it, and in which protocol.

Protocols: `paper` is the paper's text and, where it is silent, the released code; `released` the code as it is;
`held-out` shows nothing of the answer in the input.
"""

import re
from dataclasses import dataclass

from v2l.configuration.baselines import BASELINES, Use

PAPER, RELEASED, HELD_OUT = "paper", "released", "held-out"


@dataclass(frozen=True)
class Source:
    """`task` by `predictor` in `protocol`; as text `task.predictor@protocol`, without what goes without saying.

    The predictor is a language model of the registry, a baseline, or empty where a tokenizer is measured on its own
    (`semantics`, `reconstruction`). Names of registry entries hold neither `@` nor `/`.
    """

    task: str
    predictor: str = ""
    protocol: str = PAPER

    @classmethod
    def parse(cls, text: str) -> "Source":
        """The source that `str` wrote."""
        task, _, run = text.partition(".")
        return cls.of_run(task, run)

    @classmethod
    def of_run(cls, task: str, run: str) -> "Source":
        """The source of `predictor@protocol`, as it stands in the paths of stage evaluate_llm."""
        predictor, _, protocol = run.partition("@")
        return cls(task, predictor, protocol or PAPER)

    @property
    def run(self) -> str:
        """`predictor@protocol`; protocol `paper` goes without saying."""
        return self.predictor if self.protocol == PAPER else f"{self.predictor}@{self.protocol}"

    @property
    def baseline(self) -> Use | None:
        """How its baseline takes part in the task; None for a language model and for a tokenizer on its own."""
        baseline = BASELINES.get(self.predictor)
        return baseline.uses.get(self.task) if baseline else None

    @property
    def by_language_model(self) -> bool:
        """Whether a language model answered."""
        return bool(self.predictor) and self.baseline is None

    @property
    def is_predicted(self) -> bool:
        """Whether a language model or a baseline in its place answered: stage evaluate_llm has a file of it."""
        return bool(self.predictor) and (self.baseline is None or BASELINES[self.predictor].predicts)

    @property
    def label(self) -> str:
        """The predictor in words; of a language model its registry name."""
        if use := self.baseline:
            return use.label or BASELINES[self.predictor].label
        return self.predictor

    def __str__(self) -> str:
        return f"{self.task}.{self.run}" if self.predictor else self.task


def source_pattern(task: str, *predictors: str) -> str:
    """A wildcard's pattern for the sources of `task` by these predictors in any protocol; without any, of none."""
    named = "|".join(map(re.escape, predictors))
    return re.escape(task) + (rf"\.(?:{named})(?:@[a-z-]+)?" if predictors else "")


def run_pattern() -> str:
    """A wildcard's pattern for the runs of language models and of baselines that predict."""
    silent = "|".join(re.escape(name) for name, baseline in BASELINES.items() if not baseline.predicts)
    return rf"(?!(?:{silent})(?:@|\.parquet|$))[^/]+"
