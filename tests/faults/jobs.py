"""The jobs of a project, each started by itself in a fork of a process that has imported the libraries already.

A job runs the code that its rule's command names, `python -m v2l.<stage>` with the same arguments, in the project's
folder, and can be sent signals; without the seconds of imports most moments of its life are those of its work.
"""

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

MODULES = (
    *("torch", "transformers", "peft", "open_clip", "safetensors.torch", "pyarrow.parquet", "pandas", "scipy.linalg"),
    *("matplotlib.pyplot", "lpips", "torch_fidelity", "torchmetrics", "torchvision", "pycocoevalcap.cider.cider"),
)


class Job(NamedTuple):
    """One job: its rule, shell command, input and output files, and its log."""

    rule: str
    command: str
    inputs: list[str]
    outputs: list[str]
    log: str | None

    @property
    def stage(self) -> str | None:
        """Name of the stage that the command runs; None if it runs none."""
        words = self.words
        return words[2].removeprefix("v2l.") if words else None

    @property
    def words(self) -> list[str]:
        """`python -m v2l.<stage> ...`, without the launcher before it; empty for what needs a shell."""
        words = shlex.split(self.command)
        if words[:4] == ["exec", "python", "-m", "v2l.cluster.launch"]:
            words = words[words.index("--") + 1 :]
        return words if words[:2] == ["python", "-m"] and "2>" not in words else []


class Ended(NamedTuple):
    """What became of a job: its exit status (negative for a signal), what it said, and its seconds."""

    status: int
    output: str
    seconds: float


def list_jobs(folder: Path, *arguments: str) -> list[Job]:
    """The jobs of `snakemake ARGUMENTS --forceall` of the tiny experiment in `folder`, each after those it needs."""
    program = Path(__file__).with_name("job_list.py")
    command = [sys.executable, str(program), *(arguments or ("all",)), "--forceall", "--config", "experiment=tiny"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    listed = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True).stdout
    return [Job(**values) for values in json.loads(listed)]


class RunningJob:
    """A job that was started; its process leads a group of its own."""

    def __init__(self, process: int, output: Path):
        self.process = process
        self._output, self._begun = output, time.monotonic()

    def send(self, number: int) -> None:
        """Send a signal to the job's process alone: its children live on. Nothing if it has ended."""
        if not self.has_ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, number)

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._output.with_suffix(".status").exists()

    def wait(self) -> Ended:
        """What became of it, once it has ended and been reaped by its parent."""
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(self.process)
            select.select([ended], [], [])
            os.close(ended)
        while not self.has_ended():
            time.sleep(0.001)
        found = int(self._output.with_suffix(".status").read_text())
        return Ended(found, self._output.read_text(errors="replace"), time.monotonic() - self._begun)


class JobServer:
    """The process that forks the jobs of the project in `folder`, `threads` for each, as a context manager."""

    def __init__(self, folder: Path, outputs: Path, modules: tuple[str, ...] = MODULES, threads: int = 1):
        self.folder, self._outputs, self._modules, self._threads, self._count = folder, outputs, modules, threads, 0

    def __enter__(self) -> "JobServer":
        self._outputs.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"PYTHONPATH": str(self.folder), "PATH": path, "OMP_NUM_THREADS": str(self._threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, __file__, *self._modules]
        self._process = subprocess.Popen(command, cwd=self.folder, env=os.environ | own, **pipes)
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def start(self, job: Job, limits: dict[str, int] | None = None) -> RunningJob:
        """Start a job; `limits` are resource limits of its process by their names in module `resource`."""
        assert self._process.stdin and self._process.stdout
        self._count += 1
        output = self._outputs / f"{self._count}.txt"
        output.touch()  # a job may be killed before it opens it
        request = {"words": job.words or ["bash", "-c", job.command], "output": str(output), "limits": limits or {}}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return RunningJob(int(self._process.stdout.readline()), output)

    def run(self, job: Job, limits: dict[str, int] | None = None) -> Ended:
        """Run a job to its end."""
        return self.start(job, limits).wait()


def serve() -> None:
    """Answer each JSON line of standard input with the id of the process that it started, until there are no more."""
    import importlib

    for name in sys.argv[1:]:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, _reap)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if not (child := os.fork()):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(**request)
        _statuses[child] = Path(request["output"]).with_suffix(".status")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(child, flush=True)


_statuses: dict[int, Path] = {}


def _reap(*_) -> None:
    for child in list(_statuses):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            path = _statuses.pop(child)
            path.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
            path.with_suffix(".new").rename(path)


def _become(words: list[str], output: str, limits: dict[str, int]) -> None:
    import resource
    import runpy

    os.setsid()
    opened = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0), os.dup2(opened, 1), os.dup2(opened, 2)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if words[0] != "python":
        os.execvp(words[0], words)
    sys.argv = [words[2], *words[3:]]
    status: object = 0
    try:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    import logging

    logging.shutdown()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    serve()
