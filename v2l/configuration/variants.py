"""What a tokenizer variant of the registry makes of section `train_tokenizer`, and whether the two go together."""

from v2l.configuration.tokenizer_entries import SPAEEntry, TokenizerEntry
from v2l.configuration.tokenizer_training import Network, TrainTokenizer

CLASS_KEYS = ("kind", "method")  # of a registry entry: its value decides the other keys


def merge(base: dict, override: dict) -> dict:
    """`base` with the keys of `override`: mappings merge key by key, everything else is replaced.

    So is a registry entry whose kind or method `override` changes, for it has other keys.
    """
    merged = dict(base)
    for key, value in override.items():
        known = merged.get(key)
        if isinstance(value, dict) and isinstance(known, dict) and not _other_class(known, value):
            merged[key] = merge(known, value)
        else:
            merged[key] = value
    return merged


def _other_class(known: dict, value: dict) -> bool:
    return any(key in known and key in value and known[key] != value[key] for key in CLASS_KEYS)


def variant_settings(section: TrainTokenizer, entry: TokenizerEntry) -> TrainTokenizer:
    """`section` as the variant `entry` of the registry changes it. Raises pydantic's ValidationError."""
    return TrainTokenizer.model_validate(merge(section.model_dump(), entry.train_tokenizer))


def map_side(network: Network) -> int:
    """Side of the token map that a convolutional tokenizer with this network makes of an image."""
    return network.image_size // 2 ** (len(network.channel_multipliers) - 1)


def pyramid_problem(entry: SPAEEntry, grid: int) -> str | None:
    """What `entry.pyramid` should be on a token map of side `grid` and is not; None if it fits."""
    if entry.pyramid[-1] != grid:
        return f"the last side must be that of the token map, {grid}"
    if entry.pyramid != sorted(entry.pyramid):
        return "sides must ascend"
    if uneven := [side for side in entry.pyramid if grid % side]:
        return f"every side must divide that of the token map, {grid}; {uneven[0]} does not"
    if entry.semantic_layers >= len(entry.pyramid):
        return f"it must have more sides than `semantic_layers` = {entry.semantic_layers}, the last has no guidance"
    return None
