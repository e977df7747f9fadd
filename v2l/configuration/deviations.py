"""What the paper and the released code say of a key: the table of docs/deviations.md, its only source."""

import re
from pathlib import Path

PAGE = Path("docs/deviations.md")
ROW = re.compile(r"^\| `([a-z_.]+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", flags=re.MULTILINE)
UNKNOWN = re.compile(r"not |no |-$")  # how a cell begins that has no value: not found, not released, no code, -
SAME = {"paper": "as the paper", "released": "as released"}  # how our cell may begin instead of repeating one


def deviations(page: Path = PAGE) -> dict[str, dict[str, str]]:
    """Dotted key -> what `paper` and `released` have, as far as it is known and not what our cell begins with."""
    found: dict[str, dict[str, str]] = {}
    for key, paper, released, ours in ROW.findall(page.read_text()):
        default = ours.partition(";")[0]
        said = {"paper": paper, "released": released}
        differing = {
            who: text
            for who, text in said.items()
            if not UNKNOWN.match(text) and text != default and not default.startswith(SAME[who])
        }
        found.setdefault(key, differing)
    return found
