"""Ways in which a file goes bad on a disk, each drawn from a seeded generator."""

import random
from collections.abc import Callable
from pathlib import Path


def flip(content: bytes, draw: random.Random) -> bytes:
    """One bit turned over, anywhere."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def flip_near_an_end(content: bytes, draw: random.Random) -> bytes:
    """One bit turned over among the first or last hundred bytes, where formats keep what they are."""
    edge = min(100, len(content))
    place = draw.choice([*range(edge), *range(len(content) - edge, len(content))])
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def truncate(content: bytes, draw: random.Random) -> bytes:
    """The beginning alone."""
    return content[: draw.randrange(1, len(content))]


def empty(content: bytes, draw: random.Random) -> bytes:
    """Nothing."""
    return b""


def zero(content: bytes, draw: random.Random) -> bytes:
    """As long as before, of zeros: what a journaling file system leaves after a loss of power."""
    return bytes(len(content))


def zero_a_block(content: bytes, draw: random.Random) -> bytes:
    """Up to 512 zeros somewhere."""
    begin = draw.randrange(len(content))
    end = min(begin + 512, len(content))
    return content[:begin] + bytes(end - begin) + content[end:]


def strange(content: bytes, draw: random.Random) -> bytes:
    """Other bytes altogether."""
    return draw.randbytes(len(content))


def overwritten(content: bytes, draw: random.Random) -> bytes:
    """The file and something after it."""
    return content + draw.randbytes(draw.randrange(1, 64))


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    damage.__name__: damage
    for damage in (flip, flip_near_an_end, truncate, empty, zero, zero_a_block, strange, overwritten)
}


def damaged(path: Path, kind: str, seed: str) -> bool:
    """Damage the file at `path` in the given way; False if that leaves it as it was."""
    content = path.read_bytes()
    if not content:
        return False
    bad = DAMAGES[kind](content, random.Random(seed))
    path.unlink()  # a link to the same file is left alone
    path.write_bytes(bad)
    return bad != content
