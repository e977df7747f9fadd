"""Every file below a data set's root is used, left out by a rule, or rejected, and used once."""

import os
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.test_index_images import index
from v2l.errors import UserError
from v2l.io.folder_walk import ABOVE, NOWHERE, SYSTEM, FolderWalk, FoundFile, is_system
from v2l.io.storage import parquet_metadata


def pictures(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kinds = {".jfif": "jpeg", ".jpe": "jpeg", ".dib": "bmp", ".apng": "png"}
        Image.new("RGB", (20, 20), (number * 9 % 256, 0, 99)).save(path, format=kinds.get(path.suffix.lower()))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def walked(root: Path) -> tuple[list[FoundFile], dict[str, str]]:
    rules: dict[str, str] = {}
    return list(FolderWalk(root, rules.__setitem__).files()), rules


def test_a_file_has_one_first_name_whatever_links_to_it(tmp_path):
    root = tmp_path / "root"
    pictures(root, "cat/0.png", "cat/1.png", "dog/0.png")
    pictures(tmp_path, "elsewhere/bird/0.png", "elsewhere/fish/0.png", "one.png")
    links = {
        "cat/all": root / "cat",
        "aaa": root / "dog",
        "loop": root,
        "above": tmp_path,
        "cat/again.png": root / "cat/0.png",
        "bird": tmp_path / "elsewhere/bird",
        "birds": tmp_path / "elsewhere/bird",
        "both": tmp_path / "elsewhere",
        "dog/one.png": tmp_path / "one.png",
        "dog/two.png": tmp_path / "one.png",
        "gone": tmp_path / "gone",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (tmp_path / "elsewhere/bird/back").symlink_to(root)
    (root / "dog/hard.png").hardlink_to(root / "cat/1.png")
    (root / "dog/harder.png").symlink_to(root / "dog/hard.png")
    found, rules = walked(root)
    assert {file.name: file.same_as for file in found} == {
        "cat/0.png": "", "cat/1.png": "", "dog/0.png": "", "dog/hard.png": "cat/1.png",
        "aaa/0.png": "dog/0.png", "aaa/hard.png": "cat/1.png", "cat/again.png": "cat/0.png",
        "dog/one.png": "", "dog/two.png": "dog/one.png", "dog/harder.png": "cat/1.png",
        "bird/0.png": "", "birds/0.png": "bird/0.png", "both/bird/0.png": "bird/0.png", "both/fish/0.png": "",
    }  # fmt: skip
    assert len(found) == 14
    assert rules == {"gone": NOWHERE} | dict.fromkeys(("cat/all", "loop", "above", "bird/back"), ABOVE)


def test_links_into_a_folder_that_is_not_walked_are_followed(tmp_path):
    """Data sets in git-annex, whose class folders hold links."""
    pictures(tmp_path, ".git/annex/a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/0.png").symlink_to("../.git/annex/a.png")
    found, rules = walked(tmp_path)
    assert [(file.name, file.same_as) for file in found] == [("cat/0.png", "")]
    assert rules == {".git/annex/a.png": SYSTEM}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=8))
def test_any_links_between_folders_end_and_give_each_file_once(tmp_path_factory, links):
    top = tmp_path_factory.mktemp("links")
    root = top / "root"
    folders = [root / f"{number % 3}/{number}" for number in range(6)] + [top / "other", top / "other/inner"]
    for folder in folders:
        touch(folder, "file")
    for number, (place, target) in enumerate(links):
        (folders[place] / f"link{number}").symlink_to(folders[target])
    found, _ = walked(root)
    names = [file.name for file in found]
    first = {file.name: os.path.realpath(root / file.name) for file in found if not file.same_as}
    assert len(names) == len(set(names)) and len(set(first.values())) == len(first) >= 6
    assert all(first[file.same_as] == os.path.realpath(root / file.name) for file in found if file.same_as)


@pytest.mark.parametrize(
    "name",
    ["$Recycle.Bin", "Thumbs.db", "THUMBS.DB", "._a.png", "@Recycle", ".Trash-1000", "Icon\r", "a.png:Zone.Identifier"],
)
def test_names_that_systems_give_are_known(name):
    assert is_system(name)


def accounted(root: Path, folder: Path, **entry) -> tuple[list[str], dict, list]:
    """Images that are indexed, what the manifest says of all files, and the lines of the rejected ones."""
    index(folder, {"kind": "folder", "root": str(root)} | entry, limit=1)
    manifest, rejected = folder / "out/pictures.parquet", folder / "out/pictures.rejected.csv"
    names = pq.read_table(manifest)["image_id"].to_pylist()
    return names, parquet_metadata(manifest)["files"], rejected.read_text().splitlines()[1:]


