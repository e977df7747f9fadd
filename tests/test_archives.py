"""Archives from anywhere: what is taken out of them, and what a hostile one cannot do."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2l.assets import bounded_archives
from v2l.assets.archives import unpack
from v2l.errors import UserError


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


FORMS = {
    "zip": zipped,
    "deflated zip": lambda members: zipped(members, zipfile.ZIP_DEFLATED),
    "tar": tarred,
    "tar.gz": lambda members: gzip.compress(tarred(members)),
    "tar.bz2": lambda members: bz2.compress(tarred(members)),
    "tar.xz": lambda members: lzma.compress(tarred(members)),
}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "archive"
    path.write_bytes(content)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_files(tmp_path, form):
    members = {"top/a.txt": b"a" * 3000, "top/b/c.bin": bytes(range(256)), "other": b"o"}
    unpack(written(tmp_path, FORMS[form](members)), "top", ["a*", "b/*"], tmp_path / "target")
    assert content(tmp_path / "target") == {"a.txt": b"a" * 3000, "b/c.bin": bytes(range(256))}


@pytest.mark.parametrize("name", ["../evil", "/evil", "good/../../evil"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name, form):
    source = tmp_path / f"archive.{form}"
    if form == "zip":
        source.write_bytes(zipped({"good/a": b"a", name: b"evil"}))
    else:
        with tarfile.open(source, "w") as tar:
            for path in ("good/a", name):
                tar.addfile(tarfile.TarInfo(path))
    with pytest.raises(UserError, match="it holds the path"):
        unpack(source, "", ["*"], tmp_path / "target")
    assert not list(tmp_path.rglob("evil"))


def test_links_are_left_out(tmp_path):
    source = tmp_path / "archive.tar"
    with tarfile.open(source, "w") as tar:
        tar.addfile(tarfile.TarInfo("a/file"))
        link = tarfile.TarInfo("a/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    unpack(source, "a", ["*"], tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["file"]


def test_unusable_archives_are_named(tmp_path):
    source = tmp_path / "archive.zip"
    source.write_bytes(b"no archive")
    with pytest.raises(UserError, match="archive.zip cannot be unpacked"):
        unpack(source, "", ["*"], tmp_path / "target")
    source.write_bytes(zipped({"a/b.txt": b""}))
    with pytest.raises(UserError, match=r"nothing matches \['\*\.bin'\]"):
        unpack(source, "a", ["*.txt", "*.bin"], tmp_path / "target")


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(bounded_archives, "FREE_BYTES", 1 << 16)
    monkeypatch.setattr(bounded_archives, "LARGEST_READ", 1 << 20)
    monkeypatch.setattr(bounded_archives, "MOST_MEMBERS", 50)


@pytest.mark.parametrize("form", ["deflated zip", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("members", [["bomb"], ["small"]], ids=["taken", "passed over"])
def test_bombs_stop_at_the_bound(tmp_path, narrow, form, members):
    source = written(tmp_path, FORMS[form]({"bomb": bytes(1 << 22), "small": b"s"}))
    most = max(1 << 16, 200 * source.stat().st_size)
    if form == "deflated zip" and members == ["small"]:
        return unpack(source, "", members, tmp_path / "target")  # a zip's other members are never decompressed
    with pytest.raises(UserError, match=f"unpack to more than {most:,}.*at most 200 times its size"):
        unpack(source, "", members, tmp_path / "target")
    assert sum(map(len, content(tmp_path / "target").values())) <= most


def test_overlapping_members_count_each_time(tmp_path, narrow):
    """The zip bomb that needs no nesting: many names for one compressed block."""
    data = bytearray(zipped({f"{number:02}": bytes(1 << 14) for number in range(40)}, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        first, *others = archive.infolist()
    directory = data.index(b"PK\x01\x02")
    place = directory
    for _ in [first, *others]:
        data[place + 42 : place + 46] = first.header_offset.to_bytes(4, "little")
        data[place + 46 : place + 48] = b"00"
        place = data.index(b"PK", place + 4)
    bomb = written(tmp_path, bytes(data))
    unpack(bomb, "", ["*"], tmp_path / "target")  # one name is one file, once
    assert content(tmp_path / "target") == {"00": bytes(1 << 14)}


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_too_many_members_are_refused(tmp_path, narrow, form):
    source = written(tmp_path, FORMS[form]({f"{number}": b"" for number in range(51)}))
    with pytest.raises(UserError, match="more than 50 members.*fewer, larger files"):
        unpack(source, "", ["*"], tmp_path / "target")


def test_a_long_tar_header_does_not_fill_the_memory(tmp_path, narrow):
    item = tarfile.TarInfo("@LongLink")
    item.type, item.size = tarfile.GNUTYPE_LONGNAME, 1 << 22
    source = written(tmp_path, gzip.compress(item.tobuf() + bytes(1 << 22)))
    with pytest.raises(UserError, match="one of its headers says that it has 4,19"):
        unpack(source, "", ["*"], tmp_path / "target")


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
def test_only_regular_files_come_out(tmp_path, kind):
    """Also not a file that would be written through a link of the same archive."""
    (tmp_path / "outside").mkdir()
    with tarfile.open(tmp_path / "archive", "w") as archive:
        item = tarfile.TarInfo("folder")
        item.type, item.linkname = getattr(tarfile, kind), str(tmp_path / "outside")
        archive.addfile(item)
        archive.addfile(tarfile.TarInfo("folder/file"))
    unpack(tmp_path / "archive", "", ["*"], tmp_path / "target")
    assert content(tmp_path / "target") == {"folder/file": b""} and not list((tmp_path / "outside").iterdir())


def test_links_of_a_zip_are_texts_and_modes_are_not_taken_over(tmp_path):
    link, program = zipfile.ZipInfo("link"), zipfile.ZipInfo("program")
    link.external_attr, program.external_attr = (stat.S_IFLNK | 0o777) << 16, (stat.S_IFREG | 0o4777) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr(program, "")
    unpack(tmp_path / "archive", "", ["*"], tmp_path / "target")
    assert not (tmp_path / "target" / "link").is_symlink()
    assert not os.access(tmp_path / "target" / "program", os.X_OK)


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("name", ["line\nfeed", "\x1b]0;title\x07", "bell\x07"])
def test_names_with_control_characters_are_refused_and_shown_escaped(tmp_path, form, name):
    with pytest.raises(UserError, match="names in UTF-8 without control characters") as caught:
        unpack(written(tmp_path, FORMS[form]({name: b""})), "", ["*"], tmp_path / "target")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b", "a"], ["n" * 300]])
def test_names_that_no_folder_can_hold_are_named(tmp_path, form, names):
    with pytest.raises(UserError, match="cannot be unpacked.*whose names fit into a folder"):
        unpack(written(tmp_path, FORMS[form](dict.fromkeys(names, b""))), "", ["*"], tmp_path / "target")


def test_an_encrypted_zip_is_named(tmp_path):
    data = bytearray(zipped({"a": b"a"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    with pytest.raises(UserError, match="cannot be unpacked.*encrypted"):
        unpack(written(tmp_path, bytes(data)), "", ["*"], tmp_path / "target")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_its_files_or_a_named_error(tmp_path_factory, form, data):
    folder = tmp_path_factory.mktemp("damaged")
    archive = bytearray(FORMS[form]({"a": b"a" * 50, "b/c": bytes(700)}))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(archive)))
    try:
        unpack(
            written(folder, bytes(archive[:cut] if data.draw(st.booleans()) else archive)), "", ["*"], folder / "out"
        )
    except UserError as error:
        assert str(error).isprintable()
    assert {path.name for path in folder.iterdir()} <= {"archive", "out"}
