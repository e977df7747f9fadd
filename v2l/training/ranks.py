"""The processes that train together: who this one is, and what they compute as one.

The environment says it as torchrun does (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); without it there is
one.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class Ranks:
    """Rank `rank` of `size`; with one rank every method gives back what it was given."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    @classmethod
    def connect(cls) -> "Ranks":
        """Join the others: tensors of GPUs travel by NCCL, those of CPUs by gloo. `close` leaves them."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), size)

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def cores(self) -> int:
        """CPU cores for this rank alone: its own where SLURM started it, else its share of this process's."""
        cores = len(os.sched_getaffinity(0))
        if self.size > 1 and os.environ.get("SLURM_NTASKS") == str(self.size):
            return min(cores, int(os.environ.get("SLURM_CPUS_PER_TASK", cores)))
        return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` added over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """`tensor` averaged over the ranks, in place."""
        return self.sum(tensor).div_(self.size) if self.size > 1 else tensor

    def gather(self, tensor_N: Tensor) -> Tensor:
        """Rows of all ranks in the order of the global batch, of which rank r has rows r, r + size, ..."""
        if self.size == 1:
            return tensor_N
        parts = [torch.empty_like(tensor_N, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, tensor_N.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any rank. It waits for the other processes, for no GPU's work."""
        return bool(self.sum(torch.tensor(float(flag)))) if self.size > 1 else flag

    def wait(self) -> None:
        """Until every rank is here."""
        self.any(False)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in one exchange."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


class RankBatchNorm(_BatchNorm):
    """Batch normalisation over the images of all ranks, on any device (torch's own SyncBatchNorm needs a GPU).

    Computes in float32 and gives back the input's type, as torch's layers do.
    """

    # never None: it takes the place of layers with torch's defaults
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        ranks, (batch, channels, *space) = dist.get_world_size(), x.shape
        x_BCL = x.flatten(2).float()
        mean_C = all_reduce(x_BCL.mean((0, 2))) / ranks
        centred_BCL = x_BCL - mean_C[:, None]
        variance_C = all_reduce(centred_BCL.square().mean((0, 2))) / ranks
        with torch.no_grad():
            count = x_BCL.numel() // channels * ranks
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C * count / (count - 1), self.momentum)
        out_BCL = centred_BCL * (variance_C + self.eps).rsqrt()[:, None]
        if self.affine:
            out_BCL = out_BCL * self.weight[:, None] + self.bias[:, None]
        return out_BCL.view(batch, channels, *space).to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions after the channels."""


def share_statistics(module: nn.Module, ranks: Ranks) -> None:
    """Let every batch normalisation of `module` take its statistics over all ranks; state-dict keys stay."""
    for part in module.modules() if ranks.size > 1 else ():
        if type(part) in (nn.BatchNorm1d, nn.BatchNorm2d):
            part.__class__ = RankBatchNorm
