"""The user's own files that a job reads: what Snakemake compares at each start, and what records say of them."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from v2l.configuration.runs import IMAGE_TASKS
from v2l.configuration.sources import Source
from v2l.io.file_hashes import file_hash, listing_hash
from v2l.io.provenance import hash_path
from v2l.pipeline.required_files import asset_of, paths_in

COMPARED_BY_CONTENT = 1 << 20  # bytes; larger files are compared by size and modification time


def files_read(stage: str, data: dict[str, Any]) -> dict[str, str]:
    """Path by dotted key, of the files and folders of a slice (plain JSON) that a job of `stage` reads itself.

    What lies in a data set reaches the other stages by its manifest; the networks of image metrics score images alone.
    """
    paths = paths_in(data)
    for name, entry in data.get("encoders", {}).items():
        if str(entry.get("model")).endswith(".json"):  # an architecture of the user's own
            paths[f"encoders.{name}.model"] = entry["model"]
    if stage != "index_images":
        paths = {key: path for key, path in paths.items() if not key.startswith("datasets.")}
    if stage == "score_predictions" and Source.parse(data["job"]["source"]).task not in IMAGE_TASKS:
        paths = {key: path for key, path in paths.items() if not key.startswith("score_predictions.")}
    return paths


def states(stage: str, data: dict[str, Any], made: Collection[str] = ()) -> dict[str, str]:
    """What tells the present state of each file and folder that a job reads from any other, by dotted key.

    Without those `made` by jobs of the run, and those of assets, which the records of their downloads stand for.
    """
    own = {key: path for key, path in files_read(stage, data).items() if path not in made and not asset_of(path)}
    return {key: _state(path) for key, path in sorted(own.items())}


def is_images(key: str) -> bool:
    """Whether a dotted key names a folder of pictures, which is known by its listing alone."""
    return key.startswith("datasets.") and key.endswith(".root")


@cache
def _state(path: str) -> str:
    """What tells one state of a file or folder from another, of any age, without reading what is large."""
    given = Path(path)
    if not given.exists():
        return f"{path} is not there"
    if given.is_dir():
        count, total, digest = listing_hash(given)
        return f"{path}: {count} files, {total} bytes, listing {digest[:16]}"
    status = given.stat()
    if given.is_file() and status.st_size <= COMPARED_BY_CONTENT:
        return f"{path}: content {hash_path(given)[:16]}"
    return f"{path}: {status.st_size} bytes, time {status.st_mtime_ns}"


def recorded_files(stage: str, data: dict[str, Any]) -> dict[str, list[dict]]:
    """Dotted key -> the entry of a record's `inputs`, of all that a job reads and that is there.

    A folder of pictures stands with the hash of its listing, or with that of the record of the asset it lies in.
    """
    return {key: [_entry(path, is_images(key))] for key, path in files_read(stage, data).items() if Path(path).exists()}


def _entry(path: str, images: bool) -> dict:
    if images and (asset := asset_of(path)):
        record = Path("assets", asset, "asset.json")
        if record.exists():
            return {"path": str(record), "sha256": hash_path(record)}
    if images and Path(path).is_dir():
        count, _, digest = listing_hash(Path(path))
        return {"path": path, "sha256": digest, "of": f"names, sizes and times of {count} files"}
    return {"path": path, "sha256": file_hash(Path(path))}
