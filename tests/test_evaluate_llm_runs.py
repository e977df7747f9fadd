"""Runs of evaluate_llm: interrupted and continued, shared out among processes, under every protocol."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.test_evaluate_llm import CODES, INSTRUCTION, SIDE, entry, inputs, predictions, stage, tokens_of  # noqa: F401
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.errors import UserError
from v2l.evaluate_llm import run
from v2l.io.job_files import Inputs
from v2l.io.sealed_lines import sealed_line
from v2l.llm import row_layout
from v2l.llm.batches import BATCH_COST, plan_batches, split_blocks
from v2l.llm.greedy_decoding import GreedyDecoder
from v2l.llm.journal import Journal
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.token_budget import MOST_TOKENS
from v2l.metrics.accuracy import measure_accuracy
from v2l.pipeline import code_files
from v2l.pipeline.code_files import code_of
from v2l.pipeline.record import provenance, run_key
from v2l.runtime import rng
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.simple_predictors import majority_vote

NAMES = ("tokens", "vocabulary", "words", "manifest", "features")
SMALL = {"episodes": 7, "batch_size": 2, "grid": [{"ways": [2, 3], "tokens": [2], "inner_shots": [1, 2]}]}


def job(inputs, task, work: Path, machine: dict | None = None, **changes) -> StageConfig:  # noqa: F811
    """A stage's configuration with a folder for its journal."""
    config = stage(inputs, task, **changes)
    data = json.loads(config.text)
    data["job"]["work"] = str(work)
    return StageConfig("evaluate_llm", data, machine)


def bytes_of(inputs, path: Path, config: StageConfig) -> bytes:  # noqa: F811
    run(config, Inputs({name: inputs[name] for name in NAMES}), {"predictions": path})
    return path.read_bytes()


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def loaded_without_a_probe(monkeypatch):
    """What a model is asked when it is loaded takes batches, too, which are none of the run's."""
    monkeypatch.setattr(row_layout, "difference", lambda *_, **__: 0.0)


@pytest.mark.parametrize("task", ["classification", "restoration"])
def test_a_run_killed_at_any_batch_goes_on_to_the_same_bytes(inputs, tmp_path, monkeypatch, task):  # noqa: F811
    config = job(inputs, task, tmp_path / "work", classification=SMALL, restoration={"batch_size": 2})
    whole = bytes_of(inputs, tmp_path / "whole.parquet", config)
    counted = []
    compute = GreedyDecoder.run
    monkeypatch.setattr(GreedyDecoder, "run", lambda *a: counted.append(1) or compute(*a))
    bytes_of(inputs, tmp_path / "again.parquet", config)
    total = len(counted)
    killed = victim = int(np.random.default_rng().integers(1, total))  # a different batch in every run of the tests

    def dies(*arguments):
        if len(counted) == victim:
            raise Killed
        counted.append(1)
        return compute(*arguments)

    counted.clear()
    monkeypatch.setattr(GreedyDecoder, "run", dies)
    with pytest.raises(Killed):
        bytes_of(inputs, tmp_path / "resumed.parquet", config)
    assert not (tmp_path / "resumed.parquet").exists()
    (journal,) = (tmp_path / "work").rglob("*.jsonl")
    journal.write_text(journal.read_text()[:-7])  # the kill cut the last line short
    counted.clear()
    victim = -1
    assert bytes_of(inputs, tmp_path / "resumed.parquet", config) == whole
    assert len(counted) == total - (killed - 1)  # the line that was cut short is computed anew
    assert not list((tmp_path / "work").iterdir())


