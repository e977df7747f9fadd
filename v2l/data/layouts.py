"""Data sets whose classes are folders or labels: folders of images, ImageNet and mini-ImageNet."""

import os
from pathlib import Path

from v2l.configuration.dataset_entries import FolderDataset, ImageNetDataset, MiniImageNetDataset
from v2l.data.csv_lists import read_csv
from v2l.data.drawn_splits import DrawnLayout
from v2l.data.layout import Layout, Listed
from v2l.data.synsets import distinct_names, synset_names
from v2l.data.text_files import one_line, read_text
from v2l.errors import UserError, few

PHOTO_ENDINGS = (".jpeg", ".jpg", ".png")


class FolderLayout(DrawnLayout[FolderDataset]):
    """Class folders; a class key is a folder's path below root. The first line of a text file beside is a caption."""

    def list_images(self) -> list[Listed]:
        endings = tuple(ending.lower() for ending in self.dataset.extensions)
        listing = []
        for path in _files(self.root, endings):
            *folders, _ = path.relative_to(self.root).parts
            if len(folders) >= self.dataset.class_depth and not set(folders) & set(self.dataset.exclude):
                key = "/".join(folders[: self.dataset.class_depth])
                listing.append(Listed(path.relative_to(self.root).as_posix(), key, "", _caption(path)))
        return listing

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
        listing = _class_folders(self.root, "train")
        flat = sorted(path for path in _split(self.root, "val").iterdir() if path.suffix.lower() in PHOTO_ENDINGS)
        if not flat:
            return listing + _class_folders(self.root, "val")
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
                listing += _class_folders(self.root, split)
        return listing

    def class_names(self, keys: list[str]) -> list[str]:
        """Names of the synset list."""
        return synset_names(Path(self.dataset.synsets), keys)


def _class_folders(root: Path, split: str) -> list[Listed]:
    folders = sorted(path for path in _split(root, split).iterdir() if path.is_dir())
    files = [(folder.name, path) for folder in folders for path in _files(folder, PHOTO_ENDINGS)]
    return [Listed(path.relative_to(root).as_posix(), wnid, split) for wnid, path in files]


def _split(root: Path, split: str) -> Path:
    folder = root / split
    if not folder.is_dir():
        remedy = f"put the images of split {split} there, or correct `root` in the config"
        raise UserError(
            f"{folder} is not a folder", f"split {split} as {split}/<wnid>/, or a list of its images", remedy
        )
    return folder


def _files(root: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files below `root` with one of the endings, links to folders followed."""
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        found += [Path(folder, name) for name in names if name.lower().endswith(endings) and name[0] != "."]
    return found


def _caption(path: Path) -> list[str]:
    """First line of the text file beside an image, if it has letters (boxes of detectors in numbers are no caption)."""
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return []
    first = one_line(read_text(beside, "a caption beside an image", "restore it").partition("\n")[0])
    return [first] if any(map(str.isalpha, first)) else []
