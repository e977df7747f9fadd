"""What became of every file below a data set's root: used, left out by a rule, or rejected."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from v2l.data.layout import NO_PICTURE, Layout
from v2l.errors import printable
from v2l.io.folder_walk import SYSTEM

OTHER_NAME = "another name (a link) of a picture that is listed"
EXPECTED = (SYSTEM, NO_PICTURE)  # rules that call for no warning


def account(layout: Layout, used: Collection[str], rejected: Collection[str]) -> dict[str, Any]:
    """Numbers of files `used`, `rejected`, `left_out` by rule (a dict), and those `missing` that a list names.

    Logs them, with an example of each rule. Used, left out and rejected files are all that lie below the root.
    """
    files = layout.files
    counts, examples = Counter(files.left_out), dict(files.examples)
    listed = {*used, *rejected}
    first_names = set(map(files.first_name, listed))
    for name in files.names:
        if name not in listed:
            rule = OTHER_NAME if files.first_name(name) in first_names else layout.rule_of(name)
            counts[rule] += 1
            examples.setdefault(rule, name)
    missing = sum(not os.path.exists(layout.root / name) for name in rejected)
    there = len(rejected) - missing
    logging.info(
        "%s: %d files, %d used, %d left out, %d rejected%s",
        *(layout.root, len(used) + counts.total() + there, len(used), counts.total(), there),
        f"; {missing} more are listed and not there" if missing else "",
    )
    _log_rules(sorted(counts.items()), examples)
    return {"used": len(used), "rejected": there, "missing": missing, "left_out": dict(sorted(counts.items()))}


def _log_rules(counts: Iterable[tuple[str, int]], examples: dict[str, str]) -> None:
    for rule, count in counts:
        level = logging.INFO if rule.startswith(EXPECTED) else logging.WARNING
        logging.log(level, "left out: %d, %s, for example %s", count, rule, printable(examples[rule]))
