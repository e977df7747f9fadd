"""`python -m v2l.plan --config JSON`: what the experiment costs on the machines of section `plan`.

Needs no data, no weights and no network: files that are there make it more exact. Writes the table to standard output
and to `--log`, and its numbers to results/<experiment>/plan.json.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from v2l.configuration.cards import Machine, read_cards
from v2l.configuration.config import Config
from v2l.configuration.experiment import validate
from v2l.configuration.extensions import load_inherited
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.pipeline import required_files, selections, timings
from v2l.plan.efficiencies import Efficiencies
from v2l.plan.estimates import Estimator
from v2l.plan.experiment_sizes import ExperimentSizes
from v2l.plan.language_workloads import evaluation_workloads, finetuning_workloads
from v2l.plan.report import Row, plan_data, plan_text, spent_text
from v2l.plan.tokenizer_workloads import (
    decoding_once_workloads,
    decoding_workloads,
    extraction_workloads,
    scoring_workloads,
    training_workloads,
)
from v2l.plan.vocabulary_workloads import vocabulary_workloads
from v2l.plan.workload import Workload


def workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """Every row of the plan, in the order of the stages."""
    yield from vocabulary_workloads(sizes)
    yield from decoding_once_workloads(sizes)
    yield from training_workloads(sizes)
    yield from extraction_workloads(sizes)
    yield from finetuning_workloads(sizes)
    yield from evaluation_workloads(sizes)
    yield from decoding_workloads(sizes)
    yield from scoring_workloads(sizes)
    yield Workload("make_tables", "tables", len(selections.tables(sizes.config)), "tables")
    yield Workload("make_figures", "figures", len(selections.figures(sizes.config)), "figures")
    yield Workload("make_report", "the page", 1, "files")


def planned(config: Config, root: Path = Path()) -> tuple[list[Row], list[Machine], list[str]]:
    """The rows of the plan with an estimate for each machine, the machines, and what to say of all of them."""
    cards, section = read_cards(root / "config" / "cards.yaml"), config.plan
    machines = [Machine.parse(text, cards) for text in section.machines]
    efficiencies = Efficiencies.read(root / section.efficiencies)
    estimator = Estimator(efficiencies, section.cores_per_card)
    rows = [
        (work, [estimator.estimate(work, machine) for machine in machines])
        for work in workloads(ExperimentSizes(config, root))
    ]
    cautions = [f"shares of the peak: {section.efficiencies}, measured on {efficiencies.device}"]
    cautions += [
        f"{machine.name}: compute capability {machine.card.compute_capability} is below that of the locked build of "
        "PyTorch; install the second lock (docs/cluster.md)"
        for machine in machines
        if machine.card.needs_older_build
    ]
    return rows, machines, cautions


def main(arguments: list[str] | None = None) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m v2l.plan", description="What an experiment costs.")
    parser.add_argument("--config", required=True, help="the whole configuration as JSON")
    parser.add_argument("--log", type=Path, help="file that gets the table too")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="plan: %(message)s", force=True)
    try:
        load_inherited()
        config = validate(json.loads(given.config), "--config")
        rows, machines, cautions = planned(config)
    except UserError as error:
        sys.exit(f"plan: error: {error}")
    title = f"Plan of experiment {config.experiment}: wall time, card-hours and memory of a job on each machine"
    text = plan_text(title, rows, machines, cautions)
    text += spent_text(rows, machines, timings.stage_totals(Path("logs") / config.experiment))
    made = required_files.trained_files(config)
    if missing := required_files.missing_paths([config.model_dump_json()], made):
        text += f"\nNot there yet, and not needed for the plan: {len(missing)} paths\n"
        text += "".join(f"  {path}\n" for path in missing)
    print(text)
    path = Path("results") / config.experiment / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plan_data(rows, machines), indent=1) + "\n")
    if given.log:
        given.log.parent.mkdir(parents=True, exist_ok=True)
        given.log.write_text(text)


if __name__ == "__main__":
    main()
