"""Files that others' programs read of this repository: citation, workflow catalog, continuous integration."""

import re
import tomllib
from pathlib import Path

import yaml

CITATION = yaml.safe_load(Path("CITATION.cff").read_text())
CATALOG = yaml.safe_load(Path(".snakemake-workflow-catalog.yml").read_text())
ACTIONS = yaml.safe_load(Path(".github/workflows/ci.yml").read_text())
PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
REQUIRED = {"cff-version", "message", "title", "authors"}  # of the schema of version 1.2.0
REFERENCE = {"type", "title", "authors"}


def test_citation_has_what_its_schema_requires_and_is_of_this_project():
    assert set(CITATION) >= REQUIRED and CITATION["cff-version"] == "1.2.0"
    assert CITATION["version"] == PROJECT["version"] and CITATION["license"] == PROJECT["license"]
    assert all({"name"} <= set(person) or {"family-names"} <= set(person) for person in CITATION["authors"])


def test_citation_prefers_the_paper():
    paper = CITATION["preferred-citation"]
    assert set(paper) >= REFERENCE and paper["type"] == "conference-paper" and "Beyond Text" in paper["title"]
    assert [person["family-names"] for person in paper["authors"]] == ["Zhu", "Wei", "Lu"]
    assert (paper["year"], paper["start"], paper["end"]) == (2024, 27047, 27057)
    assert set(paper["conference"]) >= {"name"}


def test_the_catalog_finds_what_it_asks_for():
    usage = CATALOG["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert Path("workflow/Snakefile").is_file() and Path("config/README.md").is_file()
    deploys_conda = any("conda:" in path.read_text() for path in Path("workflow/rules").glob("*.smk"))
    assert usage["software-stack-deployment"]["conda"] is deploys_conda is True


def test_hosted_integration_runs_what_the_own_one_runs():
    (job,) = ACTIONS["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["./.ci/run"] and Path(".ci/run").stat().st_mode & 0o100
    versions = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert versions == [re.search(r"python=([\d.]+)", Path("environment.yml").read_text()).group(1)]
    assert ACTIONS["permissions"] == {"contents": "read"} and ACTIONS[True]["push"] == {"branches": ["main"]}
