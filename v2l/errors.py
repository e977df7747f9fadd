"""The one exception that users meet, what its messages need, and the exit status that asks for another start."""

import logging
import math
from collections.abc import Sequence

INTERRUPTED = 75  # exit status (EX_TEMPFAIL): stopped with a checkpoint, start again to go on


class UserError(Exception):
    """A problem the user can mend: what is wrong (naming the key or file), what was expected, the way out.

    Stages print it in one line, without a traceback, and exit with status 1. What a terminal would obey is escaped.
    """

    def __init__(self, problem: str, expected: str, remedy: str):
        self.problem, self.expected, self.remedy = problem, expected, remedy
        stop = "" if problem.endswith("\n") else ". "
        super().__init__(harmless(f"{problem}{stop}Expected: {expected}. What to do: {remedy}."))


def printable(name: str) -> str:
    """A file's name for a message: bytes that are not UTF-8, and characters that do not print, escaped."""
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in name)


def harmless(text: str) -> str:
    """`text`, of one line or several, with characters that do not print escaped: names cannot command a terminal."""
    return "\n".join(map(printable, text.split("\n")))


class HarmlessFormatter(logging.Formatter):
    """A log's formatter whose lines are `harmless`: names that users bring are in many of them."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # how Python writes a byte of a file name that is not UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()


def few(names: list[str]) -> str:
    """The first five of `names`, and how many more there are, for a message."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(printable, names[:5])) + more


def check_finite(what: str, step: int, losses: dict[str, float], remedy: str) -> None:
    """Raises UserError when a loss of a step of `what` (`training of v2l`) is infinite or not a number."""
    if not all(math.isfinite(value) for value in losses.values()):
        found = ", ".join(f"{key} {value:.4g}" for key, value in losses.items())
        raise UserError(f"{what} diverged at step {step} ({found})", "finite losses", remedy)


def require_each_finite(what: str, names: Sequence[object], is_finite: Sequence[bool], remedy: str) -> None:
    """Raises UserError that names the items for which `what` (`decoded pictures`) is not finite."""
    if broken := [str(name) for name, finite in zip(names, is_finite, strict=True) if not finite]:
        problem = f"{what} are not finite for {len(broken)} of {len(names)} inputs at once: {few(broken)}"
        raise UserError(problem, "finite numbers", remedy)
