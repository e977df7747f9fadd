"""What SLURM would refuse, or never start, is said at submission and not after an hour of waiting."""

import re
import shlex
from typing import NamedTuple

from v2l.cluster import card_check
from v2l.cluster.commands import PROFILE, ask, keeps_accounts, minutes, one_line, setting
from v2l.configuration.cards import read_cards
from v2l.errors import UserError

RESOURCES = "workflow/profiles/default/profile.v9+.yaml"

# partition, the same flagged, state, time limit, nodes, CPUs, memory in MB, GPUs: no line of a banner looks so
ROW = re.compile(r"([^|\s]+)\|([^|\s]+)\|([a-z]+)\|([\w:/-]+)\|(\d+)\|(\d+\+?)\|(\d+\+?)\|([^|]*)")


class Nodes(NamedTuple):
    """Nodes of one kind in one partition, as sinfo tells them."""

    partition: str
    default: bool
    state: str
    limit: str
    number: str
    cpus: str
    memory_mb: str
    gpus: str

    def __str__(self) -> str:
        return f"{self.number} nodes of {self.cpus} CPUs, {self.memory_mb} MB and {self.gpus} for at most {self.limit}"


def check_status_command(command: str, first_look_seconds: int) -> None:
    """Raises UserError if the profile's status command would answer nothing while jobs run and end."""
    remedy = f"set `slurm-status-command: squeue` in {PROFILE}"
    if command == "squeue":
        age = setting("MinJobAge")
        if age.isdigit() and int(age) >= 3 * first_look_seconds:
            return
        # Where squeue forgets finished jobs so soon, the plugin turns to sacct.
        remedy = f"lower `slurm-init-seconds-before-status-checks` in {PROFILE} to a third of MinJobAge ({age} s)"
    answer = ask("sacct", "-X", "--noheader", "--starttime=now", "--name=none")
    if answer.returncode:
        raise UserError(
            f"the status command sacct answers nothing ({one_line(answer.stderr)}), so no job's end would be noticed",
            "a status command that works on this cluster",
            remedy,
        )


def check_account(account: str, user: str) -> None:
    """Raises UserError for an account that this cluster does not know, or does not let `user` charge."""
    if not account:
        return
    if not keeps_accounts():
        raise UserError(
            f"slurm_account is {account!r}, and this cluster keeps no accounts",
            "no account where accounting is switched off",
            f"remove slurm_account from the top of {PROFILE}",
        )
    answer = ask("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", "format=account,user")
    known = sorted(set(re.findall(rf"^\s*([^|\s]+)\|{re.escape(user)}\s*$", answer.stdout, re.MULTILINE)))
    # An account database that does not answer, or is not shown to users, is left to sbatch to judge.
    if answer.returncode == 0 and known and account.lower() not in [name.lower() for name in known]:
        raise UserError(
            f"slurm_account is {account!r}, which {user} cannot use",
            f"one of {', '.join(known)}",
            f"name one at the top of {PROFILE}",
        )


def check_partition(partition: str) -> None:
    """Raises UserError for a partition that is not there, or not up."""
    found = kinds_of_nodes()
    states = {kind.partition: kind.state for kind in found}
    if partition and partition not in states:
        raise UserError(
            f"slurm_partition is {partition!r}, which this cluster does not have",
            f"one of {', '.join(states)}",
            f"name one at the top of {PROFILE}",
        )
    if partition and states[partition] != "up":
        raise UserError(
            f"partition {partition!r} is {states[partition]}",
            "a partition that starts jobs",
            f"wait, or name another at the top of {PROFILE}",
        )


def check_request(rule: str, options: str, partition: str, runtime: float) -> None:
    """Let SLURM judge `options` of sbatch without submitting; raises UserError with what the partition has."""
    kinds = [kind for kind in kinds_of_nodes() if kind.partition == partition or (not partition and kind.default)]
    longest = max((minutes(kind.limit) for kind in kinds), default=float("inf"))
    answer = ask("sbatch", "--test-only", *shlex.split(options), "--wrap", "true")
    if answer.returncode == 0 and runtime <= longest:  # sbatch takes a longer one, which then waits for ever
        return
    reason = f"a time limit of {runtime:.0f} minutes" if answer.returncode == 0 else one_line(answer.stderr)
    raise UserError(
        f"SLURM would not run {rule} ({options.strip()}): {reason}",
        f"what partition {partition or '(default)'} has: {'; '.join(map(str, kinds))}",
        f"change {rule} under set-resources in {RESOURCES}, or the partition at the top of {PROFILE}",
    )


def check_gpus(partition: str, config: str) -> None:
    """Raises UserError if no GPU of the partition can run a job with this slice of the configuration (JSON)."""
    kinds = [kind for kind in kinds_of_nodes() if kind.partition == partition or (not partition and kind.default)]
    known = read_cards()
    card_check.check_nodes([card for kind in kinds for card in card_check.cards_of_nodes(kind.gpus, known)], [config])


def kinds_of_nodes() -> list[Nodes]:
    """Every kind of node of every partition; raises UserError if sinfo's answer holds no table."""
    answer = ask("sinfo", "--noheader", "--format=%R|%P|%a|%l|%D|%c|%m|%G")
    rows = [found.groups() for line in answer.stdout.splitlines() if (found := ROW.fullmatch(line.strip()))]
    if answer.returncode or not rows:
        raise UserError(
            f"sinfo tells of no partition; it says: {one_line(answer.stderr + chr(10) + answer.stdout)}",
            "a row for each kind of nodes of each partition",
            "try `sinfo`; if it fails too, ask the cluster's administrators",
        )
    return [Nodes(name, flagged.endswith("*"), *rest) for name, flagged, *rest in rows]
