"""Data sets whose classes are folders or labels: folders of images, ImageNet and mini-ImageNet."""

import logging
from pathlib import Path

from v2l.configuration.dataset_entries import FolderDataset, ImageNetDataset, MiniImageNetDataset
from v2l.data.csv_lists import read_csv
from v2l.data.drawn_splits import DrawnLayout
from v2l.data.layout import Layout, Listed
from v2l.data.synsets import distinct_names, synset_names
from v2l.data.text_files import one_line, read_text
from v2l.errors import UserError, few
from v2l.io.folder_walk import is_system

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


class FolderLayout(DrawnLayout[FolderDataset]):
    """Class folders; a class key is a folder's path below root. The first line of a text file beside is a caption."""

    def list_images(self) -> list[Listed]:
        listing = []
        for name in self.pictures(endings=self._endings):
            *folders, _ = name.split("/")
            if len(folders) >= self.dataset.class_depth and not set(folders) & set(self.dataset.exclude):
                key = "/".join(folders[: self.dataset.class_depth])
                listing.append(Listed(name, key, "", _caption(self.root / name)))
        return listing

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
        labels = self.dataset.val_labels
        listing = class_folders(self, "train")
        if validation := class_folders(self, "val"):
            return listing + validation
        flat = sorted(map(Path, self.pictures("val")))
        if not flat:
            return listing
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
        return listing + [Listed(f"val/{path.name}", wnids[path.stem], "val") for path in flat]

    def class_names(self, keys: list[str]) -> list[str]:
        """Names of the synset list."""
        return synset_names(Path(self.dataset.synsets), keys)


class MiniImageNetLayout(Layout[MiniImageNetDataset]):
    """mini-ImageNet's lists or folders; a class key is a wnid."""

    def list_images(self) -> list[Listed]:
        listing = []
        for split in ("train", "val", "test"):
            labels = self.root / f"{split}.csv"
            if labels.is_file():
                rows = read_csv(labels, ["filename", "label"])
                listing += [Listed(f"images/{filename}", wnid, split) for filename, wnid in rows]
            else:
                listing += class_folders(self, split)
        return listing

    def class_names(self, keys: list[str]) -> list[str]:
        """Names of the synset list."""
        return synset_names(Path(self.dataset.synsets), keys)


def class_folders(layout: Layout, split: str) -> list[Listed]:
    """The pictures in the class folders of a split; logs folders without any.

    Raises UserError if there is no folder of the split, and for archives that are not unpacked.
    """
    folder = layout.root / split
    if not folder.is_dir():
        archives = [name for name in layout.files if "/" not in name and name.endswith(ARCHIVES)]
        found = f" ({few(archives)} beside it: unpack)" if archives else ""
        raise UserError(
            f"{folder} is not a folder{found}",
            f"split {split} as {split}/<wnid>/, or a list of its images",
            f"put the images of split {split} there, or correct `root` in the config",
        )
    listing = [Listed(name, name.split("/")[1], split) for name in layout.pictures(split) if name.count("/") > 1]
    filled = {item.key for item in listing}
    archives = [name for name in layout.files if name.startswith(f"{split}/") and name.endswith(ARCHIVES)]
    packed = [name for name in archives if name.count("/") == 1 and Path(name).name.partition(".")[0] not in filled]
    if packed:
        raise UserError(
            f"{folder} holds archives that are not unpacked: {few(packed)}",
            f"a folder {split}/<wnid>/ for each class",
            "unpack each into a folder of its name (`mkdir n01440764 && tar -xf n01440764.tar -C n01440764`)",
        )
    empty = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_system(path.name))
    if empty := [name for name in empty if name not in filled]:
        logging.warning("%d class folders of %s hold no picture: %s", len(empty), folder, few(empty))
    return listing


def _caption(path: Path) -> list[str]:
    """First line of the text file beside an image, if it has letters (boxes of detectors in numbers are no caption)."""
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return []
    first = one_line(read_text(beside, "a caption beside an image", "restore it").partition("\n")[0])
    return [first] if any(map(str.isalpha, first)) else []
