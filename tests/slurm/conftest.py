"""The cluster, started once for all tests that need it, and always stopped."""

import os
import shutil

import pytest

from tests.slurm.cluster import Cluster


def pytest_collection_modifyitems(config, items):
    """Tests on the cluster run only when they are asked for by their marker."""
    if "slurm" not in config.option.markexpr:
        wanted = [item for item in items if not item.get_closest_marker("slurm")]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted


@pytest.fixture(scope="session")
def cluster():
    if os.geteuid() or not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.fail("these tests need root and SLURM: run `make test-slurm`")
    running = Cluster()
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def healthy(cluster):
    """Every test begins with all nodes up and no job, and leaves none."""
    yield
    for name in cluster.names:
        if not cluster.alive(name):
            cluster.start_node(name)
    if not cluster.alive("slurmctld"):
        cluster.start_controller()
    cluster.run("scancel", "--user=root", check=False)
    cluster.wait(lambda: not cluster.run("squeue", "-h").stdout, 60, "an empty queue")
    cluster.run("scontrol", "update", "nodename=node[1-4]", "state=resume", check=False)
    cluster.wait(lambda: cluster.node_states() == ["idle"] * 4, 60, "idle nodes")