def test_every_file_is_accounted_for(tmp_path, caplog):
    root = tmp_path / "root"
    taken = ["cat/0.png", "cat/1.JFIF", "cat/2.tif", "cat/3.bmp", "cat/4.GIF", "dog/a.jpe", "dog/b.webp"]
    pictures(root, *taken, "loose.png")
    pictures(root, ".ipynb_checkpoints/cat-0.png", "@eaDir/cat/0.png", "cat/@eaDir/0.png", "__MACOSX/cat/0.png")
    touch(
        root, "cat/._0.png", "cat/.DS_Store", "cat/Thumbs.db", "README", "labels.csv", "dog/new.heic", "dog/empty.png"
    )
    os.mkfifo(root / "dog/pipe.png")
    with open(os.fsencode(root / "dog") + b"/caf\xe9.png", "wb") as file:
        Image.new("RGB", (8, 8)).save(file, "png")
    caplog.set_level("INFO")
    names, files, rejected = accounted(root, tmp_path)
    assert names == taken
    assert files == {
        "used": 7,
        "rejected": 4,
        "missing": 0,
        "left_out": {
            SYSTEM: 7,
            "a picture above the class folders (`class_depth`: 1)": 1,
            "no picture (.csv)": 1,
            "no picture (no ending)": 1,
        },
    }
    assert sum(1 for _, _, found in os.walk(root) for _ in found) == 7 + 4 + 7 + 3
    assert "21 files, 7 used, 10 left out, 4 rejected" in caplog.text
    assert "left out: 1, a picture above the class folders" in caplog.text and "loose.png" in caplog.text
    said = "\n".join(rejected)
    assert "pipe.png,OSError: not a regular file" in said and r"caf\xe9.png,its name is not UTF-8" in said
    assert "new.heic,this installation reads no .heic files: convert it to PNG or JPEG" in said


def test_endings_that_are_not_taken_are_said(tmp_path):
    pictures(tmp_path / "root", "cat/0.png", "cat/1.bmp", "cat/2.BMP", "cat/3.webp")
    names, files, _ = accounted(tmp_path / "root", tmp_path, extensions=[".PNG"])
    assert names == ["cat/0.png"]
    assert files["left_out"] == {
        "a picture whose ending is not in `extensions` (.bmp)": 2,
        "a picture whose ending is not in `extensions` (.webp)": 1,
    }


@pytest.fixture
def imagenet(tmp_path) -> Path:
    root = tmp_path / "root"
    pictures(
        root, *(f"{split}/n0000000{label}/{n}.JPEG" for split in ("train", "val") for label in (1, 2) for n in (1, 2))
    )
    (tmp_path / "synsets.txt").write_text("n00000001 cat\nn00000002 dog\nn00000003 bird\n")
    return root


def entry_of(root: Path) -> dict:
    return {"kind": "imagenet", "synsets": str(root.parent / "synsets.txt")}


def test_a_loose_picture_beside_class_folders_costs_no_class(tmp_path, imagenet):
    pictures(imagenet, "val/loose.JPEG", "other/0.png")
    names, files, _ = accounted(imagenet, tmp_path, **entry_of(imagenet))
    assert len(names) == 8 and files["left_out"] == {"a picture that no list or class folder has": 2}


def test_a_split_that_is_a_link_elsewhere_is_read(tmp_path, imagenet):
    (imagenet / "val").rename(tmp_path / "validation")
    (imagenet / "val").symlink_to(tmp_path / "validation")
    assert len(accounted(imagenet, tmp_path, **entry_of(imagenet))[0]) == 8


def test_empty_class_folders_are_named(tmp_path, imagenet, caplog):
    (imagenet / "train/n00000003").mkdir()
    (imagenet / "train/.ipynb_checkpoints").mkdir()
    accounted(imagenet, tmp_path, **entry_of(imagenet))
    assert f"1 class folders of {imagenet} hold no picture: train/n00000003" in caplog.text


def test_archives_that_are_not_unpacked_are_refused(tmp_path, imagenet):
    for number in (1, 3):
        with tarfile.open(imagenet / f"train/n0000000{number}.tar", "w") as archive:
            archive.add(imagenet / "val/n00000001/1.JPEG", "0.JPEG")
    with pytest.raises(UserError, match=r"not unpacked: train/n00000003.tar\..*into a folder of its name"):
        accounted(imagenet, tmp_path, **entry_of(imagenet))
    (imagenet / "train/n00000003.tar").unlink()
    files = accounted(imagenet, tmp_path, **entry_of(imagenet))[1]
    assert files["left_out"] == {"an archive, which is not opened (.tar)": 1}


def test_an_archive_in_place_of_a_split_is_named(tmp_path, imagenet):
    (imagenet / "train").rename(tmp_path / "away")
    touch(imagenet, "ILSVRC2012_img_train.tar")
    with pytest.raises(UserError, match=r"train is not a folder \(ILSVRC2012_img_train.tar beside it: unpack\)"):
        accounted(imagenet, tmp_path, **entry_of(imagenet))


def test_what_is_there_instead_of_images_is_said(tmp_path):
    root = tmp_path / "root"
    pictures(root, "a.png", "b.png")
    with pytest.raises(UserError, match=r"no images that are used \(2: a picture above the class folders"):
        accounted(root, tmp_path)
    touch(tmp_path / "other", "cat/readme.txt")
    with pytest.raises(UserError, match=r"\(1: no picture \(\.txt\)\)"):
        accounted(tmp_path / "other", tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    pictures(tmp_path / "root", "cat/0.png", "dog/0.png")
    scan = os.scandir

    def denied(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"root/dog cannot be read \(Permission denied\)"):
        accounted(tmp_path / "root", tmp_path)
