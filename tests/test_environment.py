"""One set of versions for pip and conda users."""

from pathlib import Path

import yaml

from tools.environment import environment_text


def test_environment_file_is_in_step_with_the_lock():
    lock = Path("requirements.lock").read_text()
    assert Path("environment.yml").read_text() == environment_text(lock), "run `make lock`"


def test_every_requirement_is_pinned_with_a_hash():
    lock = Path("requirements.lock").read_text()
    pins = yaml.safe_load(Path("environment.yml").read_text())["dependencies"][-1]["pip"]
    wanted = [
        line.split("==")[0].split(";")[0].strip().lower() for line in Path("requirements.in").read_text().split("\n")
    ]
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert {name.replace("_", "-") for name in wanted if name} <= names
    assert lock.count("--hash=sha256:") >= len(pins) and "torch==2.14.1" in pins and "torchvision==0.29.1" in pins
