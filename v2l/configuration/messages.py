"""What is wrong with a key of a configuration, in one sentence."""

from typing import Any

from v2l.configuration.documents import schema
from v2l.configuration.registry import nearest


def describe(item: Any, data: dict[str, Any], root: str = "Config", prefix: str = "") -> str:
    """The sentence of a pydantic error in `data`, whose class is `root`; `prefix` stands before the key's path."""
    *place, last = item["loc"]
    path = prefix + ".".join(str(step) for step in item["loc"] if step != "[key]")
    if item["type"] == "extra_forbidden":
        return f"`{path}`: unknown key; {nearest(str(last), _known_keys(place, data, root))}"
    if item["type"] == "missing":
        return f"`{path}`: missing; this key has no default"
    got = item["input"]
    if tag := item.get("ctx", {}).get("tag"):
        path, got = f"{path}.{tag}", got.get(tag)
    return f"`{path}`: {item['msg']}" + ("" if isinstance(got, dict) else f", got {got!r}")


def _known_keys(place: list[str | int], data: Any, root: str) -> list[str]:
    """Keys of the config class that stands at `place` of `data`, whose own class is `root`."""
    whole = schema()
    classes = whole["$defs"] | {"Config": whole}
    node: dict[str, Any] = classes[root]

    def resolved(node: dict[str, Any], value: Any) -> dict[str, Any]:
        if tag := node.get("discriminator"):
            node = {"$ref": tag["mapping"].get(value.get(tag["propertyName"]), "")}
        reference = node.get("$ref", "").rsplit("/", 1)[-1]
        return classes.get(reference, {}) if reference else node

    for step in place:
        value = data[step] if step in data or isinstance(step, int) else {}
        properties = node.get("properties", {})
        node = resolved(properties.get(step) or node.get("additionalProperties") or node.get("items") or {}, value)
        data = value
    return list(node.get("properties", {}))
