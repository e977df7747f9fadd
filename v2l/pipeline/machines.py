"""The machine that a job ran on, beside its log and never in its results: `<log>.machine.json`."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from v2l.errors import UserError
from v2l.io.json_records import read_json, write_json

SUFFIX = ".machine.json"


def write_machine(log: Path) -> None:
    """Write which processor, how many of its cores and which GPUs this process had, beside its `log`."""
    write_json(
        log.with_suffix(SUFFIX), {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "gpus": _gpus()}
    )


def machines(logs: Path, stage: str) -> list[str]:
    """The machines of a stage's jobs in words, each once; a damaged file counts as none."""
    found: dict[str, None] = {}  # a set in order
    for path in sorted((logs / stage).rglob(f"*{SUFFIX}")):
        try:
            found[_words(read_json(path))] = None
        except (UserError, KeyError, TypeError, ValueError):
            continue
    return list(found)


def _words(machine: dict[str, Any]) -> str:
    cards = {name: machine["gpus"].count(name) for name in machine["gpus"]}
    return ", ".join([f"{machine['cores']} x {machine['processor']}", *(f"{n} x {name}" for name, n in cards.items())])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names of the GPUs that this process can see, if it used one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
