"""config/defaults.yaml: every key with its default, what it means and where the paper or its code has another value.

Keys stand in the order of the classes. Those without a default are comments, and so are the entries of registries: one
example of each class.
"""

import textwrap
from collections.abc import Iterator
from typing import Any, Literal, TypeGuard, get_args, get_origin

import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from v2l.configuration.config import Config
from v2l.configuration.deviations import deviations
from v2l.configuration.entry import Entry
from v2l.configuration.registry import EntryOf, NameOf
from v2l.configuration.slices import value_kind

WIDTH = 120
HEAD = (
    "Every key that an experiment can set, with its default. Written by `python -m v2l.configuration.documents`: do "
    "not edit it; set what you want otherwise in config/experiments/<name>.yaml or config/config.yaml.",
    "`paper` and `released` (the authors' code): what these have, where it is known and not our default; "
    "docs/deviations.md gives the reasons. Keys without a default and entries of registries stand as comments.",
)


def defaults_text() -> str:
    """The text of config/defaults.yaml."""
    lines = [line for paragraph in HEAD for line in _comment(paragraph, "")]
    return "\n".join([*lines, *_section(Config, "", "", deviations())]) + "\n"


def description(field: FieldInfo) -> str:
    """What a key means; of a section, what its class says."""
    return _documentation(field.annotation) if _is_section(field.annotation) else field.description or ""


def _section(model: type[Entry], path: str, margin: str, said: dict[str, dict[str, str]]) -> Iterator[str]:
    """Lines of all keys of a class that stands at `path` (with a dot behind it), each behind `margin`."""
    was_section: bool | None = None
    for key, field in model.model_fields.items():
        kind = field.annotation
        if not path or was_section or (_is_section(kind) and was_section is not None):
            yield ""
        was_section = _is_section(kind)
        yield from _comment(description(field), margin)
        for who, text in said.get(path + key, {}).items():
            yield from _comment(f"{who}: {text}", margin)
        if _is_section(kind):
            yield f"{margin}{key}:"
            yield from _section(kind, f"{path}{key}.", f"{margin}  ", said)
        else:
            yield from _key(key, field, margin)


def _key(key: str, field: FieldInfo, margin: str) -> Iterator[str]:
    """Lines of a key that is no section, without its description."""
    kind, within = field.annotation, f"{margin}#   "
    if not field.is_required():
        if get_origin(kind) is list and _is_section(get_args(kind)[0]):
            yield f"{margin}# Keys of each:"
            yield from _example(get_args(kind)[0], within)
        yield from _value(key, TypeAdapter(Any).dump_python(field.default, mode="json"), margin)
    elif get_origin(kind) is Literal:
        yield from _value(key, get_args(kind)[0], margin)
    elif examples := _examples(kind):
        yield f"{margin}# {key}:"
        for name, model in examples.items():
            yield from _comment(_documentation(model), within)
            yield f"{within}{name}:"
            yield from _example(model, f"{within}  ")
    else:
        yield f"{margin}# {key}: required"


def _example(model: type[Entry], margin: str) -> Iterator[str]:
    """Lines of an entry of a class."""
    for key, field in model.model_fields.items():
        yield from _comment(description(field), margin)
        yield from _key(key, field, margin)


def _examples(kind: Any) -> dict[str, type[Entry]]:
    """A class for each way to write an entry of a mapping of type `kind`, by a name that it may have."""
    item = value_kind(kind)
    if _is_section(item):
        names = [mark.names[0] for mark in get_args(get_args(kind)[0]) if isinstance(mark, NameOf)]
        return {(names or ["name"])[0]: item}
    registries = [mark.registry for mark in get_args(item) if isinstance(mark, EntryOf)]
    entries = [pair for registry in registries for pair in registry.items()]
    first = {model: name for name, model in reversed(entries)}
    return {name: model for name, model in entries if first[model] == name}


def _value(key: str, value: Any, margin: str) -> Iterator[str]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield f"{margin}{key}:"
        yield from (f"{margin}  - {_flow(item)}" for item in value)
    else:
        yield f"{margin}{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    style = '"' if isinstance(value, str) and "\n" in value else None
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").removesuffix("\n")


def _comment(text: str, margin: str) -> list[str]:
    start = f"{margin}# "
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _documentation(model: Any) -> str:
    return " ".join((model.__doc__ or "").split())


def _is_section(kind: Any) -> TypeGuard[type[Entry]]:
    return isinstance(kind, type) and issubclass(kind, Entry)
