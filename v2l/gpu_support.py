"""What a GPU must have for this program: code in the installed torch, and the precisions that are asked for."""

from collections.abc import Sequence

from v2l.errors import UserError

Capability = tuple[int, int]  # compute capability, for example (8, 0)
LEAST_CAPABILITY: dict[str, Capability] = {"float32": (0, 0), "float16": (5, 3), "tf32": (8, 0), "bfloat16": (8, 0)}


def precisions_of(capability: Capability) -> list[str]:
    """The precisions that a card of this compute capability computes in."""
    return [name for name, least in LEAST_CAPABILITY.items() if capability >= least]


def require_precision(key: str, precision: str, card: str, capability: Capability) -> None:
    """Raise UserError if the card does not compute in the precision that `key` asks for."""
    if precision not in precisions_of(capability):
        raise UserError(
            f"`{key}` is {precision}, which {card} (compute capability {_text(capability)}) does not compute in",
            f"one of {', '.join(precisions_of(capability))}",
            "change the key, or run on a newer card",
        )


def require_code(architectures: Sequence[str], card: str, capability: Capability) -> None:
    """Raise UserError if torch, built for `architectures` (`sm_75`, `compute_90`), has no code that the card runs.

    Machine code runs on cards of its own generation from its own step on, `compute_` code on every later card.
    """
    compiled = [_capability(name) for name in architectures if name.startswith("sm_")]
    portable = [_capability(name) for name in architectures if name.startswith("compute_")]
    runs = any(code[0] == capability[0] and code <= capability for code in compiled)
    if not runs and not any(code <= capability for code in portable):
        raise UserError(
            f"the installed torch has no code for {card} (compute capability {_text(capability)})",
            f"a card of compute capability {', '.join(_text(code) for code in sorted(compiled))}",
            "for older cards install requirements-volta.lock instead (docs/cluster.md), for newer ones a newer torch",
        )


def _capability(architecture: str) -> Capability:
    number = architecture.partition("_")[2].rstrip("af")
    return int(number[:-1]), int(number[-1])


def _text(capability: Capability) -> str:
    return ".".join(map(str, capability))
