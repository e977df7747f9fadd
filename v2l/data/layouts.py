"""Data sets whose classes are folders or labels: folders of images, ImageNet and mini-ImageNet."""

import logging
import posixpath
from pathlib import Path

from v2l.configuration.dataset_entries import FolderDataset, ImageNetDataset, MiniImageNetDataset
from v2l.data.csv_lists import read_csv
from v2l.data.drawn_splits import DrawnLayout
from v2l.data.layout import ARCHIVES, Layout, Listed
from v2l.data.synsets import distinct_names, synset_names
from v2l.data.text_files import one_line, path_below, read_text
from v2l.errors import UserError, few


class FolderLayout(DrawnLayout[FolderDataset]):
    """Class folders; a class key is a folder's path below root. The first line of a text file beside is a caption."""

    def list_images(self) -> list[Listed]:
        listing, depth = [], self.dataset.class_depth
        for name in self.pictures(endings=self._endings):
            *folders, _ = name.split("/")
            if len(folders) >= depth and not set(folders) & set(self.dataset.exclude):
                listing.append(Listed(name, "/".join(folders[:depth]), "", _caption(self.root / name)))
        classes = [name for name in self.files.folders if name and name.count("/") == depth - 1]
        taken = [name for name in classes if not set(name.split("/")) & set(self.dataset.exclude)]
        self.log_empty(taken, {item.key for item in listing})
        return self.once(listing)

    def why_left_out(self, name: str) -> str:
        """Which key of the entry leaves a picture out."""
        *folders, _ = name.split("/")
        if not name.lower().endswith(self._endings):
            return f"a picture whose ending is not in `extensions` ({Path(name).suffix.lower()})"
        if set(folders) & set(self.dataset.exclude):
            return "a picture in a folder of `exclude`"
        if len(folders) < self.dataset.class_depth:
            return f"a picture above the class folders (`class_depth`: {self.dataset.class_depth})"
        return f"a picture of a class with fewer than `min_images`: {self.dataset.min_images}"

    @property
    def _endings(self) -> tuple[str, ...]:
        return tuple(ending.lower() for ending in self.dataset.extensions)

    def class_names(self, keys: list[str]) -> list[str]:
        """The folder's name with underscores as spaces; folders of one name take their parents' names in front."""
        words = [key.replace("_", " ") for key in keys]
        return distinct_names(
            [[text.rsplit("/", 1)[-1], text.replace("/", " "), key] for text, key in zip(words, keys, strict=True)]
        )


class ImageNetLayout(Layout[ImageNetDataset]):
    """ImageNet's folders; a class key is a wnid."""

    def list_images(self) -> list[Listed]:
        listing = self.once(class_folders(self, "train") + (class_folders(self, "val", flat=True) or self._labelled()))
        keys = {split: {item.key for item in listing if item.split == split} for split in ("train", "val")}
        if keys["train"] and (alone := sorted(keys["val"] - keys["train"])):
            logging.warning("%d classes of split val have no image in split train: %s", len(alone), few(alone))
        return listing

    def _labelled(self) -> list[Listed]:
        """Validation images that lie in no class folders, with the classes that a list gives them."""
        flat, labels = sorted(map(Path, self.pictures("val"))), self.dataset.val_labels
        if not flat:
            return []
        if labels is None:
            remedy = "set val_labels to the list (LOC_val_solution.csv)"
            raise UserError(f"{self.root / 'val'} holds images without class folders", "a label list", remedy)
        rows = read_csv(Path(labels), ["ImageId", "PredictionString"])
        wnids = {image: prediction.split()[0] for image, prediction in rows if prediction.strip()}
        unlabelled = [path.name for path in flat if path.stem not in wnids]
        if unlabelled:
            problem = f"{labels} has no label for {few(unlabelled)}"
            raise UserError(
                problem, f"a row for every image of {self.root / 'val'}", "use the list that belongs to these images"
            )
        return [Listed(f"val/{path.name}", wnids[path.stem], "val") for path in flat]

    def class_names(self, keys: list[str]) -> list[str]:
        """Names of the synset list."""
        return synset_names(Path(self.dataset.synsets), keys)


class MiniImageNetLayout(Layout[MiniImageNetDataset]):
    """mini-ImageNet's lists or folders; a class key is a wnid."""

    def list_images(self) -> list[Listed]:
        listed, found = [], []
        for split in ("train", "val", "test"):
            labels = self.root / f"{split}.csv"
            if labels.is_file():
                rows = read_csv(labels, ["filename", "label"])
                listed += [Listed(f"images/{path_below(labels, filename)}", wnid, split) for filename, wnid in rows]
            else:
                found += class_folders(self, split)
        return listed + self.once(found)

    def class_names(self, keys: list[str]) -> list[str]:
        """Names of the synset list."""
        return synset_names(Path(self.dataset.synsets), keys)


def class_folders(layout: Layout, split: str, flat: bool = False) -> list[Listed]:
    """The pictures in the class folders of a split, which may lie there without if it is `flat`; logs empty folders.

    Raises UserError if there is no folder of the split, for archives that are not unpacked, and if there are class
    folders or pictures, but no picture in a class folder.
    """
    folder, expected = layout.root / split, f"split {split} as {split}/<wnid>/, or a list of its images"
    archives = [name for name in layout.files.names if name.lower().endswith(ARCHIVES)]
    if not folder.is_dir():
        beside = [name for name in archives if "/" not in name]
        raise UserError(
            f"{folder} is not a folder{f' ({few(beside)} beside it: unpack)' if beside else ''}",
            expected,
            f"put the images of split {split} there, or correct `root` in the config",
        )
    pictures = layout.pictures(split)
    listing = [Listed(name, name.split("/")[1], split) for name in pictures if name.count("/") > 1]
    filled = {item.key for item in listing}
    packed = [name for name in archives if posixpath.dirname(name) == split]
    if packed := [name for name in packed if posixpath.basename(name).partition(".")[0] not in filled]:
        raise UserError(
            f"{folder} holds archives that are not unpacked: {few(packed)}",
            f"a folder {split}/<wnid>/ for each class",
            "unpack each, one of a class into a folder of its name "
            "(`mkdir n01440764 && tar -xf n01440764.tar -C n01440764`)",
        )
    classes = [name for name in layout.files.folders if posixpath.dirname(name) == split]
    if not listing and (classes or pictures) and not (flat and pictures):
        found = [f"{len(classes)} class folders are empty"] if classes else []
        found += [f"{len(pictures)} pictures lie in none, for example {few(pictures[:1])}"] if pictures else []
        remedy = f"put the images of split {split} there, or remove the folders if it has none"
        raise UserError(f"{folder} has no picture in a class folder: {', '.join(found)}", expected, remedy)
    layout.log_empty(classes, {f"{split}/{key}" for key in filled})
    return listing


def _caption(path: Path) -> list[str]:
    """First line of the text file beside an image, if it has letters (boxes of detectors in numbers are no caption)."""
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return []
    first = one_line(read_text(beside, "a caption beside an image", "restore it").partition("\n")[0])
    return [first] if any(map(str.isalpha, first)) else []
