"""torch.compile of a training's networks, part by part, kept between starts."""

import os
from collections.abc import Iterable
from pathlib import Path

from torch import nn

# Graphs of one function before PyTorch gives up on it, silently. The paper's network has eight kinds of block; each is
# compiled with gradients and without, and again for a smaller last micro-batch.
GRAPHS_AT_MOST = 64


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Compile each of `parts` for the shapes it will meet; parts of equal code and shapes share what is compiled."""
    import torch._dynamo.config  # takes a second, for those who compile alone

    torch._dynamo.config.recompile_limit = GRAPHS_AT_MOST
    # Parts end often enough for DDP to exchange gradients meanwhile; it would split them by its buckets.
    torch._dynamo.config.optimize_ddp = False
    for part in parts:
        part.compile(dynamic=False)


def keep_compiled(folder: Path) -> None:
    """Keep what this process compiles in `folder` and take it from there, unless the environment names another."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))
