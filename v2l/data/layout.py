"""What the index of a data set asks of its kind: which files are images, and their classes and splits."""

import logging
import os
import posixpath
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from v2l.configuration.dataset_entries import PICTURES, Dataset
from v2l.configuration.registry import implementation_of
from v2l.data.root_files import RootFiles
from v2l.data.synsets import distinct_names
from v2l.errors import UserError, few

D = TypeVar("D", bound=Dataset)
ARCHIVES = (".tar", ".tgz", ".zip", ".7z", ".rar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
NOT_READ = (  # endings of pictures in formats that no layout takes
    *(".svg", ".svgz", ".jxl", ".psd", ".psb", ".xcf", ".ai", ".eps", ".ico", ".icns", ".cur", ".pcx", ".sgi", ".ras"),
    *(".dds", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".jxr", ".wdp"),
    *(".xbm", ".xpm", ".pfm", ".qoi", ".im", ".pcd", ".msp", ".rgb", ".rgba", ".bw", ".emf", ".wmf", ".fits", ".dcm"),
    *(".icb", ".vda", ".vst"),
)
NO_PICTURE = "no picture"
KNOWN_ENDING = re.compile(r"\.[a-z][a-z0-9_]{0,9}")


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
    def files(self) -> RootFiles:
        """Every file below the root. Raises UserError for a folder that cannot be read."""
        return RootFiles(self.root)

    def pictures(self, folder: str = "", endings: tuple[str, ...] = PICTURES) -> list[str]:
        """Names of the files in and below `folder` of the root that have one of the endings, links too (see `once`)."""
        top = f"{folder}/" if folder else ""
        return [name for name in self.files.names if name.startswith(top) and name.lower().endswith(endings)]

    def once(self, listing: list[Listed]) -> list[Listed]:
        """Each file by one name: its first if that is listed, else the first of the others.

        Raises UserError if that leaves a split without images: another has the same ones.
        """
        listed, taken, kept = {item.image_id for item in listing}, set(), []
        for item in sorted(listing, key=lambda item: item.image_id):
            first = self.files.first_name(item.image_id)
            if first == item.image_id or not (first in listed or first in taken):
                taken.add(first)
                kept.append(item)
        if emptied := sorted({item.split for item in listing} - {item.split for item in kept}):
            name = next(item.image_id for item in listing if item.split == emptied[0])
            raise UserError(
                f"{self.root}: every image of split {emptied[0]} is a link to one that is listed before, {name} to "
                f"{self.files.first_name(name)}",
                "images that no other split has",
                "give each split its own images",
            )
        return kept

    def rule_of(self, name: str) -> str:
        """The rule by which a file below the root is not in `list_images`."""
        lower = name.lower()
        if lower.endswith(PICTURES):
            return self.why_left_out(name)
        if archive := next((ending for ending in ARCHIVES if lower.endswith(ending)), ""):
            return f"an archive, which is not opened ({archive})"
        ending = posixpath.splitext(lower)[1]
        shown = ending if KNOWN_ENDING.fullmatch(ending) else "another ending" if ending else "no ending"
        return f"{'a picture in a format that is not read' if ending in NOT_READ else NO_PICTURE} ({shown})"

    def why_left_out(self, name: str) -> str:
        """The rule by which a picture that lies below the root is not in `list_images`."""
        return "a picture that no list or class folder has"

    def log_empty(self, folders: list[str], filled: Collection[str]) -> None:
        """Log those of the class folders that hold no picture."""
        if empty := sorted(set(folders) - set(filled)):
            logging.warning("%d class folders of %s hold no picture: %s", len(empty), self.root, few(empty))

    def class_names(self, keys: list[str]) -> list[str]:
        """A distinct human-readable name for each class key: here the key, empty in a data set without classes."""
        return distinct_names([[key] * 3 for key in keys]) if self.dataset.has_classes else ["" for _ in keys]

    def divide(self, readable: list[Listed], name: str, seed: int) -> list[Listed]:
        """Those of the readable images that data set `name` keeps, in their order, each with its split.

        Here all of them, with the splits that they are listed in.
        """
        return readable


def layout_of(dataset: Dataset) -> Layout:
    """The layout of a data set's kind."""
    return implementation_of(dataset)(dataset)


def list_images(layout: Layout) -> list[Listed]:
    """Every image file of a data set, sorted by `image_id`.

    Raises UserError for a missing root, when there is no image at all, when a list names an image twice, and what the
    layout does.
    """
    root = layout.root
    if not os.path.isdir(root):
        raise UserError(
            f"{root} (root of a data set) is not a folder", "the folder of its images", "correct `root` in the config"
        )
    listing = [replace(item, image_id=posixpath.normpath(item.image_id)) for item in layout.list_images()]
    if not listing:
        found = Counter(map(layout.rule_of, layout.files.names)) + layout.files.left_out
        said = "; ".join(f"{count}: {rule}" for rule, count in found.most_common(5)) or "no file at all"
        raise UserError(
            f"{root} holds no images that are used ({said})",
            f"the layout of kind `{layout.dataset.kind}`",
            "unpack archives, or correct the data set's config entry",
        )
    listing = sorted(listing, key=lambda item: item.image_id)
    _check_once(layout, listing)
    return listing


def _check_once(layout: Layout, listing: list[Listed]) -> None:
    names: dict[str, list[str]] = {}
    for item in listing:
        names.setdefault(layout.files.first_name(item.image_id), []).append(item.image_id)
    twice = [" = ".join(dict.fromkeys(found)) for found in names.values() if len(found) > 1]
    if twice:
        problem = f"{layout.root}: {few(twice)} listed more than once"
        raise UserError(problem, "each image once, in one split", "correct the split lists")
