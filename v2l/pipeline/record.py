"""What made an output: stage, configuration, commit, versions and inputs; and the key of a run that can go on."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from v2l.configuration.config import Config
from v2l.configuration.entry import WATCHES
from v2l.configuration.extensions import inherited
from v2l.configuration.slices import StageConfig, without
from v2l.io.canonical import canonical_json
from v2l.io.digests import require_whole
from v2l.io.file_hashes import file_hash
from v2l.io.job_files import Inputs
from v2l.io.json_records import read_json
from v2l.io.provenance import commit, hash_path, versions
from v2l.io.records import require_recorded
from v2l.io.storage import parquet_metadata, tensor_metadata
from v2l.pipeline.code_files import code_of
from v2l.pipeline.user_files import recorded_files

PACKAGE = Path(__file__).parents[1]
READERS: dict[str, Callable[[Path], object]] = {  # of our own files; they refuse also what has lost its digest
    ".json": read_json,
    ".parquet": parquet_metadata,
    ".safetensors": tensor_metadata,
}
COPIES = ("decoded",)  # inputs that follow from the others and are too big to be read for a record


def provenance(config: StageConfig, inputs: Inputs) -> dict:
    """The record of one output: stage, resolved config slice, git commit, package versions, code, hashes of inputs.

    Inputs are also the user's files that the slice names, by dotted key. `COPIES` are left out.
    With extensions also their paths, from the folder that the package lies in, and hashes. Raises UserError for an
    input that is not as a stage wrote it, whether or not this one goes on to read it.
    """
    files = {
        name: [{"path": str(path), "sha256": _sound_hash(path)} for path in inputs.files(name)]
        for name in sorted(set(inputs) - set(COPIES))
    }
    named = {file["path"] for entries in files.values() for file in entries}
    for key, entries in recorded_files(config.stage, config.data).items():
        files |= {key: entries} if entries[0]["path"] not in named else {}
    record = {"stage": config.stage, "config": config.data, "commit": commit(), "versions": versions(), "inputs": files}
    record |= {"code": code_of(config.code)._asdict()} if config.code else {}
    extensions = [
        {"path": os.path.relpath(path, PACKAGE.parent), "sha256": hash_path(Path(path))} for path in inherited()
    ]
    return record | ({"extensions": extensions} if extensions else {})


def _sound_hash(path: Path) -> str:
    if path.is_file():
        reader = READERS.get(path.suffix, require_whole) if path.parts[0] == "results" else require_whole
        reader(path)
        require_recorded(path)
    return file_hash(path)


def run_key(config: StageConfig, record: dict) -> str:
    """Hash of all that decides the result: inputs and models, code, configuration without folders and guards."""
    job = {key: value for key, value in config.job.items() if key not in ("work", "logs")}
    hashes = {name: [file["sha256"] for file in files] for name, files in record["inputs"].items()}
    deciding = without(WATCHES, Config, config.data)
    code = record.get("code", {}).get("digest")
    return hashlib.sha256(canonical_json([deciding | {"job": job}, hashes, code]).encode()).hexdigest()[:16]
