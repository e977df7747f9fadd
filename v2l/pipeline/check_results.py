"""Target `check_results`: whether each result is whole, and its record still says what the experiment would do now.

It needs nothing of what Snakemake remembers, so it also tells of edits made before `.snakemake/` was deleted.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from v2l.io.digests import DamagedFile
from v2l.io.file_hashes import file_hash
from v2l.io.provenance import BESIDE, KEY
from v2l.io.records import read_beside, require_recorded
from v2l.pipeline.code_files import Code, code_of
from v2l.pipeline.user_files import recorded_files

SHOWN = 20  # files that the advice names before it says `--forceall`


class Job(NamedTuple):
    """What the active experiment would make a file from: its slice, the input files by name, the names of its code."""

    config: dict[str, Any]
    inputs: dict[str, list[str]]
    code: tuple[str, ...] = ()


def check_results(workflow: Any, folder: Path, log: Path) -> bool:
    """Print, and write to `log`, which files below `folder` do not match their records; True if all do."""
    found = {path: differences(path, active_job(workflow, path)) for path in result_files(folder)}
    stale = {path: said for path, said in found.items() if said}
    lines = [f"{path}\n" + "".join(f"  {text}\n" for text in said) for path, said in stale.items()]
    lines.append(f"{len(found) - len(stale)} of {len(found)} results match")
    if stale:
        command = f"snakemake all --config experiment={folder.name}"
        chosen = f"--forcerun {' '.join(map(str, stale))}" if len(stale) <= SHOWN else "--forceall"
        lines.append(f"to make them anew, and what lies below: {command} {chosen}")
    text = "\n".join(lines)
    print(text, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text + "\n")
    return not stale


def result_files(folder: Path) -> list[Path]:
    """Files of stages below a results folder; no hidden ones, no records, none of the folder itself (plan.json)."""
    files = (path for path in folder.glob("*/**/*") if path.is_file() and not path.name.endswith(BESIDE))
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def active_job(workflow: Any, path: Path) -> Job | None:
    """The job of the loaded workflow that makes `path`; None if there is none."""
    from snakemake.iocontainers import Wildcards

    for rule in workflow.rules:
        if any(output.match(str(path)) for output in rule.output):
            values = rule.get_wildcards(str(path))
            params = dict(rule.params.items())
            if "modules" not in params:
                return Job({}, {})
            inputs = rule.expand_input(values)[0]
            names = {name: inputs[name] for name, _ in inputs.items()}
            lists = {name: [files] if isinstance(files, str) else list(files) for name, files in names.items()}
            named = {name: list(map(str, files)) for name, files in lists.items()}
            wildcards = Wildcards(fromdict=values)
            return Job(json.loads(params["config"](wildcards)), named, tuple(params["modules"](wildcards, path)))
    return None


def differences(path: Path, job: Job | None) -> list[str]:
    """What of a file's record is not as the active experiment has it, a line each."""
    if job is None:
        return ["no job of the active configuration makes it: delete it, or name what it belongs to again"]
    if not job.config:
        return []  # gathered from other files; it has no record
    try:
        record = read_record(path)
    except DamagedFile as error:
        return [f"it or its record is damaged ({error.reason}): delete both and make it again"]
    if record is None:
        return ["no record of what made it"]
    lines = [f"config {key}: {old} -> {new}" for key, old, new in _changed(record.get("config", {}), job.config)]
    lines += _changed_code(record.get("code"), code_of(job.code))
    recorded = record.get("inputs", {})
    user = recorded_files(record["stage"], job.config)
    for name, entries in recorded.items():
        active = job.inputs.get(name) or [entry["path"] for entry in user.get(name, entries)]
        old = [entry["path"] for entry in entries]
        if active != old:
            lines.append(f"input {name}: {_brief(old, active)} -> {_brief(active, old)}")
        lines += [f"input {name}: {text}" for entry in entries if (text := _state(entry, user.get(name, [])))]
    known = {entry["path"] for entries in recorded.values() for entry in entries}
    added = [key for key, entries in user.items() if entries[0]["path"] not in known and key not in recorded]
    return lines + [f"input {key}: not in the record" for key in added]


def _changed_code(recorded: dict | None, active: Code) -> list[str]:
    if recorded is None:
        return ["code: not in the record"]
    if recorded["digest"] == active.digest:
        return []
    old, new = recorded["modules"], active.modules
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"code {name} has changed" for name in names] or [
        "code: what its modules import or are used for has changed"
    ]


def _state(entry: dict, user: list[dict]) -> str | None:
    path = entry["path"]
    present = next((item["sha256"] for item in user if item["path"] == path), None) or _present_hash(path)
    if present is None:
        return f"{path} is not there any more"
    return None if present == entry["sha256"] else f"{path} has changed"


@cache
def _present_hash(path: str) -> str | None:
    return file_hash(Path(path)) if Path(path).exists() else None


def _brief(paths: list[str], others: list[str]) -> str:
    return ", ".join(path for path in paths if path not in others) or "the same in another order"


def _changed(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changed(old.get(key, "absent"), new.get(key, "absent"), f"{prefix}.{key}".lstrip("."))
    elif old != new:
        yield prefix, old, new


def read_record(path: Path) -> dict[str, Any] | None:
    """The record inside a Parquet or safetensors file, or beside any file; None without one.

    Raises UserError if the file or its record is damaged.
    """
    if (record := read_beside(path)) is not None:
        require_recorded(path)
        return record
    if path.suffix not in (".parquet", ".safetensors"):
        return None
    from v2l.io.storage import parquet_metadata, tensor_metadata  # pyarrow takes its time

    return (parquet_metadata if path.suffix == ".parquet" else tensor_metadata)(path).get(KEY)
