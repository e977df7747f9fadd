"""Settings of few-shot classification that extensions add to those of `Grid`: further columns of table 1."""

from dataclasses import dataclass

from v2l.configuration.registry import Registry

Value = bool | int | float | str


@dataclass(frozen=True)
class CellSetting:
    """A setting whose value every cell has: `default` where a grid does not name it, and of its type in any case.

    `implementation` is a function (value, `v2l.tasks.cells.Shown`) -> `Shown` that changes what the prompt shows.
    """

    default: Value
    implementation: str


CELL_SETTINGS: Registry[CellSetting] = Registry("setting of table 1", {})
