"""What became of every file below a data set's root: used, left out by a rule, or rejected."""

import logging
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from v2l.configuration.dataset_entries import PICTURES
from v2l.data.layout import Layout, printable, walked

NO_PICTURE = "no picture"


def account(layout: Layout, used: Collection[str], rejected: Collection[str]) -> dict[str, int]:
    """Rule -> number, of the files below the root that are neither used nor rejected; logs all, with an example each.

    A picture that is left out is a warning.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def left_out(name: str, rule: str) -> None:
        counts[rule] += 1
        examples.setdefault(rule, name)

    known = {*used, *rejected}
    for name in walked(layout.root, left_out):
        if name in known:
            continue
        if name.lower().endswith(PICTURES):
            left_out(name, layout.why_left_out(name))
        else:
            left_out(name, f"{NO_PICTURE} ({Path(name).suffix.lower() or 'no ending'})")
    logging.info(
        "%s: %d files, %d used, %d left out, %d rejected",
        *(layout.root, len(known) + counts.total(), len(used), counts.total(), len(rejected)),
    )
    for rule, count in sorted(counts.items()):
        is_picture = not rule.startswith(NO_PICTURE) and examples[rule].lower().endswith(PICTURES)
        level = logging.WARNING if is_picture else logging.INFO
        logging.log(level, "left out: %d, %s, for example %s", count, rule, printable(examples[rule]))
    return dict(sorted(counts.items()))
