"""One set of versions for pip and conda users."""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def environment_pins() -> dict[str, str]:
    dependencies = yaml.safe_load(Path("environment.yml").read_text())["dependencies"]
    assert dependencies[:2] == ["python=3.11", "pip"]
    return {canonicalize_name(name): version for name, version in (pin.split("==") for pin in dependencies[-1]["pip"])}


def test_versions_of_the_environment_file_agree_with_each_other():
    pins, unmet, read = environment_pins(), [], 0
    for name in pins:
        try:
            if version(name) != pins[name]:
                continue  # installed from the other lock
        except PackageNotFoundError:
            continue  # for other machines
        read += 1
        wanted = [Requirement(text) for text in requires(name) or []]
        for item in wanted:
            if item.marker is not None and not item.marker.evaluate({"extra": ""}):
                continue
            there = pins.get(canonicalize_name(item.name))
            if there is None or not item.specifier.contains(there, prereleases=True):
                unmet.append(f"{name} wants {item}, there is {there}")
    assert read > len(pins) / 2 and unmet == []


def pins_and_hashes(lock: str) -> dict[str, set[str]]:
    blocks = re.split(r"^(?=[A-Za-z0-9])", Path(lock).read_text(), flags=re.MULTILINE)
    return {block.split()[0]: set(re.findall(r"--hash=(sha256:\w{64})", block)) for block in blocks if "==" in block}


def test_the_lock_for_older_cards_differs_in_torch_and_what_it_is_built_with_alone():
    first, second = pins_and_hashes("requirements.lock"), pins_and_hashes("requirements-volta.lock")
    differing = {pin.split("==")[0] for pin in first | second if first.get(pin) != second.get(pin)}
    assert all(re.fullmatch(r"torch|torchvision|triton|(cuda|nvidia)-.*", name) for name in differing), (
        "run `make lock`"
    )
    assert all(second.values())
    wanted = [line for line in Path("requirements-volta.in").read_text().split("\n") if "==" in line]
    assert wanted and second.keys() >= set(wanted)
