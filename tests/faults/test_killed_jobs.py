"""SIGKILL of the jobs of every stage at seeded moments of their work: a later start ends in the same bytes."""

import random
import signal
import time

import pytest

from tests.conftest import is_thorough
from tests.faults.conftest import OF_STAGE
from v2l.pipeline.stages import STAGES

SEED = 14


def pytest_generate_tests(metafunc):
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(10 if is_thorough(metafunc.config) else 1))


def test_every_stage_is_here():
    assert set(OF_STAGE) == set(STAGES)


@pytest.fixture(scope="module")
def durations() -> dict[str, float]:
    """Seconds of each stage's job when nothing disturbs it, once known."""
    return {}


@pytest.mark.parametrize("stage", OF_STAGE)
def test_a_killed_job_is_done_again_to_the_same_bytes(scene, tiny_run, durations, stage, moment):
    job = scene.job(OF_STAGE[stage])
    assert job.stage == stage
    if stage not in durations:
        ended = scene.run(job)
        assert ended.status == 0 and not scene.changed(), ended.output
        durations[stage] = ended.seconds
    share, killed = random.Random(f"{SEED} {stage} {moment}").random(), False
    while not killed:
        scene.forget(job)
        running = scene.server.start(job)
        time.sleep(share * durations[stage])
        running.send(signal.SIGKILL)
        killed = running.wait().status == -signal.SIGKILL
        share *= 0.8  # it was done before the signal came
    ended = scene.run(job)
    assert ended.status == 0, ended.output
    assert not scene.changed()
