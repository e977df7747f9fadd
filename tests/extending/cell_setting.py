"""A setting of table 1: the order in which a prompt shows its examples."""

from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting
from v2l.errors import UserError
from v2l.tasks.cells import Shown


def ordered(order: str, shown: Shown) -> Shown:
    """The examples as they were drawn (`given`), or the other way round (`reversed`)."""
    if order not in ("given", "reversed"):
        raise UserError(f"example_order is {order!r}", "given or reversed", "mend `evaluate_llm.classification.grid`")
    return shown.with_examples(shown.examples[::-1]) if order == "reversed" else shown


CELL_SETTINGS.add("example_order", CellSetting("given", f"{__name__}:ordered"))
