"""Which baselines an experiment may name for a task."""

from typing import Annotated

from v2l.configuration.baselines import BASELINES
from v2l.configuration.registry import NameOf


class BaselineOf(NameOf):
    """Annotates the name of a baseline that predicts in `task`."""

    def __init__(self, task: str):
        super().__init__(BASELINES, lambda baseline: baseline.predicts and task in baseline.uses)


ClassificationBaseline = Annotated[str, BaselineOf("classification")]
RestorationBaseline = Annotated[str, BaselineOf("restoration")]
MaskedBaseline = Annotated[str, BaselineOf("masked")]
CaptioningBaseline = Annotated[str, BaselineOf("captioning")]
VQABaseline = Annotated[str, BaselineOf("vqa")]
