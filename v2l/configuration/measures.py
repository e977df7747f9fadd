"""What scores the sources of each task; a tokenizer measured on its own is a task here as well."""

from dataclasses import dataclass

from v2l.configuration.config import EvaluateLLM
from v2l.configuration.registry import Registry


@dataclass(frozen=True)
class Measure:
    """`implementation` is a function (StageConfig, Source, Inputs, `v2l.metrics.share.Share`) -> Measurements."""

    implementation: str


MEASURES: Registry[Measure] = Registry(
    "source",
    {task: Measure(section.default.measure) for task, section in EvaluateLLM.model_fields.items()}
    | {
        "semantics": Measure("v2l.metrics.semantics:measure_semantics"),
        "reconstruction": Measure("v2l.metrics.image_scores:measure_images"),
    },
)
