"""The evaluation protocols and how a run of one is called in paths.

`paper`: the paper's text and, where it is silent, the released code. `released`: the code as it is. `held-out`: nothing
of the answer is in the input.
"""

PAPER, RELEASED, HELD_OUT = "paper", "released", "held-out"


def run_name(predictor: str, protocol: str) -> str:
    """`<predictor>` in protocol `paper`, else `<predictor>@<protocol>`; names of registry entries hold no `@`."""
    return predictor if protocol == PAPER else f"{predictor}@{protocol}"


def split_run(name: str) -> tuple[str, str]:
    """Predictor and protocol of a run's name."""
    predictor, _, protocol = name.partition("@")
    return predictor, protocol or PAPER
