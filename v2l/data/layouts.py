"""Where the images of each kind of data set lie, and which class and split they belong to. No image is opened."""

import csv
import os
from pathlib import Path

from v2l.configuration.dataset_entries import AnyDataset, FolderDataset, ImageNetDataset, MiniImageNetDataset
from v2l.data.annotations import Listed, list_coco_captions, list_easy_vqa, list_vqa_v2
from v2l.errors import UserError

PHOTO_ENDINGS = (".jpeg", ".jpg", ".png")
WITHOUT_CLASSES = ("coco_captions", "vqa_v2", "easy_vqa")


def list_images(dataset: AnyDataset) -> list[Listed]:
    """Every image file of a data set, sorted by `image_id`.

    The class key is a folder's path below root for kind `folder`, the wnid for ImageNet's kinds, empty for data sets
    without classes. Raises UserError for a missing root, split folder or list, when there is no image at all, and when
    a list names an image twice.
    """
    root = Path(dataset.root)
    if not root.is_dir():
        raise UserError(
            f"{root} (root of a data set) is not a folder", "the folder of its images", "correct `root` in the config"
        )
    listing = LAYOUTS[dataset.kind](dataset, root)
    if not listing:
        raise UserError(
            f"{root} holds no images", f"the layout of kind `{dataset.kind}`", "correct the data set's config entry"
        )
    listing = sorted(listing, key=lambda item: item.image_id)
    twice = [
        item.image_id
        for item, following in zip(listing, listing[1:], strict=False)
        if item.image_id == following.image_id
    ]
    if twice:
        problem = f"{root}: {_few(twice)} listed more than once"
        raise UserError(problem, "each image once, in one split", "correct the split lists")
    return listing


def class_names(dataset: AnyDataset, keys: list[str]) -> list[str]:
    """A distinct human-readable name for each class key.

    Kind `folder`: the folder's name with underscores as spaces; folders of one name take their parents' names in front.
    Others: the first synonym of the wnid; of wnids that share it, each adds its next synonym in parentheses, and those
    that have none add the wnid if they still collide. Data sets without classes: one empty name. Raises UserError for a
    wnid that the synset file lacks.
    """
    if dataset.kind in WITHOUT_CLASSES:
        return ["" for _ in keys]
    if dataset.kind == "folder":
        words = [key.replace("_", " ") for key in keys]
        return _distinct(
            [[text.rsplit("/", 1)[-1], text.replace("/", " "), key] for text, key in zip(words, keys, strict=True)]
        )
    synsets = _read_synsets(Path(dataset.synsets))
    unknown = [key for key in keys if key not in synsets]
    if unknown:
        problem = f"{dataset.synsets} has no line for {_few(unknown)}"
        raise UserError(
            problem,
            "a line `wnid name, synonym, ...` for every class folder",
            "complete the file or remove the folders",
        )
    choices = []
    for key in keys:
        first, *others = synsets[key]
        choices.append([first, f"{first} ({others[0]})" if others else first, f"{first} ({key})"])
    return _distinct(choices)


def _folder(dataset: FolderDataset, root: Path) -> list[Listed]:
    endings = tuple(ending.lower() for ending in dataset.extensions)
    listing = []
    for path in _files(root, endings):
        *folders, _ = path.relative_to(root).parts
        if len(folders) >= dataset.class_depth and not set(folders) & set(dataset.exclude):
            key = "/".join(folders[: dataset.class_depth])
            listing.append(Listed(path.relative_to(root).as_posix(), key, "", _caption(path)))
    return listing


def _imagenet(dataset: ImageNetDataset, root: Path) -> list[Listed]:
    listing = _class_folders(root, "train")
    flat = sorted(path for path in _split(root, "val").iterdir() if path.suffix.lower() in PHOTO_ENDINGS)
    if not flat:
        return listing + _class_folders(root, "val")
    if dataset.val_labels is None:
        remedy = "set val_labels to the list (LOC_val_solution.csv)"
        raise UserError(f"{root / 'val'} holds images without class folders", "a label list", remedy)
    rows = _read_csv(Path(dataset.val_labels), ["ImageId", "PredictionString"])
    wnids = {image: prediction.split()[0] for image, prediction in rows if prediction.strip()}
    unlabelled = [path.name for path in flat if path.stem not in wnids]
    if unlabelled:
        problem = f"{dataset.val_labels} has no label for {_few(unlabelled)}"
        raise UserError(
            problem, f"a row for every image of {root / 'val'}", "use the list that belongs to these images"
        )
    return listing + [Listed(f"val/{path.name}", wnids[path.stem], "val") for path in flat]


def _mini_imagenet(dataset: MiniImageNetDataset, root: Path) -> list[Listed]:
    listing = []
    for split in ("train", "val", "test"):
        labels = root / f"{split}.csv"
        if labels.is_file():
            rows = _read_csv(labels, ["filename", "label"])
            listing += [Listed(f"images/{filename}", wnid, split) for filename, wnid in rows]
        else:
            listing += _class_folders(root, split)
    return listing


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
    """First line of the text file beside an image, if there is one with text."""
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return []
    first = beside.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].strip()
    return [first] if first else []


def _distinct(choices: list[list[str]]) -> list[str]:
    """One name per class: its first choice, and a later one only while others have the same name."""
    names = [options[0] for options in choices]
    for level in range(1, 3):
        shared = {name for name in names if names.count(name) > 1}
        names = [options[level] if name in shared else name for name, options in zip(names, choices, strict=True)]
    return names


def _read_synsets(path: Path) -> dict[str, list[str]]:
    """Synonyms by wnid from lines `wnid name, synonym, ...`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})", "the synset list", "correct `synsets` in the config"
        ) from None
    synsets = {}
    for number, line in enumerate(lines, 1):
        wnid, _, names = line.partition(" ")
        if line.strip():
            synsets[wnid] = [name.strip() for name in names.split(",") if name.strip()]
            if not synsets[wnid]:
                raise UserError(
                    f"{path}, line {number}: no name for {wnid!r}", "`wnid name, synonym, ...`", "complete the line"
                )
    return synsets


def _read_csv(path: Path, columns: list[str]) -> list[list[str]]:
    """The named columns of a CSV file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or ())
            rows = [] if missing else [[row[name] or "" for name in columns] for row in reader]
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})", "a label list", "correct its path in the config"
        ) from None
    if missing:
        raise UserError(
            f"{path} has no column {_few(sorted(missing))}", f"columns {','.join(columns)}", "use the original list"
        )
    return rows


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


LAYOUTS = {
    "folder": _folder,
    "imagenet": _imagenet,
    "mini_imagenet": _mini_imagenet,
    "coco_captions": list_coco_captions,
    "vqa_v2": list_vqa_v2,
    "easy_vqa": list_easy_vqa,
}
