"""What made an output: stage, configuration, commit, versions and inputs; and the key of a run that can go on."""

import hashlib
import os
from pathlib import Path

from v2l.configuration.config import Config
from v2l.configuration.entry import WATCHES
from v2l.configuration.extensions import inherited
from v2l.configuration.slices import StageConfig, without
from v2l.io.canonical import canonical_json
from v2l.io.job_files import Inputs
from v2l.io.provenance import commit, hash_path, versions

PACKAGE = Path(__file__).parents[1]
COPIES = ("decoded",)  # inputs that follow from the others and are too big to be read for a record


def provenance(config: StageConfig, inputs: Inputs) -> dict:
    """The record of one output: stage, resolved config slice, git commit, package versions, hashes of inputs.

    `COPIES` are left out. With extensions also their paths, from the folder that the package lies in, and hashes.
    """
    files = {
        name: [{"path": str(path), "sha256": hash_path(path)} for path in inputs.files(name)]
        for name in sorted(set(inputs) - set(COPIES))
    }
    record = {"stage": config.stage, "config": config.data, "commit": commit(), "versions": versions(), "inputs": files}
    extensions = [
        {"path": os.path.relpath(path, PACKAGE.parent), "sha256": hash_path(Path(path))} for path in inherited()
    ]
    return record | ({"extensions": extensions} if extensions else {})


def run_key(config: StageConfig, record: dict) -> str:
    """Hash of all that decides the result: the inputs' contents, the configuration without folders and guards.

    Of language models, which are too big to be read for it, names, sizes and times of their files.
    """
    job = {key: value for key, value in config.job.items() if key not in ("work", "logs")}
    hashes = {name: [file["sha256"] for file in files] for name, files in record["inputs"].items()}
    models = {name: _listing(Path(entry["path"])) for name, entry in config.data.get("llms", {}).items()}
    deciding = without(WATCHES, Config, config.data)
    return hashlib.sha256(canonical_json([deciding | {"job": job}, hashes, models]).encode()).hexdigest()[:16]


def _listing(path: Path) -> list[list]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [[str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
