"""Writes environment.yml, for conda users, with the versions of requirements.lock."""

import re
from pathlib import Path

HEADER = """# For conda users: the versions of requirements.lock. Written by `make lock`; a test keeps the two in step.
name: v2l
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def environment_text(lock: str) -> str:
    """environment.yml for the text of a lock file."""
    pins = re.findall(r"^([A-Za-z0-9._-]+==[^\s\\;]+)", lock, flags=re.MULTILINE)
    return HEADER + "".join(f"      - {pin}\n" for pin in pins)


if __name__ == "__main__":
    Path("environment.yml").write_text(environment_text(Path("requirements.lock").read_text()))
