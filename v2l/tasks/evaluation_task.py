"""What every task of stage evaluate_llm gives: rows in blocks that no other block needs, and who answers a block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import pyarrow as pa

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.io.job_files import Inputs
from v2l.llm.journal import Journal

Block = TypeVar("Block")


class EvaluationTask(ABC, Generic[Block]):
    """The task of `job.task` on the tokens of `job.tokenizer`, by `job.predictor` in `job.protocol`.

    `schema`: the columns of its predictions. `blocks`: what is answered together; a block becomes one table, whatever
    the other blocks are. `prompts`: how many prompts there are in all. Both are known before a model is loaded.
    """

    schema: pa.Schema
    blocks: Sequence[Block]
    prompts: int

    def __init__(self, config: StageConfig, inputs: Inputs):
        self.config, self.inputs = config, inputs
        self.source = Source(config.job["task"], config.job["predictor"], config.job["protocol"])

    @abstractmethod
    def answering(self, journal: Journal) -> Callable[[Block], pa.Table]:
        """A function that answers a block; language models are loaded here, and note their batches in `journal`."""
