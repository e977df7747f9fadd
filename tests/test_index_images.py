"""Manifests of every kind of data set, and what happens to files that are no images."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from v2l.configuration.dataset_entries import DATASET_KINDS, FolderDataset, ImageNetDataset, MiniImageNetDataset
from v2l.configuration.extensions import check_added, load_extensions
from v2l.configuration.slices import StageConfig
from v2l.data.drawn_splits import draw_splits
from v2l.data.images import open_image
from v2l.data.layout import Listed, layout_of, list_images
from v2l.data.manifest import SCHEMA, Manifest, read_annotations
from v2l.errors import UserError
from v2l.index_images import run
from v2l.io import overlap
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata
from v2l.pipeline.code_files import code_files

SYNSETS = "n01 red cat, felis\nn02 crane\nn03 crane\nn04 maillot\nn05 maillot, tank suit\n"


def image(path: Path, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG" if path.suffix.lower() in (".jpeg", ".jpg") else "PNG")


def truncated(path: Path) -> None:
    image(path, (64, 64))
    path.write_bytes(path.read_bytes()[:1000])


def index(tmp_path: Path, dataset: dict, limit: float = 0.01, seed: int = 0) -> Manifest:
    entry = DATASET_KINDS[dataset["kind"]].model_validate(dataset)
    config = StageConfig(
        "index_images",
        {
            "job": {"dataset": "pictures"},
            "seed": seed,
            "index_images": {"max_rejected_share": limit},
            "datasets": {"pictures": entry.model_dump(mode="json")},
        },
    )
    outputs = {
        "manifest": tmp_path / "out" / "pictures.parquet",
        "rejected": tmp_path / "out" / "pictures.rejected.csv",
    }
    run(config, Inputs({}), outputs)
    return Manifest.read(outputs["manifest"])


def folder(root: Path, **fields) -> dict:
    return {"kind": "folder", "root": str(root), **fields}


def test_folder_of_class_folders(tmp_path):
    root = tmp_path / "pictures"
    for number in range(4):
        image(root / "animals" / "big_birds" / f"b{number}.png", (6 + number, 4))
        image(root / "animals" / "fish" / "deep" / f"f{number}.PNG")
    image(root / "animals" / "lone.png")  # above the class level
    image(root / "animals" / "rare" / "r.png")  # fewer than min_images
    image(root / "signs" / "fish" / "s.png")
    image(root / "animals" / "fish" / "signs" / "excluded.png")
    image(root / "animals" / "fish" / "photo.jpg")  # not among the extensions
    (root / "animals" / "big_birds" / "b1.txt").write_text("A big bird.\nfr.utf8=Un oiseau.\n", encoding="utf-8")
    fields = {"class_depth": 2, "extensions": [".png"], "exclude": ["signs"], "min_images": 2, "train_share": 0.6}
    manifest = index(tmp_path, folder(root, **fields))
    assert manifest.classes == ["big birds", "fish"] and manifest.root == root and manifest.fit == "crop"
    assert manifest.image_id.tolist() == [f"animals/big_birds/b{number}.png" for number in range(4)] + [
        f"animals/fish/deep/f{number}.PNG" for number in range(4)
    ]
    assert manifest.label.tolist() == [0] * 4 + [1] * 4
    assert manifest.class_name.tolist() == ["big birds"] * 4 + ["fish"] * 4
    captions = read_annotations(tmp_path / "out" / "pictures.parquet", "captions")
    assert captions == {"animals/big_birds/b1.png": ["A big bird."]}
    assert Counter(zip(manifest.label.tolist(), manifest.split, strict=True)) == {
        (0, "train"): 2, (0, "val"): 2, (1, "train"): 2, (1, "val"): 2,
    }  # fmt: skip


def test_manifest_has_the_schema_its_facts_and_provenance(tmp_path):
    import pyarrow.parquet as pq

    for number in range(3):
        image(tmp_path / "pictures" / "cats" / f"{number}.png", (5 + number, 7))
    index(tmp_path, folder(tmp_path / "pictures", fit="pad"))
    path = tmp_path / "out" / "pictures.parquet"
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == SCHEMA
    assert table["width"].to_pylist() == [5, 6, 7] and table["height"].to_pylist() == [7, 7, 7]
    metadata = parquet_metadata(path)
    root = str(tmp_path / "pictures")
    assert metadata["dataset"] == {"name": "pictures", "root": root, "fit": "pad", "classes": ["cats"]}
    assert metadata["v2l"]["stage"] == "index_images" and metadata["v2l"]["config"]["seed"] == 0
    assert (tmp_path / "out" / "pictures.rejected.csv").read_bytes() == b"dataset,path,reason\n"
    assert (tmp_path / "out" / "pictures.rejected.csv.provenance.json").exists()


def test_folders_of_one_name_take_their_parents_name(tmp_path):
    for group in ("space", "weather"):
        image(tmp_path / "pictures" / group / "stars" / "a.png")
    dataset = FolderDataset(kind="folder", root=str(tmp_path / "pictures"), class_depth=2)
    assert layout_of(dataset).class_names(["space/stars", "weather/stars"]) == ["space stars", "weather stars"]
    assert layout_of(dataset).class_names(["a_b/c", "a b/c"]) == ["a_b/c", "a b/c"]


def test_unreadable_files_are_listed_and_the_rest_is_indexed(tmp_path):
    root = tmp_path / "pictures"
    for number in range(8):
        image(root / "cats" / f"{number}.jpg")
    truncated(root / "cats" / "half.jpg")
    (root / "cats" / "text.png").write_text("no image")
    (root / "cats" / "empty.png").touch()
    manifest = index(tmp_path, folder(root), limit=0.3)
    assert manifest.image_id.tolist() == [f"cats/{number}.jpg" for number in range(8)]
    with open(tmp_path / "out" / "pictures.rejected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["path"]) for row in rows] == [
        ("pictures", "cats/empty.png"),
        ("pictures", "cats/half.jpg"),
        ("pictures", "cats/text.png"),
    ]
    assert "truncated" in rows[1]["reason"] and "cannot identify" in rows[2]["reason"]
    assert str(tmp_path) not in "".join(row["reason"] for row in rows)


def test_too_many_unreadable_files_stop_the_stage(tmp_path, caplog):
    for number in range(2):
        image(tmp_path / "pictures" / "cats" / f"{number}.jpg")
    for number in range(6):
        truncated(tmp_path / "pictures" / "cats" / f"bad{number}.jpg")
    with pytest.raises(
        UserError, match=r"6 of 8 images \(75\.0%\).*cats/bad0\.jpg.*max_rejected_share = 0\.01"
    ) as caught:
        index(tmp_path, folder(tmp_path / "pictures"))
    assert "bad4.jpg" in str(caught.value) and "bad5.jpg" not in str(caught.value)
    assert "cats/bad5.jpg" in caplog.text
    assert not (tmp_path / "out").exists()


def test_images_of_every_mode_are_read(tmp_path):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        path = tmp_path / "pictures" / "modes" / f"{mode.replace(';', '')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (3, 2)).save(path)
    assert len(index(tmp_path, folder(tmp_path / "pictures")).image_id) == 7


def test_result_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    for number in range(40):
        image(tmp_path / "pictures" / f"class{number % 3}" / f"{number}.png", (3 + number, 5))
    truncated(tmp_path / "pictures" / "class0" / "bad.png")
    results = []
    for cores in (1, 7):
        monkeypatch.setattr(overlap.os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
        index(tmp_path, folder(tmp_path / "pictures"), limit=0.1)
        results.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
    assert results[0] == results[1]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 40), min_size=1),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_split_of_a_class_has_the_share_and_ignores_other_classes(sizes, share, seed):
    images = [Listed(f"{key}/{number:02d}", key, "") for key, size in sorted(sizes.items()) for number in range(size)]
    splits = dict(zip(images, draw_splits(images, share, seed), strict=True))
    for key, size in sizes.items():
        own = [image for image in images if image.key == key]
        train = sum(splits[image] == "train" for image in own)
        assert train == min(round(share * size), size - 1)
        assert [splits[image] for image in own] == draw_splits(own, share, seed)


def test_another_seed_draws_another_split():
    images = [Listed(f"a/{number:02d}", "a", "") for number in range(40)]
    assert draw_splits(images, 0.5, 0) != draw_splits(images, 0.5, 1)


GROUPS = {
    "groups": {"0": "smileys-emotion", "1": "people-body", "3": "animals-nature"},
    "subgroups": {"0": "face-smiling", "16": "hand-fingers-open", "34": "animal-mammal", "35": "animal-bird"},
}


def emoji(folder: Path, **fields) -> dict:
    """Mammals (the bat has no picture, the wolf one more in another tone), three faces, two birds and a hand."""
    pictures = "1f415 1f408-200d-2b1b 1f43a 1f43a-1f3fb 2639 263a-fe0f 1f600 1f426 1f986 270b"
    for name in pictures.split():
        path = folder / "pictures" / f"{name}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(path, lossless=True, exact=True)
    listed = [
        {"label": "regional indicator A", "hexcode": "1F1E6"},
        {"label": "dog", "hexcode": "1F415", "group": 3, "subgroup": 34},
        {"label": "black cat", "hexcode": "1F408-200D-2B1B", "group": 3, "subgroup": 34},
        {"label": "bat", "hexcode": "1F987", "group": 3, "subgroup": 34},
        {
            "label": "wolf",
            "hexcode": "1F43A",
            "group": 3,
            "subgroup": 34,
            "skins": [{"label": "pale wolf", "hexcode": "1F43A-1F3FB"}],
        },
        {"label": "frowning face", "hexcode": "2639-FE0F", "group": 0, "subgroup": 0},
        {"label": "smiling face", "hexcode": "263A", "group": 0, "subgroup": 0},
        {"label": "grinning face", "hexcode": "1F600", "group": 0, "subgroup": 0},
        {"label": "bird", "hexcode": "1F426", "group": 3, "subgroup": 35},
        {"label": "duck", "hexcode": "1F986", "group": 3, "subgroup": 35},
        {"label": "raised hand", "hexcode": "270B", "group": 1, "subgroup": 16},
    ]
    (folder / "data.json").write_text(json.dumps(listed))
    (folder / "groups.json").write_text(json.dumps(GROUPS))
    paths = {"root": folder / "pictures", "names": folder / "data.json", "groups": folder / "groups.json"}
    return {"kind": "emoji"} | {key: str(path) for key, path in paths.items()} | fields


def test_emoji_have_their_subgroups_as_classes_and_their_names_as_captions(tmp_path):
    entry = emoji(tmp_path, exclude=["people-body"], min_images=3, train_share=0.6)
    manifest = index(tmp_path, entry)
    assert manifest.image_id.tolist() == [
        "1f408-200d-2b1b.webp", "1f415.webp", "1f43a.webp", "1f600.webp", "2639.webp", "263a-fe0f.webp",
    ]  # fmt: skip
    assert manifest.classes == ["animal mammal", "face smiling"] and manifest.label.tolist() == [0, 0, 0, 1, 1, 1]
    captions = read_annotations(tmp_path / "out" / "pictures.parquet", "captions")
    assert [captions[image_id] for image_id in manifest.image_id] == [
        ["black cat"], ["dog"], ["wolf"], ["grinning face"], ["frowning face"], ["smiling face"],
    ]  # fmt: skip
    mammals = [Listed(image_id, "animal-mammal", "") for image_id in manifest.image_id[:3]]
    assert manifest.split[:3].tolist() == draw_splits(mammals, 0.6, 0)
    assert open_image(manifest.path(0)).getpixel((0, 0)) == (255, 255, 255)  # behind transparency there is red


def test_emoji_are_left_out_by_group_and_by_subgroup(tmp_path):
    assert index(tmp_path, emoji(tmp_path, exclude=["animals-nature", "face-smiling"])).classes == ["hand fingers open"]
    with pytest.raises(UserError, match=r"names 'animal-mamal'.*groups\.json.*did you mean `animal-mammal`"):
        index(tmp_path, emoji(tmp_path, exclude=["animal-mamal"]))
    with pytest.raises(UserError, match=r"no class has datasets\.pictures\.min_images = 4"):
        index(tmp_path, emoji(tmp_path, min_images=4))


def test_further_emoji_stand_in_a_split_of_their_own_with_their_skin_tones(tmp_path):
    names = ["animal-mammal", "people-body"]
    manifest = index(tmp_path, emoji(tmp_path, further=names, min_images=2, train_share=0.5))
    is_further = manifest.split == "further"
    assert sorted(manifest.image_id[is_further]) == [
        "1f408-200d-2b1b.webp", "1f415.webp", "1f43a-1f3fb.webp", "1f43a.webp", "270b.webp",
    ]  # fmt: skip
    without = index(tmp_path, emoji(tmp_path, exclude=names, min_images=2, train_share=0.5))
    splits = dict(zip(manifest.image_id[~is_further], manifest.split[~is_further], strict=True))
    assert splits == dict(zip(without.image_id, without.split, strict=True)) and set(splits.values()) == {
        "train",
        "val",
    }
    with pytest.raises(UserError, match=r"`further` .* names 'animal-mamal'.*did you mean `animal-mammal`"):
        index(tmp_path, emoji(tmp_path, further=["animal-mamal"]))


def test_damaged_lists_of_emoji_are_named(tmp_path):
    entry = emoji(tmp_path)
    (tmp_path / "groups.json").write_text(json.dumps(GROUPS | {"subgroups": {"0": "face-smiling"}}))
    with pytest.raises(UserError, match=r"data\.json: 1F415 is of group 3, subgroup 34, which .*groups\.json does not"):
        index(tmp_path, entry)
    (tmp_path / "data.json").write_text('[{"label": "dog"}]')
    with pytest.raises(UserError, match=r"data\.json: 0\.hexcode: Field required"):
        index(tmp_path, entry)
    (tmp_path / "data.json").unlink()
    with pytest.raises(UserError, match=r"data\.json cannot be read"):
        index(tmp_path, entry)


@pytest.fixture
def imagenet(tmp_path) -> Path:
    root = tmp_path / "imagenet"
    for wnid in ("n02", "n01", "n03"):
        image(root / "train" / wnid / f"{wnid}_1.JPEG")
        image(root / "val" / wnid / f"{wnid}_9.JPEG")
    (root / "synsets.txt").write_text(SYNSETS)
    return root


def test_imagenet_with_class_folders(tmp_path, imagenet):
    manifest = index(tmp_path, {"kind": "imagenet", "root": str(imagenet), "synsets": str(imagenet / "synsets.txt")})
    assert manifest.image_id.tolist() == [
        "train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG", "train/n03/n03_1.JPEG",
        "val/n01/n01_9.JPEG", "val/n02/n02_9.JPEG", "val/n03/n03_9.JPEG",
    ]  # fmt: skip
    assert manifest.label.tolist() == [0, 1, 2, 0, 1, 2]
    assert manifest.split.tolist() == ["train"] * 3 + ["val"] * 3
    assert manifest.classes == ["red cat", "crane (n02)", "crane (n03)"]


def test_imagenet_with_a_flat_validation_folder(tmp_path, imagenet):
    for wnid in ("n02", "n01", "n03"):
        (imagenet / "val" / wnid / f"{wnid}_9.JPEG").rename(imagenet / "val" / f"val_{wnid}.JPEG")
        (imagenet / "val" / wnid).rmdir()
    labels = imagenet / "labels.csv"
    labels.write_text(
        "ImageId,PredictionString\nval_n01,n03 1 2 3 4 n03 5 6 7 8 \nval_n02,n02 1 2 3 4\nval_n03,n01 1 1 1 1\n"
    )
    entry = {"kind": "imagenet", "root": str(imagenet), "synsets": str(imagenet / "synsets.txt")}
    manifest = index(tmp_path, entry | {"val_labels": str(labels)})
    assert manifest.image_id[3:].tolist() == ["val/val_n01.JPEG", "val/val_n02.JPEG", "val/val_n03.JPEG"]
    assert manifest.label[3:].tolist() == [2, 1, 0]
    with pytest.raises(UserError, match="set val_labels"):
        index(tmp_path, entry)
    labels.write_text("ImageId,PredictionString\nval_n01,n03 1 2 3 4\n")
    with pytest.raises(UserError, match="has no label for val_n02.JPEG, val_n03.JPEG"):
        index(tmp_path, entry | {"val_labels": str(labels)})
    labels.write_text("id,label\n")
    with pytest.raises(UserError, match="has no column ImageId, PredictionString"):
        index(tmp_path, entry | {"val_labels": str(labels)})


def test_class_names_that_collide_take_the_next_synonym(tmp_path):
    (tmp_path / "synsets.txt").write_text(SYNSETS)
    dataset = ImageNetDataset(kind="imagenet", root=".", synsets=str(tmp_path / "synsets.txt"))
    names = layout_of(dataset).class_names(["n01", "n02", "n03", "n04", "n05"])
    assert names == ["red cat", "crane (n02)", "crane (n03)", "maillot", "maillot (tank suit)"]
    with pytest.raises(UserError, match="has no line for n06"):
        layout_of(dataset).class_names(["n01", "n06"])
    (tmp_path / "synsets.txt").write_text("n01 cat\nn02\n")
    with pytest.raises(UserError, match="line 2: no name for 'n02'"):
        layout_of(dataset).class_names(["n01"])


def mini(root: Path, **fields) -> MiniImageNetDataset:
    (root / "synsets.txt").write_text(SYNSETS)
    return MiniImageNetDataset(kind="mini_imagenet", root=str(root), synsets=str(root / "synsets.txt"), **fields)


def test_mini_imagenet_with_lists(tmp_path):
    root = tmp_path / "mini"
    for split, wnid in (("train", "n03"), ("val", "n02"), ("test", "n01")):
        image(root / "images" / f"{split}1.jpg")
        (root / f"{split}.csv").write_text(f"filename,label\n{split}1.jpg,{wnid}\n")
    manifest = index(tmp_path, mini(root).model_dump())
    assert manifest.image_id.tolist() == ["images/test1.jpg", "images/train1.jpg", "images/val1.jpg"]
    assert manifest.split.tolist() == ["test", "train", "val"] and manifest.label.tolist() == [0, 2, 1]
    (root / "images" / "val1.jpg").unlink()
    manifest = index(tmp_path, mini(root).model_dump(), limit=0.5)
    assert manifest.image_id.tolist() == ["images/test1.jpg", "images/train1.jpg"]
    assert "images/val1.jpg" in (tmp_path / "out" / "pictures.rejected.csv").read_text()
    (root / "val.csv").write_text("filename,label\ntest1.jpg,n02\n")
    with pytest.raises(UserError, match="images/test1.jpg listed more than once"):
        list_images(layout_of(mini(root)))


def test_mini_imagenet_with_folders(tmp_path):
    root = tmp_path / "mini"
    for split, wnid in (("train", "n03"), ("val", "n02"), ("test", "n01")):
        image(root / split / wnid / "1.jpg")
    assert [(item.image_id, item.key, item.split) for item in list_images(layout_of(mini(root)))] == [
        ("test/n01/1.jpg", "n01", "test"),
        ("train/n03/1.jpg", "n03", "train"),
        ("val/n02/1.jpg", "n02", "val"),
    ]


@pytest.mark.parametrize("kind", ["folder", "imagenet", "mini_imagenet"])
def test_a_data_set_that_is_not_there_is_named(tmp_path, kind):
    root = tmp_path / "pictures"
    entry = {"kind": kind, "root": str(root)} | ({} if kind == "folder" else {"synsets": str(tmp_path / "synsets.txt")})
    with pytest.raises(UserError, match=r"pictures \(root of a data set\) is not a folder"):
        index(tmp_path, entry)
    root.mkdir()
    with pytest.raises(UserError, match="holds no images" if kind == "folder" else r"pictures/train is not a folder"):
        index(tmp_path, entry)
    if kind != "folder":
        for split in ("train", "val", "test"):
            image(root / split / "n01" / "1.jpg")
        with pytest.raises(UserError, match=r"synsets\.txt cannot be read"):
            index(tmp_path, entry)


def test_no_class_with_enough_images_is_an_error(tmp_path):
    image(tmp_path / "pictures" / "cats" / "1.png")
    with pytest.raises(UserError, match=r"datasets\.pictures\.min_images = 5.*cats: 1"):
        index(tmp_path, folder(tmp_path / "pictures", min_images=5))


def listed(root: Path, rows: str) -> dict:
    for name in ("a/1.png", "a/2.png", "3.png"):
        image(root / name)
    (root / "table.csv").write_text(f"split,file,label\n{rows}")
    return {"kind": "csv", "root": str(root), "table": str(root / "table.csv")}


def test_a_kind_from_outside_is_indexed_like_any_other(tmp_path, registries):
    load_extensions(["tests/extending/dataset.py"])
    check_added([DATASET_KINDS])
    root = tmp_path / "pictures"
    rows = "val,a/2.png,Blue Circle\ntrain,a/1.png,red square\ntest,3.png,Blue Circle\n"
    manifest = index(tmp_path, listed(root, rows))
    assert manifest.image_id.tolist() == ["3.png", "a/1.png", "a/2.png"] and manifest.root == root
    assert manifest.split.tolist() == ["test", "train", "val"] and manifest.label.tolist() == [0, 1, 0]
    assert manifest.classes == ["Blue Circle", "red square"]
    with pytest.raises(UserError, match="a/1.png listed more than once"):
        index(tmp_path, listed(root, "val,a/1.png,circle\ntrain,a/1.png,square\n"))
    (root / "table.csv").write_text("file,label\n")
    with pytest.raises(UserError, match="table.csv has no column split"):
        index(tmp_path, {"kind": "csv", "root": str(root), "table": str(root / "table.csv")})


BROKEN = """
from typing import ClassVar, Literal

