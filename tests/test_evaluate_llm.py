"""Stage evaluate_llm: both tasks with a tiny LLaMA and with the predictors that need none."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import write_llama
from tests.token_experiment import task_section
from v2l.configuration.evaluation import Classification, Grid, Restoration
from v2l.configuration.model_entries import LLM
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.run_settings import for_run
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import SCHEMA as MANIFEST
from v2l.data.token_table import schema
from v2l.errors import UserError
from v2l.evaluate_llm import run
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, write_parquet, write_tensors
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.vocabulary import Vocabulary
from v2l.runtime import rng
from v2l.tasks import classification
from v2l.tasks.cells import cells_of
from v2l.tasks.image_corruption import mask_positions
from v2l.tasks.restoration_sequences import STEP_SCHEMA
from v2l.tasks.simple_predictors import clip_prototype, majority_vote, token_overlap
from v2l.tasks.token_maps import steps

CLASSES, IMAGES, SIDE, CODES, GLOBAL_TOKENS = 4, 6, 4, 40, 6
CLASSIFICATION = {
    "support_split": "train",
    "query_split": "val",
    "episodes": 3,
    "max_new_tokens": 4,
    "batch_size": 3,
    "grid": [
        {"ways": [2, 3], "tokens": [2], "induction": [True, False], "inner_shots": [1, 2]},
        {"ways": [2], "tokens": [3], "repeats": [0, 1]},
    ],
}
SETTINGS = ("ways", "tokens", "induction", "inner_shots", "repeats")
INSTRUCTION = Restoration().instruction
RESTORATION = {"context_tokens": 4, "batch_size": 2, "replacement_shares": [0.5, 0.2], "images_of": {"few": 3}}
TASKS = {"classification": CLASSIFICATION, "restoration": RESTORATION}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Manifest, tokens, vocabulary, words and features of 24 images, and the tiny LLaMA in folder `llm`."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    write_llama(folder / "llm")
    words = Vocabulary(load_llm("tiny", entry(folder / "llm"), torch.device("cpu"))[1])
    vocabulary = words.identity("tiny")
    pairs = words.subwords()
    columns = {"kind": ["subword"] * len(pairs), "token_ids": [[n] for n, _ in pairs], "text": [t for _, t in pairs]}
    metadata = {"vocabulary": vocabulary | {"subwords": len(pairs)}}
    paths = {name: folder / f"{name}.parquet" for name in ("manifest", "tokens", "vocabulary", "words")}
    write_parquet(paths["vocabulary"], pa.table(columns), {}, metadata)
    write_parquet(paths["words"], pa.table({"text": [f" word{code}" for code in range(30)]}), {}, metadata)
    rows = [
        (f"{label}/{image}.png", "train" if image < 4 else "val", label, f"name {label}", [], [], 8, 8)
        for label in range(CLASSES)
        for image in range(IMAGES)
    ]
    dataset = {"name": "set", "root": "images", "fit": "crop", "classes": [f"name {label}" for label in range(CLASSES)]}
    write_parquet(paths["manifest"], pa.table(list(zip(*rows, strict=True)), schema=MANIFEST), {}, {"dataset": dataset})
    write_tokens(paths["tokens"], rows, metadata, GLOBAL_TOKENS)
    paths["local_tokens"] = folder / "local.parquet"
    write_tokens(paths["local_tokens"], rows, metadata, None)
    paths["features"] = folder / "features.safetensors"
    feature_ND = torch.nn.functional.one_hot(torch.tensor([row[2] for row in rows]), 8).float()
    write_tensors(paths["features"], {"feature_ND": feature_ND}, {})
    return paths | {"llm": folder / "llm"}


def write_tokens(path: Path, rows: list, metadata: dict, global_tokens: int | None) -> None:
    generator = np.random.default_rng(3)
    table = []
    for corruption in ("none", *RESTORATION_TASKS):
        for image_id, split, label, *_ in rows:
            # images of a class share global code `label`, so that overlap finds the class
            ids = [label, *(generator.permutation(26)[: GLOBAL_TOKENS - 1] + 4)] if global_tokens else None
            table.append((image_id, split, label, corruption, ids, generator.integers(CODES, size=SIDE * SIDE)))
    codebooks = {"local_size": CODES, "global_size": 30}
    reads = "global" if global_tokens else None
    tokenizer = {
        "name": "few",
        "method": "v2l",
        "shown_as": "subword",
        "codebooks": codebooks,
        "worded_ids": reads,
        "note": "",
    }
    table = pa.table(list(zip(*table, strict=True)), schema=schema(SIDE * SIDE, GLOBAL_TOKENS))
    write_parquet(path, table, {}, metadata | {"tokenizer": tokenizer, "grid": [SIDE, SIDE]})


def entry(folder: Path) -> LLM:
    return LLM(path=str(folder), dtype="float32")


def stage(inputs: dict, task: str, predictor: str = "tiny", **changes) -> StageConfig:
    data = {
        "seed": 0,
        "job": {"tokenizer": "few", "predictor": predictor, "task": task, "protocol": changes.get("protocol", "paper")},
        "evaluate_llm": task_section(task, TASKS[task] | changes.get(task, {})),
        "llms": {"tiny": {"path": str(inputs["llm"]), "dtype": "float32"}},
    }
    return StageConfig("evaluate_llm", data)


def predictions(inputs: dict, path: Path, task: str, predictor: str = "tiny", **changes) -> list[dict]:
    names = ("tokens", "vocabulary", "words", "manifest", "features")
    run(
        stage(inputs, task, predictor, **changes), Inputs({name: inputs[name] for name in names}), {"predictions": path}
    )
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def classified(inputs, tmp_path_factory):
    path = tmp_path_factory.mktemp("classified") / "predictions.parquet"
    return path, predictions(inputs, path, "classification")


@pytest.fixture(scope="module")
def restored(inputs, tmp_path_factory):
    path = tmp_path_factory.mktemp("restored") / "predictions.parquet"
    return path, predictions(inputs, path, "restoration")


class TestBaselines:
    def test_token_overlap(self):
        support_SK = np.array([[5, 6, 7], [1, 2, 9], [2, 1, 8]])
        assert token_overlap(np.array([1, 2, 3]), support_SK) == 1
        assert token_overlap(np.array([10, 11, 12]), support_SK) == 0

    def test_clip_prototype_takes_the_mean_of_a_class(self):
        support_SD = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.6, 0.8]])
        query_D = np.array([0.8, 0.6])
        assert clip_prototype(query_D, support_SD, [0, 0, 1, 1]) == 0  # the nearest single image is of class 1
        assert clip_prototype(query_D, support_SD, [1, 0, 0, 1]) == 1

    def test_majority_vote(self):
        codes_SM = np.array([[1, 4, 7], [1, 5, 8], [2, 5, 9], [3, 4, 7]])
        assert majority_vote(codes_SM) == [1, 4, 7]  # 4 and 5 are tied: the last example holds 4
        assert majority_vote(np.array([[1], [2], [3]])) == [3]


class TestClassification:
    def test_every_cell_asks_every_episode_once(self, classified):
        rows = classified[1]
        keys = [tuple(row[key] for key in (*SETTINGS, "episode")) for row in rows]
        assert len(set(keys)) == len(keys) == 10 * 3

    def test_cells_that_differ_in_the_prompt_alone_ask_the_same(self, classified):
        asked = {}
        for row in classified[1]:
            question = (row["query_image"], tuple(row["support_images"]), tuple(row["support_labels"]), row["target"])
            asked.setdefault((row["ways"], row["inner_shots"], row["episode"]), set()).add(question)
        assert len(asked) == 12 and all(len(questions) == 1 for questions in asked.values())

    def test_the_query_is_never_among_the_examples(self, inputs, classified):
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        for row in classified[1]:
            assert row["query_image"] not in row["support_images"]
            prompt = tokenizer.decode(row["prompt_ids"])
            assert prompt.count("###") == row["ways"] * row["inner_shots"] * (row["repeats"] + 1) + 1
            assert prompt.rsplit("###", 1)[1].rstrip().endswith("Output:")
            assert ("Name what it shows: " + ", ".join(row["class_names"]) + "." in prompt) == row["induction"]

    def test_answers_are_the_greedy_text_up_to_the_newline(self, inputs, classified):
        model, tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))
        words = Vocabulary(tokenizer)
        stops = {number for number, text in words.subwords() if "\n" in text} | words.control
        for row in classified[1][::5]:
            ids = list(row["prompt_ids"])
            while len(ids) - len(row["prompt_ids"]) < 4 and (
                len(ids) == len(row["prompt_ids"]) or ids[-1] not in stops
            ):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            assert row["output_ids"] == ids[len(row["prompt_ids"]) :]
            assert row["answer"] == row["output"].split("\n")[0].strip()

    def test_the_batch_size_changes_nothing(self, inputs, classified, tmp_path):
        rows = predictions(inputs, tmp_path / "p.parquet", "classification", classification={"batch_size": 16})
        assert rows == classified[1]

    def test_provenance_and_protocol(self, inputs, classified):
        metadata = parquet_metadata(classified[0])
        assert metadata["protocol"] == "paper" and metadata["v2l"]["stage"] == "evaluate_llm"
        expected = {"tokens", "vocabulary", "words", "manifest", "features", "llms.tiny.path"}
        assert set(metadata["v2l"]["inputs"]) == expected
        assert pq.read_schema(classified[0]).remove_metadata() == pa.schema(classification.SCHEMA)

    def test_predictors_without_a_language_model(self, inputs, tmp_path):
        for name in ("token-overlap", "clip-prototype"):
            rows = predictions(inputs, tmp_path / "p.parquet", "classification", name)
            assert len(rows) == 30 and all(row["answer"] in row["class_names"] for row in rows)
            assert all(row["prompt_ids"] == row["output_ids"] == [] for row in rows)
        assert all(row["answer"] == row["target"] for row in rows)  # features are one-hot by class

    @pytest.mark.parametrize(("value", "rows", "said"), [(1, 1, "1 rows, the manifest"), (np.nan, 24, "not finite")])
    def test_features_that_are_not_the_manifests_are_refused(self, inputs, tmp_path, value, rows, said):
        path = tmp_path / "features.safetensors"
        write_tensors(path, {"feature_ND": torch.full((rows, 8), float(value))}, {})
        with pytest.raises(UserError, match=f"features.safetensors has .*{said}"):
            predictions(inputs | {"features": path}, tmp_path / "p.parquet", "classification", "clip-prototype")

    def test_a_tokenizer_can_have_its_own_grid(self):
        own, shared = Grid(ways=[2], tokens=[4]), Grid(ways=[5])
        section = Classification(grid=[shared], grid_of={"few": [own], "other": [Grid(ways=[3])]})
        assert for_run(section, "few", "paper").grid == [own] and for_run(section, "v2l", "paper").grid == [shared]
        assert not for_run(section, "few", "paper").grid_of

    def test_cells_that_two_blocks_share_come_once(self):
        blocks = [Grid(ways=[2], tokens=[5], inner_shots=[1, 3]), Grid(ways=[2], tokens=[5], repeats=[0, 1])]
        found = cells_of(blocks)
        assert [(cell.inner_shots, cell.repeats) for cell in found] == [(1, 0), (3, 0), (1, 1)]

    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ({"tokens": [21]}, "shows 21 tokens, each image has 6.*raise `train_tokenizer.global_tokens`"),
            ({"inner_shots": [5], "tokens": [5]}, "class 'name 0' has 4 images in split 'train'.*at least 5 for 2-way"),
            ({"ways": [5], "tokens": [5]}, "4 classes have images in split 'train'.*at least 5 classes"),
            (
                {"repeats": [60], "tokens": [5]},
                r"episode 0 \(2-way, 1 inner shots, 60 repeats, 5 tokens\) has .*at most 1024",
            ),
        ],
    )
    def test_what_cannot_be_asked_is_told(self, inputs, tmp_path, grid, message):
        changes = {"grid": [{"ways": [2]} | grid]}
        with pytest.raises(UserError, match=message):
            predictions(inputs, tmp_path / "p.parquet", "classification", classification=changes)
        assert not list(tmp_path.iterdir())

    def test_a_tokenizer_without_global_tokens_is_refused(self, inputs, tmp_path):
        with pytest.raises(UserError, match="tokenizer few makes no tokens that stand for words"):
            predictions(inputs | {"tokens": inputs["local_tokens"]}, tmp_path / "p.parquet", "classification")


class TestRestoration:
    def test_every_masked_position_is_predicted_once(self, restored):
        for task in RESTORATION_TASKS:
            rows = [row for row in restored[1] if row["task"] == task]
            images = list(dict.fromkeys(row["image_id"] for row in rows))
            assert images == ["0/0.png", "0/1.png", "0/2.png"]  # images_of
            for image in images:
                mine = [row for row in rows if row["image_id"] == image]
                assert [row["step"] for row in mine] == list(range(len(mine)))
                positions = [position for row in mine for position in row["positions"]]
                assert positions == mask_positions(task, (SIDE, SIDE)).tolist()

    def test_only_codes_of_the_codebook_come_out(self, inputs, restored):
        subword_ids = [ids[0] for ids in pq.read_table(inputs["vocabulary"])["token_ids"].to_pylist()][:CODES]
        for row in restored[1]:
            assert [subword_ids[code] for code in row["predicted_codes"]] == row["output_ids"]

    def test_a_prompt_holds_noisy_examples_and_what_was_predicted_before(self, inputs, restored):
        """The prompt of inpainting's second row, built here from the rows before it."""
        clean = tokens_of(inputs, "none", "0/1.png")
        rows = [row for row in restored[1] if (row["task"], row["image_id"]) == ("inpainting", "0/1.png")]
        assert [row["positions"] for row in rows] == [[5, 6], [9, 10]]
        generator = rng(0, "restoration", "inpainting", "0/1.png")
        variants = []
        for count in (8, 3):  # 50 % and 20 % of 16
            where = generator.choice(16, count, replace=False)
            variant = clean.copy()
            variant[where] = generator.integers(CODES, size=count)
            variants.append(variant)
        seen = clean.copy()
        seen[[5, 6]] = rows[0]["predicted_codes"]
        ids = np.array([ids[0] for ids in pq.read_table(inputs["vocabulary"])["token_ids"].to_pylist()])
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        examples = [(ids[variant[5:9]].tolist(), ids[variant[9:11]].tolist()) for variant in variants]
        prompt = RestorationPrompt(tokenizer, INSTRUCTION)
        assert rows[1]["prompt_ids"] == prompt.ids(examples, ids[seen[5:9]].tolist(), 2)
        assert rows[1]["target_codes"] == clean[[9, 10]].tolist()

    def test_other_tasks_show_the_transformed_map(self, inputs, restored):
        rotated = tokens_of(inputs, "rotation", "0/2.png")
        ids = np.array([ids[0] for ids in pq.read_table(inputs["vocabulary"])["token_ids"].to_pylist()])
        tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
        rows = [row for row in restored[1] if (row["task"], row["image_id"]) == ("rotation", "0/2.png")]
        step = steps(mask_positions("rotation", (SIDE, SIDE)), 2)[3]
        assert rows[3]["positions"] == step.tolist() == [6, 7]
        tail = RestorationPrompt(tokenizer, INSTRUCTION).ids([], ids[rotated[2:8]].tolist(), 2)
        head = len(
            tokenizer("Learn a new language and predict the 2 tokens that follow, as in the examples.\n").input_ids
        )
        assert rows[3]["prompt_ids"][-len(tail[head:]) :] == tail[head:]

    def test_the_batch_size_changes_nothing_but_the_order(self, inputs, restored, tmp_path):
        rows = predictions(inputs, tmp_path / "p.parquet", "restoration", restoration={"batch_size": 7})

        def key(row):
            return row["task"], row["image_id"], row["step"]

        assert sorted(rows, key=key) == sorted(restored[1], key=key)

    def test_majority_vote_copies_the_examples(self, inputs, tmp_path):
        rows = predictions(
            inputs,
            tmp_path / "p.parquet",
            "restoration",
            "majority-vote",
            restoration={"replacement_shares": [0.3] * 10},
        )
        hits = [a == b for row in rows for a, b in zip(row["predicted_codes"], row["target_codes"], strict=True)]
        assert np.mean(hits) > 0.95 and all(row["prompt_ids"] == [] for row in rows)
        assert pq.read_schema(tmp_path / "p.parquet").remove_metadata() == STEP_SCHEMA

    def test_an_unrestricted_model_needs_a_code_for_every_id(self, inputs, tmp_path):
        with pytest.raises(
            UserError, match="has 40 codes and the language model 340 ids.*restrict_to_codebook` to true"
        ):
            predictions(inputs, tmp_path / "p.parquet", "restoration", restoration={"restrict_to_codebook": False})

    def test_a_codebook_larger_than_the_vocabulary_is_refused(self, inputs, tmp_path):
        small = tmp_path / "vocabulary.parquet"
        metadata = {"vocabulary": parquet_metadata(inputs["vocabulary"])["vocabulary"]}
        write_parquet(small, pq.read_table(inputs["vocabulary"]).slice(0, 30), {}, metadata)
        with pytest.raises(UserError, match="tokenizer few has 40 local codes.*has 30 subwords"):
            predictions(inputs | {"vocabulary": small}, tmp_path / "p.parquet", "restoration")

    @pytest.mark.parametrize("predictor", ["tiny", "majority-vote"])
    def test_of_a_larger_codebook_the_codes_that_occur_are_shown_as_ordinary_tokens(self, inputs, tmp_path, predictor):
        tokens = tmp_path / "tokens.parquet"
        metadata = {key: parquet_metadata(inputs["tokens"])[key] for key in ("vocabulary", "tokenizer", "grid")}
        metadata["vocabulary"] = metadata["vocabulary"] | {"ordinary": 185}
        metadata["tokenizer"] = metadata["tokenizer"] | {
            "shown_as": "ordinary token",
            "codebooks": {"local_size": 50_265},
        }
        table = pq.read_table(inputs["tokens"])
        spread = [[7 * code + 100 for code in codes] for codes in table["local_ids"].to_pylist()]
        column = pa.array(spread, table.schema.field("local_ids").type)
        write_parquet(
            tokens, table.set_column(table.column_names.index("local_ids"), "local_ids", column), {}, metadata
        )
        changed = inputs | {"tokens": tokens}
        rows = predictions(changed, tmp_path / "p.parquet", "restoration", predictor)
        plain = predictions(inputs, tmp_path / "plain.parquet", "restoration", predictor)
        # codes 0..39 all occur, so the larger codebook asks the same questions under other names
        for row, other in zip(rows, plain, strict=True):
            assert row["predicted_codes"] == [7 * code + 100 for code in other["predicted_codes"]]
            assert row["target_codes"] == [7 * code + 100 for code in other["target_codes"]]
            assert (row["prompt_ids"], row["output_ids"]) == (other["prompt_ids"], other["output_ids"])

    def test_a_task_without_tokens_is_named(self, inputs, tmp_path):
        tokens = tmp_path / "tokens.parquet"
        table = pq.read_table(inputs["tokens"], filters=[("corruption", "!=", "shift")])
        metadata = {key: parquet_metadata(inputs["tokens"])[key] for key in ("vocabulary", "tokenizer", "grid")}
        write_parquet(tokens, table, {}, metadata)
        with pytest.raises(UserError, match="no images with corruption shift.*samples.restoration.corruptions"):
            predictions(inputs | {"tokens": tokens}, tmp_path / "p.parquet", "restoration")

    @pytest.mark.parametrize("task", ["classification", "restoration"])
    def test_another_vocabulary_is_refused(self, inputs, tmp_path, task):
        tokens = tmp_path / "tokens.parquet"
        metadata = {key: parquet_metadata(inputs["tokens"])[key] for key in ("vocabulary", "tokenizer", "grid")}
        metadata["vocabulary"] = metadata["vocabulary"] | {"llm": "llama-2-7b", "size": 32000, "sha256": "ab" * 32}
        write_parquet(tokens, pq.read_table(inputs["tokens"]), {}, metadata)
        with pytest.raises(UserError, match=r"tiny \(340 ids, .*llama-2-7b \(32000 ids, SHA-256 abababababab\)"):
            predictions(inputs | {"tokens": tokens}, tmp_path / "p.parquet", task)


def tokens_of(inputs: dict, corruption: str, image_id: str) -> np.ndarray:
    filters = [("corruption", "==", corruption), ("image_id", "==", image_id)]
    return np.array(pq.read_table(inputs["tokens"], filters=filters)["local_ids"].to_pylist()[0])
