"""Registry entries of data sets, and the samples of them that tasks look at."""

from typing import Annotated, Literal

from pydantic import Field

from v2l.configuration.entry import Entry

TASKS = ("inpainting", "outpainting", "deblurring", "shift", "rotation")


class Dataset(Entry):
    """Fields that every data set has."""

    root: str = Field(description="Folder that image paths are relative to.")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="How an image becomes square: centre crop (paper) or padding with white (cut-outs)."
    )


class FolderDataset(Dataset):
    """A folder of class folders; the training split is drawn with the experiment's seed."""

    kind: Literal["folder"]
    class_depth: int = Field(1, ge=1, description="Level below root whose folder names are the classes.")
    extensions: list[str] = Field([".png", ".jpg", ".jpeg", ".webp"], description="File endings that count as images.")
    exclude: list[str] = Field([], description="Folder names that are left out, at any level.")
    min_images: int = Field(1, ge=1, description="Smaller classes are left out.")
    train_share: float = Field(0.85, gt=0, lt=1, description="Share of each class in split `train`; the rest is `val`.")


class ImageNetDataset(Dataset):
    """ImageNet-1K as distributed: train/<wnid>/*.JPEG, and val/<wnid>/*.JPEG or val/*.JPEG with a label list."""

    kind: Literal["imagenet"]
    synsets: str = Field(description="File of `wnid name, synonym, ...` lines (LOC_synset_mapping.txt).")
    val_labels: str | None = Field(None, description="CSV `ImageId,PredictionString` when val/ is flat.")


class MiniImageNetDataset(Dataset):
    """mini-ImageNet: images/ with train.csv, val.csv and test.csv (filename,label), or <split>/<wnid>/ folders."""

    kind: Literal["mini_imagenet"]
    synsets: str = Field(description="File of `wnid name, synonym, ...` lines; the first name is the class name.")


class CaptionSplit(Entry):
    """A split of COCO Captions."""

    captions: str = Field(description="JSON with `images` and `annotations` (captions_val2014.json).")
    images: str = Field(description="Folder of the split's images below root (val2014).")


class CocoCaptionsDataset(Dataset):
    """COCO Captions as distributed: a JSON file and an image folder for each split."""

    kind: Literal["coco_captions"]
    splits: dict[str, CaptionSplit] = Field(min_length=1)


class QuestionSplit(Entry):
    """A split of VQAv2."""

    questions: str = Field(description="JSON with `questions` (v2_OpenEnded_mscoco_val2014_questions.json).")
    annotations: str = Field(description="JSON with ten answers a question (v2_mscoco_val2014_annotations.json).")
    images: str = Field(description="Folder below root; image 42 of subset val2014: COCO_val2014_000000000042.jpg.")


class VQAv2Dataset(Dataset):
    """VQAv2 as distributed: two JSON files and an image folder for each split."""

    kind: Literal["vqa_v2"]
    splits: dict[str, QuestionSplit] = Field(min_length=1)


class EasyVQADataset(Dataset):
    """easy-VQA: train/ and test/, each with images/<number>.png and questions.json; one answer a question."""

    kind: Literal["easy_vqa"]
    images_per_split: int | None = Field(None, ge=1, description="Only the first so many images; null: all.")


AnyDataset = Annotated[
    FolderDataset | ImageNetDataset | MiniImageNetDataset | CocoCaptionsDataset | VQAv2Dataset | EasyVQADataset,
    Field(discriminator="kind"),
]


class Sample(Entry):
    """Which images a task looks at."""

    dataset: str
    splits: list[str] = Field(min_length=1, description="Splits of the data set the images come from.")
    images: int | None = Field(None, ge=1, description="Seeded sample of this many images; null takes all.")
    corruptions: list[Literal["none", "inpainting", "outpainting", "deblurring", "shift", "rotation"]] = Field(
        ["none"], min_length=1, description="Each image is tokenised once for each of these."
    )
