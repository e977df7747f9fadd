"""Configuration of `snakemake plan`; part of v2l/configuration/config.py."""

from typing import Annotated

from pydantic import Field

from v2l.configuration.entry import Entry

Machine = Annotated[str, Field(pattern=r"^[1-9][0-9]* \S+$")]


class Plan(Entry):
    """What `snakemake plan` computes the cost of the experiment for. No stage reads it."""

    machines: list[Machine] = Field(
        ["1 H100"],
        min_length=1,
        description="Number and name of the cards, `8 A100-80GB`; names are those of config/cards.yaml.",
    )
    cores_per_card: int = Field(8, ge=1, description="CPU cores for each card; they decode the pictures.")
    efficiencies: str = Field(
        "config/efficiencies.json",
        description="JSON with each stage's share of the limit, as the benchmarks write it.",
    )
