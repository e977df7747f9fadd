"""A small weights file to hand on: `python -m v2l.models.compact SOURCE TARGET --command --machine --hours`.

Weights in float16, without what every experiment of the same language model and encoder supplies again: the frozen
table of subword embeddings, of which a probe of 64 rows stays, and LQAE's frozen language model, of which hashes stay.
Metadata are the source's and `compact`: hash of the source, commit of this code, hash of each tensor that was left out,
and the three arguments.
"""

import argparse
import logging
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from v2l.errors import UserError
from v2l.io.provenance import KEY, commit, hash_path
from v2l.io.storage import hash_tensor, write_tensors
from v2l.models.convolutional import LOCAL_TABLE
from v2l.models.fitting import require_finite
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.weights_file import PROBE, probe_rows, read_weights_file


def write_compact(source: Path, target: Path, command: str, machine: str, hours: float) -> None:
    """Write the compact form of the weights file `source` to `target`.

    `command`, `machine` and `hours` (wall clock, of all parts of an interrupted training) say how they were made.
    Raises UserError for a source that is no whole weights file or does not fit into float16.
    """
    if not (command.strip() and machine.strip() and math.isfinite(hours) and hours > 0):
        raise UserError(
            f"--command is {command!r}, --machine {machine!r}, --hours {hours}",
            "what was run, on what, and for how long (more than 0)",
            "say it: whoever uses the weights must know",
        )
    file = read_weights_file(source)
    if "compact" in file.metadata:
        raise UserError(f"{source} is compact already", "a whole weights file", "copy it, or name the whole file")
    supplied = tokenizer_class(file.tokenizer["method"]).supplied_parts
    kept = {key: halved(tensor) for key, tensor in file.tensors.items() if not key.startswith(supplied)}
    require_finite(kept, f"{source} in float16")
    left_out = {key: tensor for key, tensor in file.tensors.items() if key.startswith(supplied)}
    if (table_VD := left_out.get(LOCAL_TABLE)) is not None:
        kept[PROBE + LOCAL_TABLE] = halved(table_VD[probe_rows(len(table_VD))])
    made = {
        "source_sha256": hash_path(source),
        "commit": commit(),
        "left_out": {key: hash_tensor(tensor) for key, tensor in left_out.items()},
        "command": command,
        "machine": machine,
        "hours": hours,
    }
    metadata = {key: value for key, value in file.metadata.items() if key != KEY} | {"compact": made}
    write_tensors(target, kept, file.metadata[KEY], metadata)
    logging.info("%s: %.1f MB, %s %.1f MB", source, source.stat().st_size / 1e6, target, target.stat().st_size / 1e6)


def halved(tensor: Tensor) -> Tensor:
    """A tensor in float16; integers as they are."""
    return tensor.to(torch.float16) if tensor.is_floating_point() else tensor


def main() -> None:
    """Parse the command line and write; a UserError becomes one line and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m v2l.models.compact")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--command", required=True, help="what trained the weights, as typed")
    parser.add_argument("--machine", required=True, help="what it ran on")
    parser.add_argument("--hours", required=True, type=float, help="wall-clock hours of all parts of the training")
    logging.basicConfig(level=logging.INFO, format="compact: %(message)s")
    try:
        write_compact(**vars(parser.parse_args()))
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
