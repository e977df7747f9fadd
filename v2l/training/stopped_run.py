"""What a training leaves that its guard stopped: an unchanged start must end before it waits for a GPU."""

import logging
from pathlib import Path

from v2l.configuration.tokenizer_training import Guard
from v2l.errors import UserError
from v2l.io.digests import DamagedFile
from v2l.io.json_records import read_json, write_json

NAME = "stopped.json"


def leave_reason(folder: Path, guard: Guard, reason: UserError) -> None:
    """Write in the run's `folder` why it was stopped, and under which settings."""
    parts = [reason.problem, reason.expected, reason.remedy]
    write_json(folder / NAME, {"guard": guard.model_dump(mode="json"), "reason": parts})


def require_changes(folder: Path, guard: Guard) -> None:
    """Raises the UserError that stopped the run of `folder`, if `guard` still is as it was then; else forgets it."""
    try:
        found = read_json(folder / NAME)
        stopped = found["guard"] == guard.model_dump(mode="json")
    except FileNotFoundError:
        return
    except DamagedFile as error:
        logging.warning("%s is passed over: %s", folder / NAME, error.reason)
        stopped = False
    if stopped:
        raise UserError(*found["reason"])
    (folder / NAME).unlink(missing_ok=True)
