"""What an experiment may name: the package's own things, and what its extension modules add to them.

A thing is declared by a light object or class whose `implementation` says where its code is (`module:name`), so that
naming a thing imports nothing heavy, and a job depends on the code of the things that it uses and of no others.
"""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from v2l.errors import UserError


class Declared(Protocol):
    """What says where its code is: an object, or a class with the same attribute."""

    @property
    def implementation(self) -> str: ...  # module:name


T = TypeVar("T")


def implementation_of(declared: Declared) -> Any:
    """The class or function that a declared thing names, imported now."""
    module, _, name = declared.implementation.partition(":")
    return getattr(importlib.import_module(module), name)


def nearest(name: str, known: list[str]) -> str:
    """What a user who wrote `name` may have meant, as the end of a message."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known) or 'none'}"


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name, in the order in which tables show them; extensions come last.

    `kind` is what messages call them. Implementations that extensions add must be of class `base` (`module:Class`).
    """

    def __init__(self, kind: str, things: Mapping[str, T], base: str = ""):
        self.kind, self.base = kind, base
        self._things = dict(things)
        self._added: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Let experiments name a further thing. Raises UserError for a name that is taken."""
        if self._things.get(name, thing) is not thing:
            raise UserError(f"{self.kind} {name!r} is added twice", "a new name", "rename the one of the extension")
        self._things[name] = self._added[name] = thing

    def __getitem__(self, name: str) -> T:
        """The thing of a name. Raises UserError with the nearest known name."""
        if name not in self._things:
            problem = f"{self.kind} {name!r} is not known; {nearest(name, list(self))}"
            raise UserError(problem, f"one of {', '.join(self)}", "correct the name")
        return self._things[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The thing of a name, or `default`."""
        return self._things.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self._things

    @property
    def added(self) -> dict[str, T]:
        """What extensions added."""
        return dict(self._added)


@dataclass(frozen=True)
class NameOf:
    """Annotates a text that must name a thing of `registry`, of those that `among` lets through."""

    registry: Registry
    among: Callable[[Any], bool] = lambda thing: True
    further: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [*self.further, *(name for name, thing in self.registry.items() if self.among(thing))]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": self.names}

    def _known(self, name: str) -> str:
        if name not in self.names:
            facts = {"kind": self.registry.kind, "hint": nearest(name, self.names)}
            raise PydanticCustomError("unknown_name", "unknown {kind}; {hint}", facts)
        return name


@dataclass(frozen=True)
class EntryOf:
    """Annotates an entry whose class is the one that `registry` holds for its field `tag`."""

    registry: Registry
    tag: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        dumped = core_schema.plain_serializer_function_ser_schema(
            lambda entry, info: entry.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(self._validated, serialization=dumped)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        mapping = {name: f"#/$defs/{thing.__name__}" for name, thing in self.registry.items()}
        places = [{"$ref": place} for place in dict.fromkeys(mapping.values())]
        return {"oneOf": places, "discriminator": {"propertyName": self.tag, "mapping": mapping}}

    def _validated(self, value: Any) -> Any:
        if isinstance(value, tuple(self.registry.values())):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("entry_type", "a mapping of keys is expected")
        name = str(value.get(self.tag, ""))
        if name not in self.registry:
            facts = {"tag": self.tag, "kind": self.registry.kind, "hint": nearest(name, list(self.registry))}
            raise PydanticCustomError("unknown_name", "unknown {kind}; {hint}", facts)
        return self.registry[name].model_validate(value)
