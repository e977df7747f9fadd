"""One name per stage: rule file, module, config section, test, log, benchmark and output folder."""

import re
from pathlib import Path

import pytest

from v2l.configuration.config import Config
from v2l.pipeline.stages import STAGES

RULES = Path("workflow/rules")
SHARED = {"common", "keys", "inputs", "targets"}
# Weights and data are shared by all experiments, so their folder is no experiment's.
FOLDERS = {"fetch_assets": ("assets/", "logs/fetch_assets/")}


def rule_blocks(stage: str) -> list[str]:
    """The text of each rule in a stage's file."""
    return re.split(r"^rule ", (RULES / f"{stage}.smk").read_text(), flags=re.MULTILINE)[1:]


def test_rule_files_are_the_stages():
    assert {path.stem for path in RULES.glob("*.smk")} - SHARED == set(STAGES)


def test_snakefile_includes_every_rule_file():
    included = re.findall(r'include: "rules/(\w+)\.smk"', Path("workflow/Snakefile").read_text())
    assert (
        set(included) == set(STAGES) | SHARED
        and included[:3] == ["common", "keys", "inputs"]
        and included[-1] == "targets"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_stage_has_module_section_and_test(stage):
    assert Path(f"v2l/{stage}.py").is_file() and Path(f"tests/test_{stage}.py").is_file()
    assert stage in Config.model_fields


@pytest.mark.parametrize("stage", STAGES)
def test_rules_outputs_logs_and_benchmarks_carry_the_stage_name(stage):
    outputs, logs = FOLDERS.get(stage, (f"{{RESULTS}}/{stage}/", f"{{LOGS}}/{stage}/"))
    for block in rule_blocks(stage):
        assert re.match(rf"{stage}(_\w+)?:", block), f"rule {block.splitlines()[0]} is not named for {stage}"
        if "    shell:" not in block:
            continue
        log = re.search(r"    log:\n\s+f?\"([^\"]+)\"", block).group(1)
        assert log.startswith(logs), log
        benchmark = re.search(r"    benchmark:\n\s+f?\"([^\"]+)\"", block)
        assert benchmark is None or benchmark.group(1).startswith(logs)
        output = re.search(r"    output:\n(.*?)\n    \w", block, flags=re.DOTALL).group(1)
        for path in re.findall(r"\"([^\"]+)\"", output):
            assert (
                path.startswith((outputs, "results/")) if "_show" in block.splitlines()[0] else path.startswith(outputs)
            ), path


@pytest.mark.parametrize("stage", STAGES)
def test_rules_run_their_own_module(stage):
    called = re.findall(r"stage_command\(\s*\"(\w+)\"", (RULES / f"{stage}.smk").read_text())
    assert called and set(called) == {stage}


def test_rule_files_and_modules_stay_small():
    for path, limit in [(path, 100) for path in RULES.glob("*.smk")] + [
        (path, 300) for path in Path("v2l").rglob("*.py")
    ]:
        assert len(path.read_text().splitlines()) <= limit, path
