"""Which machine a job ran on, beside its log."""

import sys
from types import SimpleNamespace

from v2l.pipeline import machines
from v2l.pipeline.machines import SUFFIX, write_machine


def test_each_machine_of_a_stage_is_told_once_and_damage_is_passed_over(tmp_path, monkeypatch):
    folder = tmp_path / "evaluate_llm" / "v2l"
    folder.mkdir(parents=True)
    monkeypatch.setattr(machines, "_processor", lambda: "A processor")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    write_machine(folder / "first.log")
    write_machine(folder / "second.part.log")
    assert {path.name for path in folder.iterdir()} == {f"first{SUFFIX}", f"second.part{SUFFIX}"}
    card = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 2, get_device_name=lambda number: "A card")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=card))
    write_machine(folder / "third.log")
    (folder / f"fourth{SUFFIX}").write_text("{")
    assert machines.machines(tmp_path, "evaluate_llm") == ["3 x A processor", "3 x A processor, 2 x A card"]
    assert machines.machines(tmp_path, "index_images") == []


def test_a_gpu_that_was_not_used_is_not_told(tmp_path):
    write_machine(tmp_path / "job.log")
    assert machines.read_json(tmp_path / f"job{SUFFIX}")["gpus"] == []
