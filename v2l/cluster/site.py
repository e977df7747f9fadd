"""Resources of rules that follow from the site profile and from the experiment's models."""

import math
import os
from collections.abc import Callable
from functools import cached_property

from v2l.cluster.card_check import local_cards
from v2l.cluster.request import Request
from v2l.configuration.config import Config
from v2l.configuration.model_entries import LLM
from v2l.configuration.sources import Source
from v2l.llm import memory

GPU_MEMORY_MB = 80000
GPU_CORES = 8  # that read the pictures of a job with a GPU
JOB_MEMORY_MB = 2500  # of a job on CPUs, beside the weights of a language model


class Site:
    """What the rule files ask about the machines that will run their jobs."""

    def __init__(self, workflow, config: Config):
        self.workflow, self.config = workflow, config
        defaults = workflow.resource_settings._parsed_default_resources
        self.defaults = {name: resource.raw for name, resource in defaults.items()}

    def cores(self, wildcards) -> int:
        """Cores that a job with a network reserves: on a cluster and beside a GPU, those that read its pictures.

        On CPUs a job computes in one thread (`v2l.runtime`), so as many run at once as there are cores, or fewer
        where memory would not hold so many.
        """
        if not self.workflow.local_exec or self._has_cards:
            return GPU_CORES
        entry = self._language_model(wildcards)
        needed_mb = JOB_MEMORY_MB + (memory.megabytes(entry) or 0 if entry else 0)
        here_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
        return math.ceil(len(os.sched_getaffinity(0)) * needed_mb / here_mb)

    @cached_property
    def _has_cards(self) -> bool:
        return bool(local_cards())

    def training(self) -> dict[str, int | str | Callable]:
        """What a training and `v2l.cluster.launch` need to know, where neither profile says it.

        The launcher follows the executor.
        """
        missing = {name: field.default for name, field in Request.model_fields.items() if name not in self.defaults}
        own = {} if "tracking" in self.defaults else {"tracking": ""}
        return missing | own | {"launcher": lambda wildcards: "local" if self.workflow.local_exec else "slurm"}

    def predictor(self) -> dict[str, Callable]:
        """GPUs that hold a predictor, how it is spread over them, and memory of the node that it passes through."""
        spread = lambda wildcards: "auto" if self._gpus(wildcards) > 1 else ""  # noqa: E731
        return {"gpu": self._gpus, "device_map": spread, "mem_mb": self._memory_mb}

    def _gpus(self, wildcards) -> int:
        entry = self._language_model(wildcards)
        return memory.gpus(entry, int(self.defaults.get("gpu_memory_mb") or GPU_MEMORY_MB)) if entry else 0

    def _memory_mb(self, wildcards) -> int:
        entry = self._language_model(wildcards)
        return 16000 + (memory.megabytes(entry) or 16000) if entry else 16000

    def _language_model(self, wildcards) -> LLM | None:
        return self.config.llms.get(Source.of_run("", wildcards.get("predictor", "")).predictor)
