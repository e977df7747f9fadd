"""Pictures that are reached by links, or seen and not taken: which name counts, and what is said of the others."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.test_folder_walk import accounted, entry_of, imagenet, pictures, touch  # noqa: F401
from v2l.configuration.dataset_entries import PICTURES, FolderDataset, MiniImageNetDataset
from v2l.data.file_account import OTHER_NAME, account
from v2l.data.layout import NOT_READ, layout_of, list_images
from v2l.errors import UserError, printable


def link(root: Path, name: str, target: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(root / target)


def test_a_picture_is_indexed_once_whatever_links_to_it(tmp_path):
    root = tmp_path / "root"
    own = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(6)]
    pictures(root, *own)
    for name, target in {"cat/all": "cat", "aaa": "dog", "loop": ".", "dog/again.png": "cat/0.png"}.items():
        link(root, name, target)
    (root / "dog/hard.png").hardlink_to(root / "cat/1.png")
    names, files, _ = accounted(root, tmp_path)
    assert names == own and files["used"] == 12
    assert files["left_out"] == {OTHER_NAME: 9, "a link to the root, or to a folder that it lies in": 2}


def test_links_to_pictures_that_are_not_taken_themselves_are_taken(tmp_path):
    root = tmp_path / "root"
    pictures(root, "pool/0.png", "pool/1.png", "pool/2.png")
    link(root, "cat/a.png", "pool/0.png")
    link(root, "cat/b.png", "pool/0.png")
    link(root, "dog", "pool")
    names, files, _ = accounted(root, tmp_path, exclude=["pool"])
    assert names == ["cat/a.png", "dog/1.png", "dog/2.png"]
    assert files["left_out"] == {OTHER_NAME: 5}


def test_a_split_that_has_the_pictures_of_another_is_refused(tmp_path, imagenet):  # noqa: F811
    (imagenet / "val").rename(tmp_path / "away")
    link(imagenet, "val", "train")
    with pytest.raises(UserError, match=r"split val is a link .* val/n00000001/1\.JPEG to train/n00000001/1\.JPEG"):
        accounted(imagenet, tmp_path, **entry_of(imagenet))


def test_two_listed_names_of_one_file_are_refused(tmp_path):
    root = tmp_path / "root"
    pictures(root, *(f"images/{number}.jpg" for number in range(3)))
    link(root, "images/again.jpg", "images/0.jpg")
    for split, name in (("train", "0.jpg"), ("val", "./1.jpg"), ("test", "again.jpg")):
        (root / f"{split}.csv").write_text(f"filename,label\n{name},n00000001\n")
    layout = layout_of(MiniImageNetDataset(kind="mini_imagenet", root=str(root), synsets=""))
    with pytest.raises(UserError, match=r"images/0\.jpg = images/again\.jpg listed more than once"):
        list_images(layout)
    (root / "test.csv").write_text("filename,label\ngone.jpg,n00000001\n")
    assert [item.image_id for item in list_images(layout)] == ["images/0.jpg", "images/1.jpg", "images/gone.jpg"]
    files = account(layout, ["images/0.jpg", "images/1.jpg"], ["images/gone.jpg"])
    assert (files["used"], files["rejected"], files["missing"]) == (2, 0, 1)
    assert files["left_out"] == {
        OTHER_NAME: 1, "a picture that no list or class folder has": 1, "no picture (.csv)": 3
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["a\0.jpg", "\ud800.jpg", "\udce9\U0001f600.jpg", "x" * 300 + ".jpg", "/etc/gone.jpg", ""]
)
def test_names_that_no_picture_has_are_rejected(tmp_path, name):
    root = tmp_path / "root"
    pictures(root, "val/0.jpg")
    content = {"images": [{"id": 0, "file_name": "0.jpg"}, {"id": 1, "file_name": name}], "annotations": []}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    splits = {"val": {"captions": str(tmp_path / "captions.json"), "images": "val"}}
    try:
        names, files, rejected = accounted(root, tmp_path, kind="coco_captions", splits=splits)
    except UserError as error:
        assert "captions.json" in str(error)
    else:
        assert names == ["val/0.jpg"] and len(rejected) == 1 and rejected[0].isprintable()


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders_that_are_all_empty_are_refused(tmp_path, imagenet, split):  # noqa: F811
    (imagenet / split).rename(tmp_path / "away")
    (imagenet / split / "n00000001").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{split} has no picture in a class folder: 1 class folders are empty\."):
        accounted(imagenet, tmp_path, **entry_of(imagenet))
    if split == "train":
        pictures(imagenet, "train/a.JPEG")
        with pytest.raises(UserError, match=r"empty, 1 pictures lie in none, for example train/a\.JPEG"):
            accounted(imagenet, tmp_path, **entry_of(imagenet))


def test_classes_that_only_one_split_has_are_named(tmp_path, imagenet, caplog):  # noqa: F811
    pictures(imagenet, "val/n00000003/1.JPEG")
    accounted(imagenet, tmp_path, **entry_of(imagenet))
    assert "1 classes of split val have no image in split train: n00000003" in caplog.text


def test_empty_class_folders_of_any_depth_are_named(tmp_path, caplog):
    root = tmp_path / "root"
    pictures(root, "a/cat/0.png")
    touch(root, "a/dog/readme.txt", "not/fish/readme.txt")
    accounted(root, tmp_path, class_depth=2, exclude=["not"])
    assert "1 class folders of" in caplog.text and "hold no picture: a/dog" in caplog.text


def test_archives_beside_class_folders_and_other_formats_are_warned_of(tmp_path, caplog):
    root = tmp_path / "root"
    pictures(root, "cat/0.png")
    touch(root, "dog.TAR.gz", "bird.zip", "cat/raw.CR2", "cat/b.svg", "cat/video.mp4", "cat/shot.0123", "cat/none")
    files = accounted(root, tmp_path)[1]
    assert files["left_out"] == {
        "a picture in a format that is not read (.cr2)": 1,
        "a picture in a format that is not read (.svg)": 1,
        "an archive, which is not opened (.tar.gz)": 1,
        "an archive, which is not opened (.zip)": 1,
        "no picture (.mp4)": 1,
        "no picture (another ending)": 1,
        "no picture (no ending)": 1,
    }
    warned = "\n".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "cat/raw.CR2" in warned and "dog.TAR.gz" in warned and "video" not in warned
    (root / "cat/0.png").unlink()
    with pytest.raises(UserError, match=r"1: an archive, which is not opened \(\.tar\.gz\).*unpack archives"):
        accounted(root, tmp_path)


def test_every_ending_of_pictures_that_pillow_opens_is_taken_or_warned_of():
    Image.init()
    kinds = {kind for kind in Image.OPEN if Image.MIME.get(kind, "").startswith("image/")}
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in kinds}
    assert not {ending for ending in endings if ending not in (*PICTURES, *NOT_READ)}


def test_names_for_messages_print_on_one_line():
    assert (
        printable(os.fsdecode(b"caf\xe9\n \x1b[0m.png") + "\ud800 \u00e9") == "caf\\xe9\\n \\x1b[0m.png\\ud800 \u00e9"
    )


NAMES = st.sampled_from(
    ["a.png", "b.jpg", "b.JPG", "c.txt", "._d.png", "e", "f.tar", b"\xff.png", b"\xe9", "x\ny.png", ".g", "@eaDir", "h"]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from("fdlhp"), st.integers(0, 9))))
def test_of_any_folder_the_numbers_add_up_and_each_file_is_used_once(tmp_path_factory, entries):
    root = tmp_path_factory.mktemp("any")
    made = [root]
    for parts, kind, number in entries:
        path = root.joinpath(*map(os.fsdecode, parts))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = made[number % len(made)]
            make = {"f": path.touch, "d": path.mkdir, "p": partial(os.mkfifo, path)}
            make |= {"l": partial(path.symlink_to, target), "h": partial(path.hardlink_to, target)}
            make[kind]()
        except OSError:
            continue
        made.append(path)
    layout = layout_of(FolderDataset(kind="folder", root=str(root)))
    try:
        used = [item.image_id for item in list_images(layout)]
    except UserError as error:
        assert "holds no images" in str(error) and str(error).isprintable()
        return
    assert len({os.stat(root / name).st_ino for name in used}) == len(used)
    files = account(layout, used, [])
    assert files["used"] + sum(files["left_out"].values()) == len(layout.files.names) + layout.files.left_out.total()
