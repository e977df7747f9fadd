"""Questions to SLURM: every one bounded in time, every silence named."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

from v2l.errors import UserError

PROFILE = "slurm/profile.v9+.yaml"
PATIENCE_SECONDS = 20
COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r")
MOST_CHARACTERS = 1500  # of SLURM's answer in a message: its beginning and its end
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
STATES = ENDED | {
    *("COMPLETING", "CONFIGURING", "EXPEDITING", "LAUNCH_FAILED", "PENDING", "POWER_UP_NODE", "PREEMPTED"),
    *("RECONFIG_FAIL", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "RUNNING"),
    *("SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "UPDATE_DB"),
}


def ask(*command: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess:
    """Run a SLURM client; one that is not there has return code 127, one that answers nothing in time 124.

    Its answer is without colours; what a site's wrappers print besides (banners, warnings) is still in it.
    """
    try:
        found = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
        return subprocess.CompletedProcess(command, found.returncode, plain(found.stdout), plain(found.stderr))
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
        f"SLURM answers nothing: squeue says {one_line(answer.stderr)!r}",
        "a controller that answers",
        "try `squeue`; if it fails too, wait or ask the cluster's administrators",
    )


def setting(name: str) -> str:
    """A value of the cluster's configuration (`MinJobAge`), without its unit; "" if it has none."""
    found = re.search(rf"^\s*{name}\s*=\s*(\S+)", ask("scontrol", "show", "config").stdout, re.MULTILINE)
    return found.group(1) if found else ""


def keeps_accounts() -> bool:
    """Whether the cluster has an accounting database."""
    return setting("AccountingStorageType") not in ("accounting_storage/none", "(null)", "")


def job_state(job_id: str) -> str | None:
    """The state of a job: "" for one that neither squeue nor sacct knows, None while the controller answers nothing."""
    answer = ask("squeue", "--states=all", "--jobs", job_id, "--noheader", "--format=%T")
    if answer.returncode == 0 and (state := _state(answer.stdout)):
        return state
    if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
        return None
    records = ask("sacct", "-X", "--noheader", "--parsable2", "--format=State", "--jobs", job_id)
    return _state(records.stdout) if records.returncode == 0 else ""


def active_jobs(*filters: str, seconds: float = 60) -> list[tuple[str, str]]:
    """(id, name) of this user's jobs that have not ended; raises UserError when SLURM does not say for a minute."""
    said: list[subprocess.CompletedProcess] = []

    def answered() -> bool:
        said.append(ask("squeue", "--me", "--noheader", "--format=%i|%j", *filters))
        return said[-1].returncode == 0

    if not until(answered, seconds):
        raise UserError(
            f"SLURM does not say which jobs are queued ({one_line(said[-1].stderr)})",
            "an answer of squeue, so that nothing is submitted twice",
            "start again when `squeue` works",
        )
    return re.findall(r"^\s*(\d[\w.+%,\[\]-]*)\|(.*)$", said[-1].stdout, re.MULTILINE)


def plain(text: str) -> str:
    """`text` without the codes that colour a terminal."""
    return COLOURS.sub("", text)


def one_line(text: str) -> str:
    """Every line that says something, each once, in one; of a very long text its beginning and its end."""
    lines = dict.fromkeys(line.strip() for line in plain(text).splitlines() if re.search(r"\w", line))
    joined, half = " / ".join(lines) or "nothing", MOST_CHARACTERS // 2
    return joined if len(joined) <= MOST_CHARACTERS else f"{joined[:half]} ... {joined[-half:]}"


def _state(text: str) -> str:
    """The first job state in the table `text`, "" if there is none; `CANCELLED by 1000` is CANCELLED."""
    words = [line.split()[0].rstrip("+") for line in text.splitlines() if line.strip()]
    return next((word for word in words if word in STATES), "")


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
