"""The documentation: every command can be given as it stands there, and every link, picture and path exists."""

import argparse
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "config/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
COMMAND = re.compile(r"(make|snakemake|python|bash|pip) \S|\.venv/bin/")
SHELL = ("", "sh", "bash", "shell", "console")  # languages of code blocks that hold commands
# What stands for something of the reader's own -> what it is tried with.
PLACEHOLDERS = {
    "<experiment>": "demo",
    "<tokenizer>": "v2l",
    "<stage>": "embed_images",
    "<table>": "table1_classification",
    "FILE": "results/table1_classification.csv",
}
# Programs that read their arguments without a parser.
WITHOUT_PARSER = {"tools.training_curves", "tools.demo_weights", "v2l.configuration.documents"}
NAME_OF_MODULE = re.compile(r"`([\w.]+)`\s+(?:\(|of\s+)`(v2l/[\w/]+\.py)`")  # `name` (`path`), `name` of `path`
PROJECT_PATH = re.compile(r"((?:tests|v2l|config|docs|workflow|benchmarks|tools|slurm|weights)/[^\s:`]*)(?::+ ?(\w+))?")


def spans(text: str) -> list[str]:
    """Code spans of a page, each as one line."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def commands(text: str) -> Iterator[str]:
    """Commands in the code spans and code blocks of a page."""
    lines = [
        line.strip().removeprefix("$ ")
        for language, block in FENCE.findall(text)
        if language in SHELL
        for line in block.replace("\\\n", " ").splitlines()
    ]
    for found in [*lines, *spans(text)]:
        for part in re.split(r"&&|;", found):
            command = re.sub(r"^\s*([A-Z_]+=\S+ +)*", "", part).strip()
            if COMMAND.match(command):
                yield shlex.join(shlex.split(command.removeprefix(".venv/bin/"), comments=True))


COMMANDS = sorted({command for page in PAGES for command in commands(page.read_text())})


class Accepted(BaseException):
    """A program's parser took its arguments."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_given(command, unstarted, monkeypatch):
    try_command(command, unstarted, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "make setup NOTHING=1",
        "snakemake nothing",
        "snakemake all_tables --config experiment=nothing",
        "python -m v2l.nothing",
        "python -m v2l.errors",
        "python -m v2l.tokenize picture.png --nothing",
        "python -m pytest tests/nothing.py",
        "python nothing.py",
        "bash nothing.sh",
        "pip install nothing",
        "pip install .[nothing]",
    ],
)
def test_a_wrong_command_is_found(command, unstarted, monkeypatch):
    with pytest.raises((AssertionError, SystemExit, pytest.fail.Exception, ModuleNotFoundError)):
        try_command(command, unstarted, monkeypatch)


def try_command(command: str, unstarted, monkeypatch) -> None:
    """Fails if a command of the documentation cannot be given."""
    for placeholder, value in PLACEHOLDERS.items():
        command = command.replace(placeholder, value)
    program, *arguments = shlex.split(command)
    if program == "make":
        try_make(arguments)
    elif program == "snakemake":
        try_snakemake(unstarted, arguments)
    elif program == "python" and arguments[0] == "-m":
        try_module(arguments[1], arguments[2:], monkeypatch)
    elif program == "bash":
        assert subprocess.run(["bash", "-n", *arguments], cwd=ROOT).returncode == 0
    elif program == "pip":
        try_pip(arguments)
    else:
        pytest.fail(f"`{command}`: a kind of command that this test does not try; give it a line here")


def try_make(arguments: list[str]) -> None:
    """The target exists, and so do the variables that are set."""
    result = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    makefile = (ROOT / "Makefile").read_text()
    for variable in (argument.partition("=")[0] for argument in arguments if "=" in argument):
        assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), f"the Makefile has no {variable} to set"


def try_snakemake(runs, arguments: list[str]) -> None:
    """It plans jobs, or finds that the downloads are there."""
    if arguments == ["--unlock"]:
        assert "Unlocked working directory" in runs.answer(*arguments)
    elif "--report" in arguments:
        assert "marked for report but does not exist" in runs.answer(*arguments)  # nothing is made yet
    else:
        plan = runs.plan_command("-n", *arguments)
        assert any(job.runs for job in plan.values()) or arguments == ["fetch_assets"]


def try_module(name: str, arguments: list[str], monkeypatch) -> None:
    """The parser of `python -m NAME` takes the arguments, `--help` if there are none; without a parser, they exist."""
    if name == "pytest":
        return try_pytest(arguments)
    spec = importlib.util.find_spec(name)
    if spec and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{name}.__main__")
    assert spec and spec.origin, f"there is no module {name}"
    source = Path(spec.origin).read_text()
    assert "__main__" in source or name != spec.name, f"{name} is no program"
    if name in WITHOUT_PARSER:
        assert "ArgumentParser" not in source
        assert all(any(ROOT.glob(argument)) for argument in arguments), f"{name} {arguments}: not all of it exists"
        return None
    assert "ArgumentParser" in source or "run_stage" in source, f"{name} has no parser; name it in WITHOUT_PARSER"
    parse = argparse.ArgumentParser.parse_args

    def parse_alone(parser, *given):
        parse(parser, *given)
        raise Accepted

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_alone)
    monkeypatch.setattr(sys, "argv", [name, *(arguments or ["--help"])])
    with warnings.catch_warnings(), pytest.raises((Accepted, SystemExit)) as ended:
        warnings.simplefilter("ignore", RuntimeWarning)  # that the module was imported before
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert ended.type is Accepted or ended.value.code == 0, f"python -m {name} refuses {arguments}"


def try_pytest(arguments: list[str]) -> None:
    """The tests that it is given exist."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-q", action="store_true")
    for option in ("-n", "-k", "-m"):
        parser.add_argument(option)
    parser.add_argument("paths", nargs="*")
    for path in parser.parse_args(arguments).paths:
        file, _, test = path.partition("::")
        assert (ROOT / file).exists() and (not test or f"def {test}(" in (ROOT / file).read_text()), path


def try_pip(arguments: list[str]) -> None:
    """It installs the project, with extras that it has, or packages that are in one of its extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
    packages = {re.split(r"[\W]", package)[0] for extra in extras.values() for package in extra}
    assert arguments[0] == "install"
    for argument in arguments[1:]:
        project, _, named = argument.rstrip("]").partition("[")
        known = set(filter(None, named.split(","))) <= set(extras) if project == "." else argument in packages
        assert known, f"pip install {argument}"


def test_without_a_target_everything_is_made(unstarted):
    planned = unstarted.plan_command("-n")
    assert len(planned) > 100 and planned == unstarted.plan()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_pictures_and_paths_exist(page):
    text = FENCE.sub("", page.read_text())
    prose = SPAN.sub("", text)
    targets = re.findall(r"\]\(([^)\s]+)", prose) + re.findall(r"""(?:src|href)=["']([^"']+)""", prose)
    for target in targets:
        path, _, anchor = unquote(target).partition("#")
        if not re.match(r"[a-z]+:", target):
            found = page.parent / path if path else page
            assert found.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(found.read_text()), f"{page.name} links to {target}"
    for path, name in (match.groups() for span in spans(text) if (match := PROJECT_PATH.fullmatch(span))):
        files = list(ROOT.glob(re.sub(r"<\w+>", "*", path)))
        assert files, f"{page.name} names {path}"
        assert not name or name in files[0].read_text(), f"{page.name} names {name} of {path}"
    for name, path in NAME_OF_MODULE.findall(text):
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", (ROOT / path).read_text()), f"{page.name}: {name} of {path}"


def anchors(text: str) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
