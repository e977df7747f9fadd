"""The shell templates of the rules."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def job_environment(programs: Path, variables: Mapping[str, str]) -> str:
    """What precedes every command of a rule: `programs` at the head of PATH, and `variables`.

    Jobs have no standard input: none can be answered a question by whoever started the run, or what stands in its pipe.
    Folders may have any name: quoted for the shell, and braces doubled, which Snakemake would fill in.
    """
    values = "".join(f" {name}={shlex.quote(value)}" for name, value in variables.items())
    return f"exec < /dev/null; export PATH={shlex.quote(str(programs))}:$PATH{values}; ".replace("{", "{{").replace(
        "}", "}}"
    )


def stage_command(stage: str, inputs: Sequence[str], outputs: Sequence[str], machine: Iterable[str] = ()) -> str:
    """The shell template of a rule: `python -m v2l.<stage>` with its named inputs, outputs and machine resources."""
    parts = ["python -m", f"v2l.{stage}", "--config {params.config:q}", "--code {params.modules:q}"]
    files = [f"--input {name} {{input.{name}:q}}" for name in inputs]
    files += [f"--output {name} {{output.{name}:q}}" for name in outputs]
    files += [f"--machine {name}={{resources.{name}:q}}" for name in machine]
    return " ".join([*parts, *files, "--log {log:q}"])


def launched(command: str, resources: Iterable[str]) -> str:
    """`command` under `v2l.cluster.launch`, which starts it where and as wide as the rule's resources say."""
    values = " ".join(f"{name}={{resources.{name}:q}}" for name in resources)
    return f"exec python -m v2l.cluster.launch {values} -- {command}"
