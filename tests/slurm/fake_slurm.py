"""SLURM's commands for machines without it: under each of their names, this script runs jobs as plain processes.

Every call stands in $FAKE_SLURM/calls.log as one JSON line; a job is a folder $FAKE_SLURM/<id> with its name, comment,
pid and exit code.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ.get("FAKE_SLURM", "."))
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun", "sacct", "sacctmgr")
ALONE = ("--parsable", "--test-only", "--requeue", "--no-requeue", "--unbuffered", "--me", "--noheader", "-X", "-h")


def install(folder: Path) -> Path:
    """Write the commands to `folder` for a PATH."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
        (folder / name).chmod(0o755)
    return folder


def options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Option -> value, and what stands behind the options."""
    found, words = {}, list(words)
    while words and words[0].startswith("-"):
        name, equals, value = words.pop(0).partition("=")
        if not equals and name not in ALONE:
            value = words.pop(0)
        found[name] = value
    return found, words


def sbatch(words: list[str]) -> None:
    found, rest = options(words)
    script = ""
    if rest:
        script = Path(rest[0]).read_text()
        lines = [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]
        found |= options(shlex.split(" ".join(lines)))[0]
    if "--test-only" in found:
        return
    folder = HOME / str(1 + len(list(HOME.glob("[0-9]*"))))
    folder.mkdir()
    (folder / "name").write_text(found["--job-name"])
    (folder / "script").write_text(script or found["--wrap"])
    output = found["--output"].replace("%j", folder.name)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    job = {"SLURM_JOB_ID": folder.name, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    job |= {"SLURM_JOB_NODELIST": "localhost", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    command = f"bash {folder}/script > {shlex.quote(output)} 2>&1; echo $? > {folder}/code"
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["bash", "-c", command], env=os.environ | job, start_new_session=True, **silent)
    (folder / "pid").write_text(str(process.pid))
    print(folder.name if "--parsable" in found else f"Submitted batch job {folder.name}")


def squeue(words: list[str]) -> None:
    found, _ = options(words)
    for folder in sorted(HOME.glob("[0-9]*")):
        name = (folder / "name").read_text()
        code = (folder / "code").read_text().strip() if (folder / "code").exists() else None
        state = {None: "RUNNING", "0": "COMPLETED"}.get(code, "FAILED")
        wanted = found.get("--name", name).split(",")
        if name not in wanted or found.get("--jobs", folder.name) != folder.name:
            continue
        if code is None or "--states" in found:
            line = found.get("--format", "%i").replace("%i", folder.name).replace("%T", state).replace("%j", name)
            print(line)


def srun(words: list[str]) -> None:
    _, command = options(words)
    sys.exit(subprocess.run(command).returncode)


def answer(name: str, words: list[str]) -> None:
    if name == "sinfo":
        print("gpu|gpu*|up|infinite|4|64|512000|gpu:8")
    elif name == "scontrol":
        print("AccountingStorageType = accounting_storage/slurmdbd\nMinJobAge = 300 sec\nMaxArraySize = 1001")
    elif name == "sacctmgr":
        user = [word.removeprefix("user=") for word in words if word.startswith("user=")]
        print("\n".join("|".join([account, *user]) for account in ("default", "friends")))


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    with open(HOME / "calls.log", "a") as calls:
        calls.write(json.dumps([name, *sys.argv[1:]]) + "\n")
    print(os.environ.get("FAKE_SLURM_BANNER", ""), end="")
    known = {"sbatch": sbatch, "squeue": squeue, "srun": srun}
    known[name](sys.argv[1:]) if name in known else answer(name, sys.argv[1:])
