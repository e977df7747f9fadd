"""The image restoration tasks (paper section 3.3), in the order of table 4."""

from dataclasses import dataclass

from v2l.configuration.registry import Registry


@dataclass(frozen=True)
class RestorationTask:
    """A task by its name; `implementation` is a class that corrupts images and says which tokens are predicted."""

    implementation: str


RESTORATION_TASKS: Registry[RestorationTask] = Registry(
    "restoration task",
    {
        "inpainting": RestorationTask("v2l.tasks.corruptions:Inpainting"),
        "outpainting": RestorationTask("v2l.tasks.corruptions:Outpainting"),
        "deblurring": RestorationTask("v2l.tasks.corruptions:Deblurring"),
        "shift": RestorationTask("v2l.tasks.corruptions:Shift"),
        "rotation": RestorationTask("v2l.tasks.corruptions:Rotation"),
    },
    base="v2l.tasks.image_corruption:ImageCorruption",
)
