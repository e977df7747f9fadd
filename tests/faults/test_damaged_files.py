"""Files of a finished run that went bad: who reads one ends as before, or refuses it in one line that names it."""

import random

from tests.faults.conftest import Scene
from tests.faults.damage import DAMAGES, damaged
from tests.faults.jobs import Job

SEED = 16


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", DAMAGES)


def readers(scene: Scene) -> dict[str, list[Job]]:
    """For each file of the results that some job reads: those jobs."""
    found: dict[str, list[Job]] = {}
    for job in scene.jobs:
        for name in job.inputs:
            if name.startswith("results/"):
                found.setdefault(name, []).append(job)
    return found


def problem(scene: Scene, job: Job, name: str) -> str | None:
    """What is wrong with the way in which `job` takes the damaged file `name`; None if nothing is."""
    ended = scene.run(job)
    if "Traceback" in ended.output:
        return "traceback: " + ended.output.strip().splitlines()[-1]
    if ended.status == 0:
        others = [path for path in scene.changed() if not path.endswith(name)]
        return f"other results: {', '.join(others)}" if others else None
    said = ended.output if job.stage else (scene.folder / str(job.log)).read_text()  # what the shell put there
    errors = [line for line in said.splitlines() if "error: " in line]
    if ended.status != 1 or len(errors) != 1:
        return f"status {ended.status}, {len(errors)} messages: {said[-500:]}"
    return None if name in errors[0] else f"the file is not named: {errors[0]}"


def test_a_damaged_file_is_refused_by_name_or_changes_nothing(scene, tiny_run, thorough, kind):
    found, problems, tried = readers(scene), [], 0
    draw = random.Random(f"{SEED} {kind}")
    order = random.Random(SEED).sample(sorted(found), len(found))
    # Of eight kinds of damage each file gets three; in a hurry one file in twenty gets one.
    first, share = list(DAMAGES).index(kind), 3 if thorough else 1
    names = [name for place, name in enumerate(order) if (place + first) % len(DAMAGES) < share]
    names = names if thorough else names[:8]
    for name in names:
        path, job = scene.folder / name, draw.choice(found[name])
        if damaged(path, kind, f"{SEED} {kind} {name}"):
            tried += 1
            said = problem(scene, job, name)
            if said:
                problems.append(f"{name}, read by {job.rule} ({job.outputs[0]}): {said}")
        scene.restore()
    assert tried > len(names) // 2
    assert not problems, f"{len(problems)} of {tried}:\n" + "\n".join(problems)
