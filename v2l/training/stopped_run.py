"""What a training leaves that its guard stopped: an unchanged start must end before it waits for a GPU."""

import json
from pathlib import Path

from v2l.configuration.tokenizer_training import Guard
from v2l.errors import UserError
from v2l.io.atomic import atomic_path

NAME = "stopped.json"


def leave_reason(folder: Path, guard: Guard, reason: UserError) -> None:
    """Write in the run's `folder` why it was stopped, and under which settings."""
    parts = [reason.problem, reason.expected, reason.remedy]
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(json.dumps({"guard": guard.model_dump(mode="json"), "reason": parts}) + "\n")


def require_changes(folder: Path, guard: Guard) -> None:
    """Raises the UserError that stopped the run of `folder`, if `guard` still is as it was then; else forgets it."""
    try:
        found = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return
    if found["guard"] == guard.model_dump(mode="json"):
        raise UserError(*found["reason"])
    (folder / NAME).unlink(missing_ok=True)
