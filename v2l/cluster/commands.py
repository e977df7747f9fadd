"""Questions to SLURM: every one bounded in time, every silence named."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

from v2l.errors import UserError

PROFILE = "slurm/profile.v9+.yaml"
PATIENCE_SECONDS = 20
ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
}


def ask(*command: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess:
    """Run a SLURM client; one that is not there has return code 127, one that answers nothing in time 124."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not on the PATH")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {seconds:.0f} s")


def require_slurm(attempts: int = 3) -> None:
    """Raises UserError where there is no SLURM, or none that answers."""
    for program in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
        if shutil.which(program) is None:
            raise UserError(
                f"this machine has no SLURM: `{program}` is not on the PATH",
                "a login node of the cluster",
                "log in to one (or load its SLURM module), or run without `--profile slurm`",
            )
    for attempt in range(attempts):
        answer = ask("squeue", "--me", "--noheader")
        if answer.returncode == 0:
            return
        if attempt + 1 < attempts:
            time.sleep(2)
    raise UserError(
        f"SLURM answers nothing: squeue says {last_line(answer.stderr)!r}",
        "a controller that answers",
        "try `squeue`; if it fails too, wait or ask the cluster's administrators",
    )


def setting(name: str) -> str:
    """A value of the cluster's configuration (`MinJobAge`), without its unit; "" if it has none."""
    found = re.search(rf"^{name}\s*=\s*(\S+)", ask("scontrol", "show", "config").stdout, re.MULTILINE)
    return found.group(1) if found else ""


def keeps_accounts() -> bool:
    """Whether the cluster has an accounting database."""
    return setting("AccountingStorageType") not in ("accounting_storage/none", "(null)", "")


def job_state(job_id: str) -> str | None:
    """The state of a job: "" for one that neither squeue nor sacct knows, None while the controller answers nothing."""
    answer = ask("squeue", "--states=all", "--jobs", job_id, "--noheader", "--format=%T")
    if answer.returncode == 0 and answer.stdout.strip():
        return answer.stdout.split()[0]
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        return None
    records = ask("sacct", "-X", "--noheader", "--parsable2", "--format=State", "--jobs", job_id)
    return records.stdout.split()[0] if records.returncode == 0 and records.stdout.strip() else ""


def active_jobs(*filters: str, seconds: float = 60) -> list[tuple[str, str]]:
    """(id, name) of this user's jobs that have not ended; raises UserError when SLURM does not say for a minute."""
    said: list[subprocess.CompletedProcess] = []

    def answered() -> bool:
        said.append(ask("squeue", "--me", "--noheader", "--format=%i|%j", *filters))
        return said[-1].returncode == 0

    if not until(answered, seconds):
        raise UserError(
            f"SLURM does not say which jobs are queued ({last_line(said[-1].stderr)})",
            "an answer of squeue, so that nothing is submitted twice",
            "start again when `squeue` works",
        )
    return [tuple(line.split("|", 1)) for line in said[-1].stdout.splitlines()]


def last_line(text: str) -> str:
    """The last line that says something."""
    return (text.strip().splitlines() or ["nothing"])[-1]


def until(condition: Callable[[], object], seconds: float, every: float = 2) -> object:
    """Poll `condition` until it is true or `seconds` are over; its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(every)
    return value


def minutes(limit: str) -> float:
    """A time limit as SLURM prints it (`1-00:00:00`, `30:00`, `infinite`) in minutes."""
    if limit.lower() in ("infinite", "unlimited", "n/a"):
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts: Sequence[int] = [int(part) for part in rest.split(":")]
    hours, minute, second = [0] * (3 - len(parts)) + list(parts)
    return int(days or 0) * 1440 + hours * 60 + minute + second / 60
