"""What made a file: its configuration, seed, software and inputs, kept inside or beside it."""

import functools
import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from v2l.config import canonical_json
from v2l.stage import Paths, StageConfig

KEY = "v2l"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "open_clip_torch",
    "numpy",
    "pyarrow",
    "pillow",
    "torchmetrics",
    "torch-fidelity",
    "lpips",
)


def provenance(config: StageConfig, inputs: Paths) -> dict:
    """The record of one output: stage, resolved config slice, git commit, package versions and input hashes."""
    files = {
        name: [
            {"path": str(path), "sha256": hash_path(path)} for path in (paths if isinstance(paths, list) else [paths])
        ]
        for name, paths in sorted(inputs.items())
    }
    return {"stage": config.stage, "config": config.data, "commit": _commit(), "versions": _versions(), "inputs": files}


def run_key(config: StageConfig, record: dict) -> str:
    """Hash of all that decides the result: the configuration without its folders, and the inputs' contents.

    Of language models, which are too big to be read for it, names, sizes and times of their files.
    """
    job = {key: value for key, value in config.job.items() if key not in ("work", "logs")}
    hashes = {name: [file["sha256"] for file in files] for name, files in record["inputs"].items()}
    models = {name: _listing(Path(entry["path"])) for name, entry in config.data.get("llms", {}).items()}
    return hashlib.sha256(canonical_json([config.data | {"job": job}, hashes, models]).encode()).hexdigest()[:16]


def _listing(path: Path) -> list[list]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def write_beside(path: Path, record: dict) -> Path:
    """Write `record` to `<path>.provenance.json`, for formats that cannot hold it themselves."""
    from v2l.io.atomic import atomic_path

    beside = path.with_name(path.name + ".provenance.json")
    with atomic_path(beside) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return beside


def hash_path(path: Path) -> str:
    """SHA-256 of a file; of a folder, the SHA-256 over its files' relative names and hashes."""
    if path.is_dir():
        names = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [(str(file.relative_to(path)), hash_path(file)) for file in names]
        return hashlib.sha256(canonical_json(listing).encode()).hexdigest()
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@functools.cache
def _commit() -> str:
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
