"""The part of the configuration that one job gets: what its rule passes, as canonical JSON, and nothing else.

A stage that reads a key which its rule did not pass fails at once, so the rerun triggers can be trusted.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import TypeAdapter

from v2l.configuration.config import Config
from v2l.configuration.entry import SELECTION, Entry, Mark, NeededWith
from v2l.configuration.registry import EntryOf
from v2l.io.canonical import canonical_json

REGISTRIES = ("llms", "encoders", "datasets", "samples", "tokenizers")


if TYPE_CHECKING:
    Sections = Config
else:
    Sections = object


class StageConfig(Sections):
    """A typed slice of `Config` plus `job`, the rule's wildcards (for example the tokenizer's name).

    Attributes are the `Config` fields that `data` holds (`config.seed`, `config.expand_vocabulary`,
    `config.llms["name"]`), and these hold no key that `data` does not; `stage` is the stage's name and `data` the plain
    JSON value. `machine` holds what a profile says of the machine (shards, device map): it decides no result and is in
    no record. `code` names the modules that the job runs, of which its record says what they do.
    """

    def __init__(
        self, stage: str, data: dict[str, Any], machine: dict[str, str] | None = None, code: Sequence[str] = ()
    ):
        self.stage, self.data, self.machine, self.code = stage, data, machine or {}, tuple(code)
        self.job: dict[str, str] = data.get("job", {})
        self._config = closed(Config, {key: value for key, value in data.items() if key != "job"})

    def __getattr__(self, name: str) -> Any:
        if name in Config.model_fields and name not in self.data:
            raise AttributeError(f"stage {self.stage} has no config section {name!r}: add it to the rule's params")
        return getattr(self._config, name)

    @property
    def text(self) -> str:
        """Canonical JSON of the slice."""
        return canonical_json(self.data)


def closed(model: type[Entry], data: dict[str, Any]) -> Any:
    """An object of `model` that has the keys of `data` and no others, not even those with a default."""
    values: dict[str, Any] = {}
    for key, value in data.items():
        field = model.model_fields[key]
        kind: Any = field.annotation
        if found := entry_class(kind, value):
            values[key] = closed(found, value)
        elif isinstance(value, dict) and any(entry_class(value_kind(kind), item) for item in value.values()):
            classes = {name: entry_class(value_kind(kind), item) for name, item in value.items()}
            values[key] = {name: closed(found, value[name]) for name, found in classes.items() if found}
        else:
            values[key] = TypeAdapter(Annotated[kind, *field.metadata, None]).validate_python(value)
    made = model.model_construct(**values)
    for key in set(model.model_fields) - set(values):
        made.__dict__.pop(key, None)
    return made


def entry_class(kind: Any, value: Any) -> type[Entry] | None:
    """The class of a configured `value` of type `kind`, if that is a section or an entry."""
    if not isinstance(value, dict):
        return None
    if isinstance(kind, type) and issubclass(kind, Entry):
        return kind
    marks = [mark for mark in get_args(kind) if isinstance(mark, EntryOf)]
    return marks[0].registry[value[marks[0].tag]] if marks else None


def value_kind(kind: Any) -> Any:
    """The type of a mapping's values; None for other types."""
    return get_args(kind)[1] if get_origin(kind) is dict else None


def project(config: Config, keys: list[str], job: dict[str, str] | None = None) -> dict[str, Any]:
    """The slice of `config` under dotted `keys` (`seed`, `train_tokenizer`, `llms.<name>`) with `job`.

    Selections (which models and variants an experiment runs) are left out: a further one must not rerun the others.
    """
    data: dict[str, Any] = {"job": job} if job else {}
    for key in keys:
        *parents, last = key.split(".", 1) if key.split(".")[0] in REGISTRIES else key.split(".")
        source: Any = config
        target = data
        for parent in parents:
            source, target = _step(source, parent), target.setdefault(parent, {})
        target[last] = _plain(_step(source, last))
    return data


def _step(value: Any, key: str) -> Any:
    return value[key] if isinstance(value, dict) else getattr(value, key)


def _plain(value: Any) -> Any:
    """The JSON value of a part of the configuration, without selections."""
    if isinstance(value, Entry):
        return without(SELECTION, type(value), value.model_dump(mode="json"))
    return TypeAdapter(Any).dump_python(value, mode="json")


def marked(mark: Mark, model: type[Entry], data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every key that bears `mark`, in the JSON value of a `model` or a part of it.

    A key that is marked as needed with others counts only where these are set.
    """
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None:
            continue
        conditions = [note.key for note in field.metadata if isinstance(note, NeededWith)]
        if mark in field.metadata and value and all(data.get(condition) for condition in conditions):
            yield prefix + key, value
        if isinstance(value, dict):
            if found := entry_class(field.annotation, value):
                yield from marked(mark, found, value, f"{prefix}{key}.")
            for name, item in value.items():
                if found := entry_class(value_kind(field.annotation), item):
                    yield from marked(mark, found, item, f"{prefix}{key}.{name}.")


def without(mark: Mark, model: type[Entry], data: dict[str, Any]) -> dict[str, Any]:
    """The JSON value of a `model` or a part of it, without the keys that bear `mark`."""
    kept = {}
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field and mark in field.metadata:
            continue
        section = entry_class(field.annotation, value) if field else None
        kept[key] = without(mark, section, value) if section else value
    return kept
