"""What a file of weights is in truth, told by its first bytes: the mistakes of downloads and of wrong names."""

import zipfile
from pathlib import Path

from v2l.errors import UserError

HEAD_BYTES = 512
TAR_MAGIC_AT = 257
POINTER = b"version https://git-lfs.github.com/spec/"
UNPACK = "an archive, which must be unpacked first"
# First bytes -> what such a file is. Pickles, safetensors and archives of torch.save begin otherwise.
BEGINNINGS = {
    POINTER: "a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned, or download it again",
    b"/annex/objects/": "a git-annex pointer, not the file itself: run `git annex get` where it was cloned",
    b"\x1f\x8b": f"compressed by gzip: {UNPACK}",
    b"BZh": f"compressed by bzip2: {UNPACK}",
    b"\xfd7zXZ\x00": f"compressed by xz: {UNPACK}",
    b"\x28\xb5\x2f\xfd": f"compressed by zstd: {UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"a 7z file: {UNPACK}",
    b"Rar!": f"a rar file: {UNPACK}",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras and TensorFlow write weights: convert it to PyTorch",
    b"\x93NUMPY": "a numpy array (.npy), not PyTorch weights",
    b"GGUF": "a GGUF file, which holds a quantised language model",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF",
}
# Beginnings of texts, in lower case, white space and a byte-order mark left out.
TEXT_BEGINNINGS = {
    b"<!doctype html": "a web page (HTML), as a download that failed or asked for a login leaves it: download it again",
    b"<html": "a web page (HTML), as a download that failed or asked for a login leaves it: download it again",
    b"<?xml": "an XML text, as a download that failed leaves it: download it again",
    b"{": "a JSON text, no weights; the answer of a server that refused the download begins so, too",
}


def kind_of(path: Path) -> str | None:
    """What the file at `path` is if it cannot be weights of PyTorch, in words with the way out; None if it may be."""
    if path.is_dir():
        return "a folder, not a file"
    size = path.stat().st_size
    if not size:
        return "empty: a download or a copy that failed"
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    for beginning, words in BEGINNINGS.items():
        if head.startswith(beginning):
            return words
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, words in TEXT_BEGINNINGS.items():
        if text.startswith(beginning):
            return words
    if not head.strip(b"\0"):
        return "zeros alone at its beginning: a download or a copy that was cut off"
    if head[TAR_MAGIC_AT:].startswith(b"ustar"):
        return f"a tar file: {UNPACK}"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.isascii() and head.decode().replace("\n", " ").replace("\r", " ").replace("\t", " ").isprintable():
        return f"a text, which begins {head[:40].decode()!r}"
    return None


def require_weights(path: Path, key: str, remedy: str) -> None:
    """Raise UserError for a file, which `key` names, that is not there, not readable or that cannot be weights."""
    try:
        kind = kind_of(path)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror})", "a file of weights", remedy) from None
    if kind:
        raise UserError(f"{key}: {path} is {kind}", "a file of weights", remedy)


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "an archive that is cut off or damaged: download or copy it again"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in members):
        return None
    if any(name.endswith(".npy") for name in members):
        return "a numpy archive (.npz), not PyTorch weights"
    return f"a zip file without PyTorch weights: {UNPACK}"
