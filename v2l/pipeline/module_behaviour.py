"""What a module of this package does, as hashes that comments, docstrings, formatting and names of modules leave alone.

Summaries of modules are kept in `CACHE`, so that neither a dry run nor a job parses the whole package again.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.canonical import canonical_json

PACKAGE = Path(__file__).parents[1]
CACHE = Path("work/code_digests.json")
PYTHON = list(sys.version_info[:2])  # whose grammar the hashed text is written in


class Import(NamedTuple):
    """A name that a module imports from this package: `from module import name as known_as`; no name: `import`."""

    module: str
    name: str
    known_as: str

    @property
    def files(self) -> list[Path]:
        """The files that it executes: of the module, and of `name` if that is a module too."""
        names = [self.module, f"{self.module}.{self.name}"] if self.name else [self.module]
        return [path for path in map(file_of, names) if path]


class Behaviour(NamedTuple):
    """A module's SHA-256 without texts and imports of this package, and these imports."""

    digest: str
    imports: tuple[Import, ...]


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of this package; None for others, and for names that are no modules."""
    head, *parts = module.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


def behaviour(path: Path) -> Behaviour:
    """The behaviour of the module at `path`, read again only if its size or a time has changed."""
    status = path.stat()
    return _known(path, (status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def behaviour_of(source: str) -> Behaviour:
    """The behaviour of a module's source text. Raises SyntaxError."""
    tree, stripped = ast.parse(source), _Stripped()
    text = ast.unparse(stripped.visit(tree))
    return Behaviour(hashlib.sha256(text.encode()).hexdigest(), tuple(sorted(stripped.imports)))


class _Stripped(ast.NodeTransformer):
    """Takes texts that stand alone out of a tree, for they change nothing, and imports of this package, kept aside."""

    def __init__(self) -> None:
        self.imports: list[Import] = []

    def visit(self, node: ast.AST) -> Any:
        found = super().visit(node)
        if getattr(found, "body", None) == []:
            found.body = [ast.Pass()]
        return found

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.level or not _is_own(node.module or ""):
            return node
        self.imports += [Import(node.module or "", alias.name, alias.asname or alias.name) for alias in node.names]
        return None

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        own = [alias for alias in node.names if _is_own(alias.name)]
        self.imports += [Import(alias.name, "", alias.asname or alias.name) for alias in own]
        node.names = [alias for alias in node.names if alias not in own]
        return node if node.names else None


def _is_own(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name


State = tuple[int, int, int]


@cache
def _known(path: Path, state: State) -> Behaviour:
    kept = _kept().get(str(path))
    if kept and kept[0] == [*PYTHON, *state]:
        return Behaviour(kept[1], tuple(Import(*names) for names in kept[2]))
    found = behaviour_of(path.read_text())
    _kept()[str(path)] = ([*PYTHON, *state], found.digest, found.imports)
    _unsaved.add(path)
    return found


_unsaved: set[Path] = set()


@cache
def _kept() -> dict[str, Any]:
    """The summaries of `CACHE` by path; none from a file that is missing or damaged."""
    try:
        return TypeAdapter(dict[str, tuple[list[int], str, list[Import]]]).validate_json(CACHE.read_bytes())
    except (OSError, ValidationError):
        return {}


def keep_behaviours() -> None:
    """Write what was read anew to `CACHE`; on a full or read-only disk only time is lost."""
    if _unsaved:
        try:
            with atomic_path(CACHE) as temporary:
                temporary.write_text(canonical_json(_kept()))
            _unsaved.clear()
        except (OSError, UserError):  # what a disk refuses
            pass
