"""All files below a data set's root, by each of their names."""

import os
from collections import Counter
from pathlib import Path

from v2l.errors import UserError, printable
from v2l.io.folder_walk import FolderWalk


class RootFiles:
    """What a walk through `root` finds.

    `names` maps each file's names, relative to the root, to its first one if that is another (it is a link), else to
    "". `folders` are the names of all folders. Files that the walk leaves out are counted by rule, one kept for each.
    """

    def __init__(self, root: Path):
        """Raises UserError for a folder that cannot be read."""
        self.root = root
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._walk = FolderWalk(root, self._count)
        try:
            self.names = {found.name: found.same_as for found in self._walk.files()}
        except OSError as error:
            problem = f"{printable(str(error.filename))} cannot be read ({error.strerror})"
            raise UserError(problem, "folders that may be read", "change its permissions, or move it away") from None
        self.folders = self._walk.folders

    def first_name(self, name: str) -> str:
        """The first name of a file that a walk or a list names; outside the root, or missing, its path."""
        if name in self.names:
            return self.names[name] or name
        path = os.path.join(self.root, name)
        try:
            return self._walk.first_name(path) or path
        except ValueError:  # no file can have such a name
            return path

    def _count(self, name: str, rule: str) -> None:
        self.left_out[rule] += 1
        self.examples.setdefault(rule, name)
