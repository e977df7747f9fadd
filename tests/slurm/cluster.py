"""A real SLURM on one machine: one controller and four nodes with eight pretended GPUs each; needs root.

Every node is a slurmd in namespaces of its own, so that it has its own host name and sees the cluster's /etc/slurm;
nothing global on the machine changes, and everything lives in one folder. `python -m tests.slurm.cluster start` does
by hand what the fixture does; `stop` ends that cluster and all that tests left behind.
"""

import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(os.environ.get("V2L_SLURM_FOLDER", "/tmp/v2l-slurm"))  # short: a UNIX socket's path has 108 characters
PORT = int(os.environ.get("V2L_SLURM_PORT", "21817"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # each has a cluster of its own
NODES, GPUS, CPUS, MEMORY_MB = 4, 8, 16, 64000

CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
# Loopback only, never 0.0.0.0.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
MailProg=/bin/true
# No cgroups, no PMIx, no affinity: runs in any container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
# Processors and memory may exceed what the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
DefMemPerCPU=100
# Partition `urgent` preempts `main`, whose jobs are warned and get 20 s.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
CompleteWait=0
JobRequeue=1
# Finished jobs stay visible to squeue: there is no accounting.
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=7-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """The cluster in `folder`; `environment` is what clients and Snakemake need to find it."""

    def __init__(self, folder: Path = FOLDER / str(WORKER), port: int = PORT + (NODES + 1) * WORKER):
        self.folder, self.port = folder, port
        self.names = [f"node{number}" for number in range(1, NODES + 1)]
        os.environ["PATH"] += os.pathsep + os.pathsep.join(["/usr/sbin", "/sbin"])

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    def start(self) -> "Cluster":
        """Start everything from an empty folder; what an earlier run left behind is stopped first."""
        self.stop()
        self._write()
        munge = self.folder / "munge"
        options = {"key-file": "key", "socket": "sock", "seed-file": "seed"}
        files = [f"--{option}={munge / name}" for option, name in options.items()]
        logs = [f"--log-file={self.folder}/log/munged.log", f"--pid-file={self.folder}/run/munged.pid"]
        self._start("munged", *files, *logs)
        self.wait(lambda: (munge / "sock").exists(), 10, "munged")
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        self.wait(lambda: self.node_states() == ["idle"] * NODES, 30, "idle nodes")
        return self

    def stop(self) -> None:
        """End the daemons started here and what still runs inside the nodes; the folder goes."""
        for name in self.names:
            self.fail_node(name)
        for daemon in ("slurmctld", "munged"):
            self._end(daemon)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_controller(self) -> None:
        self._start("slurmctld", "-i")
        self.wait(lambda: self.run("scontrol", "ping", check=False).returncode == 0, 20, "slurmctld")

    def stop_controller(self) -> None:
        self._end("slurmctld")

    def start_node(self, name: str) -> None:
        # /etc/slurm: job steps of the executor plugin lose SLURM_CONF
        script = (
            'mkdir -p /etc/slurm; mount --bind "$1/etc/hosts" /etc/hosts && mount --bind "$1/etc" /etc/slurm &&'
            ' hostname "$2" && exec slurmd -N "$2"'
        )
        self._start("unshare", "--uts", "--mount", "sh", "-c", script, "sh", str(self.folder), name)
        self.wait(lambda: self.alive(name), 10, name)
        namespace = os.readlink(f"/proc/{self._pid(name)}/ns/mnt")
        (self.folder / "run" / f"{name}.namespace").write_text(namespace)

    def fail_node(self, name: str) -> None:
        """Power failure: kill everything that runs on the node."""
        record = self.folder / "run" / f"{name}.namespace"
        if not record.exists():
            return
        for process in Path("/proc").glob("[0-9]*"):
            try:
                inside = os.readlink(process / "ns" / "mnt") == record.read_text()
                # A recorded namespace may be gone and its number used again: ours has /etc/slurm mounted.
                if inside and " /etc/slurm " in (process / "mountinfo").read_text():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue
        record.unlink()
        (self.folder / "run" / f"{name}.pid").unlink(missing_ok=True)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """A SLURM client on this cluster, at most 30 s."""
        kwargs = {"capture_output": True, "text": True, "timeout": 30, "check": check}
        return subprocess.run(command, env=os.environ | self.environment, **kwargs)

    def node_states(self) -> list[str]:
        return self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).stdout.split()

    def jobs(self, *options: str, columns: str = "%i %T %r") -> list[str]:
        """One line for each job that the controller knows, finished ones too."""
        return self.run("squeue", "-h", "--states=all", "-S", "i", "-o", columns, *options).stdout.splitlines()

    def release(self) -> None:
        """Let requeued jobs start at once."""
        for job_id in self.jobs("--states=pending", columns="%i"):
            self.run("scontrol", "update", f"jobid={job_id}", "starttime=now", check=False)

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> object:
        """Poll until `condition` is true; returns its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.2)
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in self.folder.glob("log/*.log"))
        raise TimeoutError(f"waited {seconds} s for {what}\n{logs}")

    def _write(self) -> None:
        for name in ("etc", "log", "run", "state", "dev", "munge"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o711)  # munged insists
        (self.folder / "munge" / "key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge" / "key").chmod(0o600)
        for number in range(GPUS):  # slurmd takes only character devices: copies of /dev/null
            os.mknod(self.folder / "dev" / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        # One address and a port for each node: with an address for each, job steps hang.
        nodes = [
            f"NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={self.port + number}"
            f" CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN"
            for number, name in enumerate(self.names, start=1)
        ]
        files = {
            "slurm.conf": CONFIGURATION.format(folder=self.folder, port=self.port, nodes="\n".join(nodes)),
            "gres.conf": f"NodeName=node[1-{NODES}] Name=gpu File={self.folder}/dev/gpu[0-{GPUS - 1}]\n",
            "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n",
            "hosts": Path("/etc/hosts").read_text() + "".join(f"127.0.0.1 {name}\n" for name in self.names),
        }
        for name, text in files.items():
            (self.folder / "etc" / name).write_text(text)

    def _start(self, *command: str) -> None:
        log = self.folder / "log" / "start.log"
        with open(log, "a") as output:
            kwargs = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "timeout": 60}
            result = subprocess.run(command, env=os.environ | self.environment, **kwargs)
        if result.returncode:
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")

    def _pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def alive(self, name: str) -> bool:
        """Whether the daemon runs; a zombie that no one reaps does not."""
        try:
            fields = Path(f"/proc/{self._pid(name)}/stat").read_text()
        except (OSError, ValueError):
            return False
        program = "slurmd" if name in self.names else name
        return f"({program}) " in fields and fields.rsplit(") ", 1)[1][0] not in "ZX"

    def _end(self, name: str) -> None:
        if self.alive(name):
            os.kill(pid := self._pid(name), signal.SIGTERM)
            end = time.monotonic() + 10
            while self.alive(name) and time.monotonic() < end:
                time.sleep(0.1)
            if self.alive(name):
                os.kill(pid, signal.SIGKILL)


def end(processes: Iterable[subprocess.Popen]) -> None:
    """End what a test left running; each process leads a session of its own."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    if sys.argv[1] == "start":
        print(f"export SLURM_CONF={Cluster().start().environment['SLURM_CONF']}")
    else:
        for folder in FOLDER.glob("[0-9]*"):
            Cluster(folder).stop()
