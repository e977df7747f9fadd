"""Registry entries of data sets, and the samples of them that tasks look at."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from v2l.configuration.entry import Entry, OptionalUserFile, UserFile
from v2l.configuration.registry import EntryOf, NameOf, Registry
from v2l.configuration.restoration_tasks import RESTORATION_TASKS

PICTURES = (  # file endings of what pillow may read, and of what people bring besides: those are rejected by name
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".jp2"),
    *(".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    *(".heic", ".heif"),
)
KIND = Field(description="Which layout its files have; decides the other keys.")


class Dataset(Entry):
    """Fields that every data set has; `implementation` is the `v2l.data.layout.Layout` that knows where images lie."""

    implementation: ClassVar[str]
    has_classes: ClassVar[bool] = True

    kind: Annotated[str, KIND]
    root: UserFile = Field(description="Folder that image paths are relative to.")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="How an image becomes square: centre crop (paper) or padding with white (cut-outs)."
    )


class DrawnDataset(Dataset):
    """A data set without splits of its own: they are drawn with the experiment's seed."""

    min_images: int = Field(1, ge=1, description="Smaller classes are left out.")
    train_share: float = Field(0.85, gt=0, lt=1, description="Share of each class in split `train`; the rest is `val`.")


class FolderDataset(DrawnDataset):
    """A folder of class folders."""

    implementation: ClassVar[str] = "v2l.data.layouts:FolderLayout"

    kind: Annotated[Literal["folder"], KIND]
    class_depth: int = Field(1, ge=1, description="Level below root whose folder names are the classes.")
    extensions: list[str] = Field(list(PICTURES), description="File endings that count as images.")
    exclude: list[str] = Field([], description="Folder names that are left out, at any level.")


class EmojiDataset(DrawnDataset):
    """Pictures of emoji, in the subgroups that Unicode sorts them in; skin tones stand in split `further` alone."""

    implementation: ClassVar[str] = "v2l.data.emoji:EmojiLayout"

    kind: Annotated[Literal["emoji"], KIND]
    names: UserFile = Field(description="emojibase-data's list of emoji with their names (en/data.json).")
    groups: UserFile = Field(description="emojibase-data's names of groups and subgroups (meta/groups.json).")
    exclude: list[str] = Field([], description="Groups and subgroups that are left out (`people-body`).")
    further: list[str] = Field(
        [], description="Groups and subgroups that stand in split `further`, skin tones among them: for training alone."
    )


class ImageNetDataset(Dataset):
    """ImageNet-1K as distributed: train/<wnid>/*.JPEG, and val/<wnid>/*.JPEG or val/*.JPEG with a label list."""

    implementation: ClassVar[str] = "v2l.data.layouts:ImageNetLayout"

    kind: Annotated[Literal["imagenet"], KIND]
    synsets: UserFile = Field(description="File of `wnid name, synonym, ...` lines (LOC_synset_mapping.txt).")
    val_labels: OptionalUserFile = Field(None, description="CSV `ImageId,PredictionString` when val/ is flat.")


class MiniImageNetDataset(Dataset):
    """mini-ImageNet: images/ with train.csv, val.csv and test.csv (filename,label), or <split>/<wnid>/ folders."""

    implementation: ClassVar[str] = "v2l.data.layouts:MiniImageNetLayout"

    kind: Annotated[Literal["mini_imagenet"], KIND]
    synsets: UserFile = Field(description="File of `wnid name, synonym, ...` lines; the first name is the class name.")


class CaptionSplit(Entry):
    """A split of COCO Captions."""

    captions: UserFile = Field(description="JSON with `images` and `annotations` (captions_val2014.json).")
    images: str = Field(description="Folder of the split's images below root (val2014).")


class QuestionSplit(Entry):
    """A split of VQAv2."""

    questions: UserFile = Field(description="JSON with `questions` (v2_OpenEnded_mscoco_val2014_questions.json).")
    annotations: UserFile = Field(description="JSON with ten answers a question (v2_mscoco_val2014_annotations.json).")
    images: str = Field(description="Folder below root; image 42 of subset val2014: COCO_val2014_000000000042.jpg.")


class AnnotatedDataset(Dataset):
    """A data set whose images have captions or questions and no classes."""

    has_classes: ClassVar[bool] = False


class CocoCaptionsDataset(AnnotatedDataset):
    """COCO Captions as distributed: a JSON file and an image folder for each split."""

    implementation: ClassVar[str] = "v2l.data.annotations:CocoCaptionsLayout"

    kind: Annotated[Literal["coco_captions"], KIND]
    splits: dict[str, CaptionSplit] = Field(min_length=1, description="Files of each split, by its name.")


class VQAv2Dataset(AnnotatedDataset):
    """VQAv2 as distributed: two JSON files and an image folder for each split."""

    implementation: ClassVar[str] = "v2l.data.annotations:VQAv2Layout"

    kind: Annotated[Literal["vqa_v2"], KIND]
    splits: dict[str, QuestionSplit] = Field(min_length=1, description="Files of each split, by its name.")


class EasyVQADataset(AnnotatedDataset):
    """easy-VQA: train/ and test/, each with images/<number>.png and questions.json; one answer a question."""

    implementation: ClassVar[str] = "v2l.data.annotations:EasyVQALayout"

    kind: Annotated[Literal["easy_vqa"], KIND]
    images_per_split: int | None = Field(None, ge=1, description="Only the first so many images; null: all.")


DATASET_KINDS: Registry[type[Dataset]] = Registry(
    "kind of data set",
    {
        "folder": FolderDataset,
        "emoji": EmojiDataset,
        "imagenet": ImageNetDataset,
        "mini_imagenet": MiniImageNetDataset,
        "coco_captions": CocoCaptionsDataset,
        "vqa_v2": VQAv2Dataset,
        "easy_vqa": EasyVQADataset,
    },
    base="v2l.data.layout:Layout",
)
AnyDataset = Annotated[Dataset, EntryOf(DATASET_KINDS, "kind")]


class Sample(Entry):
    """Which images a task looks at."""

    dataset: str = Field(description="Name in `datasets`.")
    splits: list[str] = Field(min_length=1, description="Splits of the data set the images come from.")
    images: int | None = Field(None, ge=1, description="Seeded sample of this many images; null takes all.")
    corruptions: list[Annotated[str, NameOf(RESTORATION_TASKS, further=("none",))]] = Field(
        ["none"], min_length=1, description="Each image is tokenised once for each of these."
    )


SAMPLES: Registry[str] = Registry(
    "sample",
    {
        "classification": "few-shot episodes",
        "semantics": "words of images",
        "reconstruction": "tokenizers alone",
        "restoration": "restoration of corrupted images",
        "captioning": "captions",
        "vqa": "questions",
        "masked": "restoration of masked images",
        "finetuning": "training of adapters for the latter",
    },
)
