"""What the index of a data set asks of its kind: which files are images, and their classes and splits."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from v2l.configuration.dataset_entries import PICTURES, Dataset
from v2l.configuration.registry import implementation_of
from v2l.data.synsets import distinct_names
from v2l.errors import UserError, few
from v2l.io.folder_walk import LeftOut, walk

D = TypeVar("D", bound=Dataset)


@dataclass(frozen=True)
class Listed:
    """A file that should be an image: its path below the data set's root, class key, split (empty: to be drawn).

    `questions` are the manifest's structs (`v2l.data.manifest.QUESTION`) as dicts.
    """

    image_id: str
    key: str
    split: str
    captions: list[str] = field(default_factory=list, hash=False)
    questions: list[dict[str, Any]] = field(default_factory=list, hash=False)


class Layout(ABC, Generic[D]):
    """How one kind of data set lies below `root`. No image is opened."""

    def __init__(self, dataset: D):
        self.dataset, self.root = dataset, Path(dataset.root)

    @abstractmethod
    def list_images(self) -> list[Listed]:
        """Every image file, in any order. Raises UserError for a missing folder or list, and for a damaged one."""

    @cached_property
    def files(self) -> list[str]:
        """Every file below the root, relative to it. Raises UserError for a folder that cannot be read."""
        return list(walked(self.root))

    def pictures(self, folder: str = "", endings: tuple[str, ...] = PICTURES) -> list[str]:
        """Those of the files in and below `folder` of the root that have one of the endings."""
        top = f"{folder}/" if folder else ""
        return [name for name in self.files if name.startswith(top) and name.lower().endswith(endings)]

    def why_left_out(self, name: str) -> str:
        """The rule by which a picture that lies below the root is not in `list_images`."""
        return "a picture that no list or class folder has"

    def class_names(self, keys: list[str]) -> list[str]:
        """A distinct human-readable name for each class key: here the key, empty in a data set without classes."""
        return distinct_names([[key] * 3 for key in keys]) if self.dataset.has_classes else ["" for _ in keys]

    def divide(self, readable: list[Listed], name: str, seed: int) -> list[Listed]:
        """Those of the readable images that data set `name` keeps, in their order, each with its split.

        Here all of them, with the splits that they are listed in.
        """
        return readable


def walked(root: Path, left_out: LeftOut | None = None) -> Iterator[str]:
    """Names of the files below a data set's root, as `walk`. Raises UserError for a folder that cannot be read."""
    try:
        yield from (name for name, _ in walk(root, left_out))
    except OSError as error:
        problem = f"{printable(str(error.filename))} cannot be read ({error.strerror})"
        raise UserError(problem, "folders that may be read", "change its permissions, or move it away") from None


def printable(name: str) -> str:
    """A file's name for a message; bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def layout_of(dataset: Dataset) -> Layout:
    """The layout of a data set's kind."""
    return implementation_of(dataset)(dataset)


def list_images(dataset: Dataset) -> list[Listed]:
    """Every image file of a data set, sorted by `image_id`.

    Raises UserError for a missing root, when there is no image at all, when a list names an image twice, and what the
    layout does.
    """
    root = Path(dataset.root)
    if not root.is_dir():
        raise UserError(
            f"{root} (root of a data set) is not a folder", "the folder of its images", "correct `root` in the config"
        )
    layout = layout_of(dataset)
    listing = layout.list_images()
    if not listing:
        found = Counter(layout.why_left_out(name) for name in layout.pictures())
        said = "; ".join(f"{count}: {rule}" for rule, count in found.items()) or "no file has a picture's ending"
        raise UserError(
            f"{root} holds no images that are used ({said})",
            f"the layout of kind `{dataset.kind}`",
            "correct the data set's config entry",
        )
    listing = sorted(listing, key=lambda item: item.image_id)
    twice = [
        item.image_id
        for item, following in zip(listing, listing[1:], strict=False)
        if item.image_id == following.image_id
    ]
    if twice:
        problem = f"{root}: {few(twice)} listed more than once"
        raise UserError(problem, "each image once, in one split", "correct the split lists")
    return listing