from v2l.configuration.dataset_entries import DATASET_KINDS, Dataset
from v2l.data.images import open_image
from v2l.data.layout import Layout


class BrokenDataset(Dataset):
    implementation: ClassVar[str] = f"{__name__}:BrokenLayout"
    kind: Literal["broken"]


class BrokenLayout(Layout):
    pass


DATASET_KINDS.add("broken", BrokenDataset)
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", ""), r"broken\.py: class BrokenLayout of the kind of data set 'broken' lacks list_images\."),
        (("(Layout)", ""), r"broken\.py: class BrokenLayout .* lacks its base class Layout\."),
        (
            (":BrokenLayout", ":Other"),
            r"broken\.py: the kind of data set 'broken' has its implementation nowhere: .*broken:Other\.",
        ),
    ],
)
def test_a_kind_without_a_layout_is_refused(tmp_path, registries, change, message):
    (tmp_path / "broken.py").write_text(BROKEN.replace(*change))
    load_extensions([str(tmp_path / "broken.py")])
    with pytest.raises(UserError, match=message):
        check_added([DATASET_KINDS])


def test_indexing_depends_on_no_layout_but_that_of_its_data_set(registries):
    load_extensions(["tests/extending/dataset.py"])
    layouts = {"v2l/data/layouts.py", "v2l/data/annotations.py", "tests/extending/dataset.py"}
    own = {
        kind: sorted(layouts & set(code_files(["v2l.index_images", DATASET_KINDS[kind].implementation])))
        for kind in ("imagenet", "vqa_v2", "csv")
    }
    assert own == {
        "imagenet": ["v2l/data/layouts.py"],
        "vqa_v2": ["v2l/data/annotations.py"],
        "csv": ["tests/extending/dataset.py"],
    }
    assert "v2l/data/csv_lists.py" in code_files(["v2l.index_images", DATASET_KINDS["csv"].implementation])
