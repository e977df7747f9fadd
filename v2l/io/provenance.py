"""What made a file: its configuration, seed, software and inputs, kept inside or beside it."""

import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from v2l.io.canonical import canonical_json

KEY = "v2l"
BESIDE = ".provenance.json"  # ends the name of a record that lies beside its file
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


def beside(path: Path) -> Path:
    """Where the record of a file lies that cannot hold it itself."""
    return path.with_name(path.name + BESIDE)


def hash_path(path: Path) -> str:
    """SHA-256 of a file; of a folder, the SHA-256 over its files' relative names and hashes.

    Hidden files count, and links to folders are not followed: so `config/assets.lock` has downloaded folders.
    """
    if path.is_dir():
        names = sorted(file for file in path.rglob("*") if file.is_file())
        listing = [(str(file.relative_to(path)), hash_path(file)) for file in names]
        return hashlib.sha256(canonical_json(listing).encode()).hexdigest()
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@functools.cache
def commit() -> str:
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


@functools.cache
def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
