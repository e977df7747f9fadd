"""What every configuration class is made of."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Mark:
    """Says something about a key that the key's type does not."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return f"Mark({self.text})"


class NeededWith(Mark):
    """A file that a job reads only where key `key` beside it is set."""

    def __init__(self, key: str):
        super().__init__(f"needed with {key}")
        self.key = key


USER_FILE = Mark("a file or folder that must be there before a job reads it")
SELECTION = Mark("which things an experiment runs: a further one must not rerun the others, so no job gets it")
PRECISION = Mark("what a network computes in (v2l.precision), which a GPU may lack")
WATCHES = Mark("whether or how fast a run goes on, and nothing of its result: a checkpoint does not depend on it")

# Of the command line, where Snakemake leaves the numbers of a list as text.
NUMBER = BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value)

UserFile = Annotated[str, USER_FILE]
OptionalUserFile = Annotated[str | None, USER_FILE]
Precision = Annotated[Literal["float32", "tf32", "bfloat16", "float16"], PRECISION]
OptionalPrecision = Annotated[Literal["float32", "tf32", "bfloat16", "float16"] | None, PRECISION]
TrainedPrecision = Annotated[Literal["float32", "tf32", "bfloat16"], PRECISION]  # small gradients are 0 in float16
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]  # a text with exactly one {}


class Entry(BaseModel):
    """Base of every config class: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise AttributeError(f"key `{name}` of {type(self).__name__} was not passed to this job by its rule")
            return super().__getattr__(name)
