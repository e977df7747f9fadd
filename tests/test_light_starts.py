"""Jobs that need no network start without the packages that take seconds to import."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "torchmetrics", "torch_fidelity", "torchvision", "open_clip", "lpips", "scipy"}
LIGHT = {
    "scores of answers": "v2l.score_predictions v2l.metrics.accuracy v2l.metrics.vqa_accuracy",
    "answers of baselines": "v2l.evaluate_llm v2l.tasks.classification v2l.tasks.restoration v2l.tasks.masked"
    " v2l.tasks.captioning v2l.tasks.vqa",
    "tables": "v2l.make_tables",
    "figures": "v2l.make_figures",
    "report": "v2l.make_report",
    "index_images": "v2l.index_images",
}


@pytest.mark.parametrize("modules", LIGHT.values(), ids=LIGHT)
def test_light_jobs_import_nothing_heavy(modules):
    code = f"import {', '.join(modules.split())}; import sys; print(*{HEAVY} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
