"""The files that a job reads and writes, by the names that its rule gives them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Outputs = dict[str, Path]


class Inputs(Mapping[str, Path]):
    """Input files by name: `inputs["tokens"]` is one path, `inputs.files("metrics")` any number of them, in order.

    A name without a file is not in it.
    """

    def __init__(self, named: Mapping[str, Path | Sequence[Path]]):
        lists = {name: [given] if isinstance(given, Path) else list(given) for name, given in named.items()}
        self._files = {name: paths for name, paths in lists.items() if paths}

    def __getitem__(self, name: str) -> Path:
        paths = self._files[name]
        if len(paths) > 1:
            raise ValueError(f"input {name!r} stands for {len(paths)} files: ask for files({name!r})")
        return paths[0]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def files(self, name: str) -> list[Path]:
        """All files of a name; none if it has none."""
        return list(self._files.get(name, ()))

    def with_files(self, named: Mapping[str, Path | Sequence[Path]]) -> "Inputs":
        """These inputs and further ones."""
        return Inputs({name: self.files(name) for name in self} | dict(named))
