"""What every configuration class is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]  # a text with exactly one {}


class Entry(BaseModel):
    """Base of every config class: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