def test_a_process_killed_by_a_signal_goes_on_where_it_stopped(inputs, tmp_path):  # noqa: F811
    """The stage as the workflow starts it, ended by SIGKILL once its journal has lines."""
    config = job(inputs, "restoration", tmp_path / "work", restoration={"batch_size": 1})
    whole = bytes_of(inputs, tmp_path / "whole.parquet", config)
    command = [sys.executable, "-m", "v2l.evaluate_llm", "--config", config.text]
    command += [word for name in NAMES for word in ("--input", name, str(inputs[name]))]
    command += ["--output", "predictions", str(tmp_path / "killed.parquet")]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(path.stat().st_size > 2000 for path in tmp_path.rglob("*.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (journal,) = tmp_path.rglob("*.jsonl")
    assert journal.stat().st_size > 2000 and not (tmp_path / "killed.parquet").exists()
    assert bytes_of(inputs, tmp_path / "killed.parquet", config) == whole


def test_another_configuration_never_continues_an_old_run(inputs, tmp_path, monkeypatch):  # noqa: F811
    def dies(*_):
        raise Killed

    def folders() -> list[str]:
        return [path.name for path in tmp_path.iterdir() if path.is_dir()]

    config, left = job(inputs, "classification", tmp_path, classification=SMALL), []
    with monkeypatch.context() as patch:
        patch.setattr(GreedyDecoder, "run", dies)
        for changes in (SMALL, SMALL | {"max_new_tokens": 3}):
            with pytest.raises(Killed):
                bytes_of(
                    inputs, tmp_path / "p.parquet", job(inputs, "classification", tmp_path, classification=changes)
                )
            left.append(folders())
    assert [len(names) for names in left] == [1, 1] and left[0] != left[1], "what cannot be continued is swept"
    bytes_of(inputs, tmp_path / "p.parquet", config)
    assert folders() == []


def test_other_weights_at_the_same_path_never_continue_an_old_run(inputs, tmp_path):  # noqa: F811
    config = job(inputs, "classification", tmp_path, classification=SMALL)
    weights = next(Path(config.llms["tiny"].path).glob("*.safetensors"))
    before, content, times = run_key(config, provenance(config, Inputs({}))), weights.read_bytes(), weights.stat()
    try:
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert run_key(config, provenance(config, Inputs({}))) != before
    finally:
        weights.write_bytes(content)
    assert run_key(config, provenance(config, Inputs({}))) == before


@pytest.mark.parametrize(("edit", "goes_on"), [("# a comment\n", True), ("VALUE = 2\n", False)])
def test_a_run_goes_on_after_an_edit_of_its_code_only_if_that_does_the_same(
    inputs,  # noqa: F811
    tmp_path,
    monkeypatch,
    edit,
    goes_on,
):
    own = ModuleType("own_task")
    own.__file__ = str(tmp_path / "own_task.py")
    monkeypatch.setitem(sys.modules, "own_task", own)
    config = job(inputs, "restoration", tmp_path / "work", restoration={"batch_size": 1})
    config.code = ("v2l.evaluate_llm", "own_task:Task")
    counted, limit, compute = [], 2, GreedyDecoder.run

    def computes(*arguments):
        if len(counted) == limit:
            raise Killed
        counted.append(1)
        return compute(*arguments)

    def answered(*further: str) -> bytes:
        """With the code as it is now and `further` lines, as a new process would see it."""
        counted.clear()
        code_of.cache_clear(), code_files._with_imports.cache_clear()
        Path(own.__file__).write_text("".join(["VALUE = 1\n", *further]))
        return bytes_of(inputs, tmp_path / "answers.parquet", config)

    monkeypatch.setattr(GreedyDecoder, "run", computes)
    with pytest.raises(Killed):
        answered()
    limit = -1
    answered(edit)
    resumed = len(counted)
    answered(edit)
    assert resumed == len(counted) - (2 if goes_on else 0)


@pytest.mark.parametrize("task", ["classification", "restoration"])
def test_merged_shards_are_the_unsharded_bytes(inputs, tmp_path, task):  # noqa: F811
    changes = {"classification": SMALL, "restoration": {"batch_size": 2, "images_of": {"few": 7}}}
    whole = bytes_of(inputs, tmp_path / "whole.parquet", job(inputs, task, tmp_path / "work", **changes))
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups >= 4
    config = job(inputs, task, tmp_path / "work", **changes)
    record = provenance(config, Inputs({name: inputs[name] for name in NAMES}))
    for shard in range(3):
        part = job(inputs, task, tmp_path / "work", {"shard": str(shard), "shards": "3"}, **changes)
        path = tmp_path / "work" / run_key(config, record) / f"shard-{shard}-of-3.parquet"
        with pytest.raises(SystemExit) as ended:
            run(part, Inputs({name: inputs[name] for name in NAMES}), {"part": path})
        assert ended.value.code == 0
    merging = job(inputs, task, tmp_path / "work", {"shards": "3", "launcher": "false"}, **changes)  # starts none
    assert bytes_of(inputs, tmp_path / "merged.parquet", merging) == whole
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("task", ["classification", "restoration"])
def test_a_failed_shard_goes_on_and_the_others_are_kept(inputs, tmp_path, monkeypatch, task):  # noqa: F811
    changes = {"classification": SMALL, "restoration": {"batch_size": 2, "images_of": {"few": 7}}}
    whole = bytes_of(inputs, tmp_path / "whole.parquet", job(inputs, task, tmp_path / "work", **changes))
    given = Inputs({name: inputs[name] for name in NAMES})
    merging = job(inputs, task, tmp_path / "work", {"shards": "3", "launcher": "false"}, **changes)  # starts none
    folder = tmp_path / "work" / run_key(merging, provenance(merging, given))
    parts = [folder / f"shard-{shard}-of-3.parquet" for shard in range(3)]
    counted, victim = [], -1
    compute = GreedyDecoder.run

    def dies(*arguments):
        if len(counted) == victim:
            raise Killed
        counted.append(1)
        return compute(*arguments)

    def make(shard: int) -> int:
        """The number of batches that the shard computed."""
        counted.clear()
        machine = {"shard": str(shard), "shards": "3"}
        with pytest.raises(SystemExit):
            run(job(inputs, task, tmp_path / "work", machine, **changes), given, {"part": parts[shard]})
        return len(counted)

    monkeypatch.setattr(GreedyDecoder, "run", dies)
    total = make(1)
    shutil.rmtree(folder)
    make(0), make(2)
    counted.clear()
    victim = 2
    with pytest.raises(Killed):
        run(job(inputs, task, tmp_path / "work", {"shard": "1", "shards": "3"}, **changes), given, {"part": parts[1]})
    with pytest.raises(UserError, match="shards 1 of 3 failed"):
        bytes_of(inputs, tmp_path / "merged.parquet", merging)
    assert [path.exists() for path in parts] == [True, False, True] and not (tmp_path / "merged.parquet").exists()
    victim = -1
    assert make(1) == total - 2 > 0
    assert bytes_of(inputs, tmp_path / "merged.parquet", merging) == whole
    assert not list((tmp_path / "work").iterdir())


def test_shards_are_processes_behind_a_launcher(inputs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    changes = {"restoration": {"batch_size": 2, "images_of": {"few": 3}, "tasks": ["inpainting"]}}
    whole = bytes_of(inputs, tmp_path / "whole.parquet", job(inputs, "restoration", tmp_path / "work", **changes))
    config = job(inputs, "restoration", tmp_path / "work", {"shards": "2", "launcher": "env SHARDED=1"}, **changes)
    assert bytes_of(inputs, tmp_path / "merged.parquet", config) == whole


def test_100_predictions_do_not_depend_on_the_batch_size(inputs, tmp_path):  # noqa: F811
    grid = [{"ways": [2, 3], "tokens": [2, 3], "induction": [False, True], "inner_shots": [1, 2], "repeats": [0, 1]}]

    def rows(batch_size: int) -> list[dict]:
        changes = {"episodes": 7, "grid": grid, "batch_size": batch_size}
        return predictions(inputs, tmp_path / "p.parquet", "classification", classification=changes)

    expected = rows(1)
    assert len(expected) == 224 and rows(5) == expected and rows(32) == expected


@pytest.mark.parametrize("task", ["classification", "restoration"])
def test_the_memory_of_the_machine_changes_no_byte_and_repeats_no_prompt(inputs, tmp_path, monkeypatch, task):  # noqa: F811
    free = {"batch_size": None}
    config = job(inputs, task, tmp_path / "work", classification=SMALL | free, restoration=free)
    whole = bytes_of(inputs, tmp_path / "whole.parquet", config)
    asked, victim, compute = [], None, GreedyDecoder.run

    def run_batch(decoder, batch, meanwhile):
        if len(asked) == victim:
            raise Killed
        asked.append(len(batch.indices))
        return compute(decoder, batch, meanwhile)

    monkeypatch.setattr(GreedyDecoder, "run", run_batch)
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1000)  # a few prompts
    assert bytes_of(inputs, tmp_path / "small.parquet", config) == whole
    prompts, victim = sum(asked), 2
    asked.clear()
    with pytest.raises(Killed):
        bytes_of(inputs, tmp_path / "resumed.parquet", config)
    victim = None
    monkeypatch.setitem(MOST_TOKENS, "cpu", 4096)  # and on another machine
    assert bytes_of(inputs, tmp_path / "resumed.parquet", config) == whole
    assert sum(asked) == prompts


class TestBatches:
    def test_every_prompt_once_longest_first(self):
        lengths = [5, 300, 7, 299, 6, 40, 301, 8]
        batches = plan_batches(lengths, 3)
        assert sorted(index for batch in batches for index in batch) == list(range(8))
        assert batches[0] == [6, 1, 3] and max(map(len, batches)) == 3
        widths = [max(lengths[index] for index in batch) for batch in batches]
        assert widths == sorted(widths, reverse=True)

    def test_a_long_prompt_stays_alone_where_padding_would_cost_more(self):
        lengths = [10, 10, 10, 10 + BATCH_COST]
        assert plan_batches(lengths, 4) == [[3], [0, 1, 2]]
        assert plan_batches([10, 10, 10, 11], 4) == [[3, 0, 1, 2]]

    def test_a_batch_holds_the_tokens_of_the_budget_and_a_longer_prompt_stands_alone(self):
        lengths = [5, 9, 9, 30, 6, 4, 9]
        batches = plan_batches(lengths, tokens=24, held=3)
        assert batches[0] == [3]
        assert all(len(batch) * (3 + max(lengths[index] for index in batch)) <= 24 for batch in batches[1:])
        assert sorted(index for batch in batches for index in batch) == list(range(7))

    def test_without_padding_lengths_are_never_mixed(self):
        assert plan_batches([4, 6, 4, 6, 4], padded=False) == [[1, 3], [0, 2, 4]]

    def test_the_cheapest_split_is_that_of_all_splits(self):
        numbers = np.random.default_rng(0)
        for _ in range(20):
            lengths = sorted(numbers.integers(1, 60, size=7).tolist(), reverse=True)
            cuts = [[c for c in range(1, 7) if mask >> c - 1 & 1] for mask in range(64)]
            splits = [[lengths[a:b] for a, b in itertools.pairwise([0, *cut, 7])] for cut in cuts]
            costs = [
                sum(BATCH_COST + len(part) * part[0] for part in split) for split in splits if max(map(len, split)) < 5
            ]
            made = plan_batches(lengths, 4)
            assert sum(BATCH_COST + len(batch) * lengths[batch[0]] for batch in made) == min(costs)

    @pytest.mark.parametrize(
        ("items", "size", "prompts", "expected"),
        [
            (7, 2, 5, 2),
            (10, None, 1, 64),
            (5000, None, 1, 157),
            (10**6, None, 1, 512),
            (4, None, 5, 12),
            (5000, None, 5, 102),
        ],
    )
    def test_blocks_depend_on_the_work_alone(self, items, size, prompts, expected):
        blocks = split_blocks(range(items), size, prompts)
        assert len(blocks[0]) == min(items, expected) and [n for block in blocks for n in block] == list(range(items))


class TestJournal:
    def test_the_journal_survives_and_serves_other_shards(self, tmp_path):
        with Journal("t", 4, tmp_path, shard=0) as progress:
            progress.add(["a", "b"], [[1], [2, 3]])
        (tmp_path / "batches.1.jsonl").write_bytes(sealed_line([["c"], [[4]]]) + sealed_line([["d"], [[5]]])[:-4])
        with Journal("t", 4, tmp_path) as progress:
            assert [progress.known(key) for key in "abcd"] == [[1], [2, 3], [4], None]


class TestProtocols:
    def rows(self, inputs, tmp_path, protocol, predictor="tiny", **restoration):  # noqa: F811
        path = tmp_path / f"{protocol}.parquet"
        return predictions(inputs, path, "restoration", predictor, protocol=protocol, restoration=restoration)

    def test_released_shows_only_the_corrupted_tokens_themselves(self, inputs, tmp_path):  # noqa: F811
        rows = self.rows(inputs, tmp_path, "released", restrict_to_codebook=True)
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        ids = np.array([ids[0] for ids in pq.read_table(inputs["vocabulary"])["token_ids"].to_pylist()])
        (row,) = [r for r in rows if (r["task"], r["image_id"], r["step"]) == ("shift", "0/1.png", 3)]
        shifted = tokens_of(inputs, "shift", "0/1.png")
        prompt = RestorationPrompt(tokenizer, INSTRUCTION)
        query = prompt.ids([], ids[shifted[[6, 7]]].tolist(), 2)
        tail = query[len(prompt.ids([], [], 2)) - len(prompt._output) - len(prompt._input) :]
        assert row["prompt_ids"][-len(tail) :] == tail
        paper = self.rows(inputs, tmp_path, "paper")
        lengths = {kind: {len(r["prompt_ids"]) for r in rows if r["task"] == kind} for kind in RESTORATION_TASKS}
        assert max(lengths["shift"]) < max(len(r["prompt_ids"]) for r in paper if r["task"] == "shift")
        assert lengths["inpainting"] == {len(r["prompt_ids"]) for r in paper if r["task"] == "inpainting"}

    def test_released_needs_a_code_for_every_id(self, inputs, tmp_path):  # noqa: F811
        with pytest.raises(UserError, match="restrict_to_codebook` is false .as in protocol released"):
            self.rows(inputs, tmp_path, "released")

    @pytest.mark.parametrize("task", RESTORATION_TASKS)
    def test_held_out_has_nothing_of_the_answer_in_the_input(self, inputs, tmp_path, task):  # noqa: F811
        """Change every clean token of the asked image alone: no prompt of protocol held-out may notice."""
        table = pq.read_table(inputs["tokens"])
        metadata = table.schema.metadata
        changed = table.to_pylist()
        for row in changed:
            if row["corruption"] == "none" and row["image_id"] == "0/0.png":
                row["local_ids"] = [(code + 1) % CODES for code in row["local_ids"]]
        other = tmp_path / "other.parquet"
        pq.write_table(pa.Table.from_pylist(changed, schema=table.schema).replace_schema_metadata(metadata), other)
        settings = {"tasks": [task], "images_of": {"few": 1}}
        mine = self.rows(inputs, tmp_path, "held-out", **settings)
        theirs = self.rows(inputs | {"tokens": other}, tmp_path, "held-out", **settings)
        assert [row["target_codes"] for row in mine] != [row["target_codes"] for row in theirs]
        assert [row["prompt_ids"] for row in mine] == [row["prompt_ids"] for row in theirs]
        leaky = [self.rows(inputs | {"tokens": t}, tmp_path, "paper", **settings) for t in (inputs["tokens"], other)]
        assert [row["prompt_ids"] for row in leaky[0]] != [row["prompt_ids"] for row in leaky[1]]

    def test_held_out_examples_are_noised_maps_of_other_images(self, inputs, tmp_path):  # noqa: F811
        settings = {"tasks": ["rotation"], "replacement_shares": [0.0] * 30, "images_of": {"few": 1}}
        row = self.rows(inputs, tmp_path, "held-out", **settings)[3]  # positions 6 and 7, after a context of four
        names = list(dict.fromkeys(pq.read_table(inputs["tokens"])["image_id"].to_pylist()))
        others = [name for name in names if name != "0/0.png"]
        order = rng(0, "held-out", "0/0.png").permutation(len(others))
        assert len(others) == 23  # so seven come a second time
        ids = np.array([ids[0] for ids in pq.read_table(inputs["vocabulary"])["token_ids"].to_pylist()])
        maps = [
            [tokens_of(inputs, kind, others[place]) for kind in ("rotation", "none")] for place in [*order, *order[:7]]
        ]
        examples = [(ids[turned[2:8]].tolist(), ids[clean[6:8]].tolist()) for turned, clean in maps]
        query = ids[tokens_of(inputs, "rotation", "0/0.png")[2:8]].tolist()
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        assert row["prompt_ids"] == RestorationPrompt(tokenizer, INSTRUCTION).ids(examples, query, 2)

    def test_held_out_needs_another_image(self, inputs, tmp_path):  # noqa: F811
        table = pq.read_table(inputs["tokens"], filters=[("image_id", "==", "0/0.png")])
        pq.write_table(
            pa.table(table).replace_schema_metadata(pq.read_schema(inputs["tokens"]).metadata), tmp_path / "one.parquet"
        )
        with pytest.raises(UserError, match="examples from other images, and the sample has one"):
            self.rows(inputs | {"tokens": tmp_path / "one.parquet"}, tmp_path, "held-out")

    def test_majority_vote_solves_paper_and_not_held_out(self, inputs, tmp_path):  # noqa: F811
        hits = {}
        for protocol in ("paper", "released", "held-out"):
            rows = self.rows(inputs, tmp_path, protocol, "majority-vote", replacement_shares=[0.3] * 10)
            pairs = [pair for row in rows for pair in zip(row["predicted_codes"], row["target_codes"], strict=True)]
            hits[protocol] = np.mean([a == b for a, b in pairs])
            for task in (name for name in RESTORATION_TASKS if corruption_class(name).is_masked):
                asked = [
                    p for row in rows if (row["task"], row["image_id"]) == (task, "0/0.png") for p in row["positions"]
                ]
                assert asked == mask_positions(task, (SIDE, SIDE)).tolist()
        assert hits["paper"] > 0.95 and hits["released"] > 0.95 and hits["held-out"] < 0.2
        assert majority_vote(np.array([[1], [1], [2]])) == [1]


class TestReleasedClassification:
    def test_masks_and_prompts(self, inputs, tmp_path):  # noqa: F811
        grid = [{"ways": [3], "tokens": [3], "induction": [False, True]}]
        path = tmp_path / "p.parquet"
        rows = predictions(
            inputs, path, "classification", protocol="released", classification={"grid": grid, "max_new_tokens": 8}
        )
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        for row in rows:
            prompt = tokenizer.decode(row["prompt_ids"], skip_special_tokens=True)
            names = [name.replace(" ", "_") for name in row["class_names"]]
            assert prompt.endswith("Output: ") and ", " not in prompt.split("###")[-1]
            assert all(f"Output: {name}\n" in prompt for name in names)
            if row["induction"]:
                assert " or ".join(f"['{name}'" for name in names) + "]" in prompt
                ids = [tokenizer(name, add_special_tokens=False).input_ids for name in names]
                assert len(row["output_ids"]) == max(map(len, ids))
                for place, made in enumerate(row["output_ids"]):
                    assert made in {name[place] for name in ids if place < len(name)} | {tokenizer.eos_token_id}
            else:
                assert len(row["output_ids"]) == 8  # max_new_tokens: nothing stops it
        config, source = stage(inputs, "classification"), Source("classification", "tiny", "released")
        (_, masked) = measure_accuracy(config, source, Inputs({"predictions": path}), lambda blocks, made: made(blocks))
        right = [row["output"].strip().startswith(row["target"].replace(" ", "_")) for row in rows if row["induction"]]
        assert masked.values.tolist() == right and masked.protocol == "released" and masked.keys["llm"] == "tiny"


class TestEpisodeFiles:
    def test_the_stage_asks_the_episodes_of_the_file(self, inputs, tmp_path):  # noqa: F811
        (tmp_path / "2_way_1_shot.csv").write_text("0/0.png,1/1.png,1/2.png,\n2/0.png,3/0.png,2/5.png,\n")
        settings = {
            "grid": [{"ways": [2], "tokens": [2]}],
            "episode_files": f"{tmp_path}/{{ways}}_way_{{inner_shots}}_shot.csv",
        }
        rows = predictions(inputs, tmp_path / "p.parquet", "classification", classification=settings)
        assert [row["support_images"] for row in rows] == [["0/0.png", "1/1.png"], ["2/0.png", "3/0.png"]]
        assert [(row["query_image"], row["target"]) for row in rows] == [("1/2.png", "name 1"), ("2/5.png", "name 2")]
        assert all(row["query_image"] not in row["support_images"] for row in rows)

    def test_an_image_that_the_sample_lacks(self, inputs, tmp_path):  # noqa: F811
        (tmp_path / "e.csv").write_text("0/0.png,1/1.png,1/9.png,\n")
        settings = {"grid": [{"ways": [2], "tokens": [2]}], "episode_files": f"{tmp_path}/e.csv"}
        with pytest.raises(UserError, match="e.csv, line 1: image 1/9.png is not among the images of the sample"):
            predictions(inputs, tmp_path / "p.parquet", "classification", classification=settings)


def test_a_restoration_prompt_beyond_the_context_is_named(inputs, tmp_path):  # noqa: F811
    with pytest.raises(
        UserError, match="inpainting of 0/0.png, step 0 has .* tokens.*at most 1024.*replacement_shares"
    ):
        predictions(inputs, tmp_path / "p.parquet", "restoration", restoration={"replacement_shares": [0.1] * 200})
