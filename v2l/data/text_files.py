"""Text that users bring: files in UTF-8 or with a byte-order mark, and the one form in which texts are compared."""

import codecs
import re
import unicodedata
from pathlib import Path, PurePosixPath

from v2l.errors import UserError, printable

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
LINE_END = re.compile(r"\r\n|\r|\n")


def normal_form(text: str) -> str:
    """`text` in Unicode's form NFC, in which models write; macOS gives names in form NFD."""
    return unicodedata.normalize("NFC", text)


def one_line(text: str) -> str:
    """`text` in normal form, its white space (line ends too) single spaces, none at the ends."""
    return " ".join(normal_form(text).split())


def read_text(path: Path, what: str, remedy: str = "correct its path in the config") -> str:
    """The text of a file, line ends as "\\n".

    UTF-8, or what its byte-order mark says (UTF-16). Raises UserError, calling the file `what`, if it cannot be read
    or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", what, remedy) from None
    mark, encoding = next((item for item in MARKS.items() if content.startswith(item[0])), (b"", "utf-8"))
    try:
        text = content[len(mark) :].decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", error.object[: error.start])) + 1
        found = f"byte 0x{error.object[error.start]:02x} is no {encoding.upper()}"
        raise _other_encoding(path, line, found, what) from None
    if "\0" in text:
        line = len(LINE_END.findall(text[: text.index("\0")])) + 1
        raise _other_encoding(path, line, "it holds a zero byte (UTF-16 without a byte-order mark?)", what)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def path_below(source: Path, name: str) -> str:
    """`name`, a picture's in the list `source`. Raises UserError if it leads out of the folder that it is below."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name or not parts.parts:
        raise UserError(
            f"{source} lists the picture {printable(name)!r}",
            "pictures below the data set's folder",
            "use the original list, or mend the entry",
        )
    return name


def _other_encoding(path: Path, line: int, found: str, what: str) -> UserError:
    remedy = f"save it as UTF-8 (if it is in Latin-1: iconv -f LATIN1 -t UTF-8 {path.name})"
    return UserError(f"{path}, line {line}: {found}", f"{what}, in UTF-8", remedy)
