"""What a training asks of the cluster: the resources of its rule, from the profile, as options of sbatch."""

import re
import shlex
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from submitit import SlurmExecutor

from v2l.cluster.commands import plain
from v2l.cluster.preflight import RESOURCES
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError


class BatchExecutor(SlurmExecutor):
    """submitit's executor, which else takes the number behind any `job` in a banner for the job's id."""

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        text = plain(string if isinstance(string, str) else string.decode(errors="replace"))
        if found := re.findall(r"^\s*Submitted batch job (\d+)", text, re.MULTILINE):
            return found[-1]
        return SlurmExecutor._get_job_id_from_submission_command(text)


class Request(BaseModel):
    """Resources of the rule; the profile's keys of the same names say what they are for."""

    model_config = ConfigDict(extra="ignore")

    launcher: Literal["local", "slurm"] = "local"
    local_ranks: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    gpus_per_node: int = Field(1, ge=1)
    images_per_gpu: int = Field(1, ge=1)
    cpus_per_gpu: int = Field(1, ge=1)
    mem_mb: int = Field(16000, ge=1)
    runtime: int = Field(1440, ge=1)
    slurm_partition: str = ""
    slurm_account: str = ""
    constraint: str = ""
    warning_seconds: int = Field(120, ge=10)
    restarts: int = Field(20, ge=0)
    on_interrupt: Literal["cancel", "keep"] = "cancel"
    on_terminate: Literal["cancel", "keep"] = "keep"

    @classmethod
    def parse(cls, values: dict) -> "Request":
        """Raises UserError that names every wrong resource."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = "; ".join(f"{item['loc'][0]}: {item['msg']}, got {item['input']!r}" for item in error.errors())
            raise UserError(
                f"resources of train_tokenizer: {found}",
                "the values that the profile describes",
                f"mend train_tokenizer under set-resources in {RESOURCES}",
            ) from None

    def geometry(self, batch_size: int) -> tuple[int, int]:
        """(nodes, GPUs of each): as many as asked for while each GPU gets its `images_per_gpu`, all alike."""
        choices = [
            (nodes, gpus)
            for nodes in range(1, self.nodes + 1)
            for gpus in range(1, self.gpus_per_node + 1)
            if batch_size % (nodes * gpus) == 0 and batch_size >= nodes * gpus * self.images_per_gpu
        ]
        return max(choices, key=lambda choice: (choice[0] * choice[1], -choice[0]), default=(1, 1))

    def executor(self, name: str, folder: Path, batch_size: int) -> SlurmExecutor:
        """submitit's executor for one job called `name`, one rank for each GPU; logs go to `folder`/<job id>."""
        nodes, gpus = self.geometry(batch_size)
        executor = BatchExecutor(folder=folder / "%j", python=shlex.quote(sys.executable))
        executor.update_parameters(
            job_name=name,
            partition=self.slurm_partition or None,
            account=self.slurm_account or None,
            constraint=self.constraint or None,
            time=self.runtime,
            nodes=nodes,
            ntasks_per_node=gpus,
            gpus_per_node=gpus,
            cpus_per_task=self.cpus_per_gpu,
            mem=f"{self.mem_mb}M",
            wckey=None,
            signal_delay_s=self.warning_seconds,
            # A requeue after a node failure is SLURM's; one rank that dies must not leave the others waiting for it.
            additional_parameters={"requeue": True},
            srun_args=["--kill-on-bad-exit=1"],
        )
        return executor

    def options(self, batch_size: int) -> str:
        """The options of sbatch, without names and files."""
        text = self.executor("v2l", Path("logs"), batch_size)._make_submission_file_text("true", "")
        lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
        return " ".join(line for line in lines if line.split("=")[0] not in ("--job-name", "--output", "--error"))


def batch_size_of(config: StageConfig) -> int:
    """Images of one training step of the rule's tokenizer."""
    return config.train_tokenizer.global_batch_size
