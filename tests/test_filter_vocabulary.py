"""Stage filter_vocabulary: counts of top-k entries, checked by hand and against a plain sort."""

import hashlib
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from v2l import filter_vocabulary
from v2l.configuration.config import FilterVocabulary
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import SCHEMA
from v2l.errors import UserError
from v2l.filter_vocabulary import decided, top_entries
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_tensors, write_parquet, write_tensors

VOCABULARY = {"llm": "tiny", "size": 9, "sha256": "0" * 64, "subwords": 3}
ENTRIES = [
    ("subword", [3], " cat", (1.0, 0.0)),
    ("subword", [4], " \x01\n", (9.0, 9.0)),
    ("subword", [5], "dog", (0.0, 1.0)),
    ("bigram", [3, 5], " catdog", (0.6, 0.6)),
    ("bigram", [5, 5], "dogdog", (0.0, 0.5)),
    ("trigram", [3, 5, 5], " catdogdog", (-1.0, 0.2)),
]
# Top-2 of the training images: {cat, catdog}, {catdog, cat}, {dog, catdog}; the validation image is not counted.
IMAGES = [
    ("a.png", "train", (1.0, 0.0)),
    ("b.png", "train", (0.8, 0.6)),
    ("c.png", "train", (0.0, 1.0)),
    ("d.png", "val", (-1.0, 0.0)),
]


@pytest.fixture
def stage(tmp_path):
    """Configuration and paths of a run on six entries and four images."""
    kinds, ids, texts, embeddings = zip(*ENTRIES, strict=True)
    vocabulary = pa.table({"kind": kinds, "token_ids": pa.array(ids, pa.list_(pa.int32())), "text": texts})
    rows = [
        {"image_id": name, "split": split, "label": 0, "class_name": "a", "width": 1, "height": 1}
        | {"captions": [], "questions": []}
        for name, split, _ in IMAGES
    ]
    dataset = {"name": "pictures", "root": "nowhere", "fit": "crop", "classes": ["a"]}
    names = {"vocabulary": "vocabulary.parquet", "manifest": "pictures.parquet"}
    names |= {"embedding": "embedding.safetensors", "features": "pictures.safetensors"}
    inputs = {name: tmp_path / file for name, file in names.items()}
    write_parquet(inputs["vocabulary"], vocabulary, {"stage": "expand_vocabulary"}, {"vocabulary": VOCABULARY})
    write_parquet(
        inputs["manifest"], pa.Table.from_pylist(rows, SCHEMA), {"stage": "index_images"}, {"dataset": dataset}
    )
    write_tensors(inputs["embedding"], {"embedding_VD": torch.tensor(embeddings)}, {})
    write_tensors(inputs["features"], {"feature_ND": torch.tensor([feature for *_, feature in IMAGES])}, {})
    outputs = {"codebook": tmp_path / "out" / "codebook.safetensors", "entries": tmp_path / "out" / "entries.parquet"}
    section = FilterVocabulary(dataset="pictures", top_k=2).model_dump(mode="json")
    return {"filter_vocabulary": section}, inputs, outputs


def run(stage, **settings):
    data, inputs, outputs = stage
    data["filter_vocabulary"] |= settings
    filter_vocabulary.run(StageConfig("filter_vocabulary", data), Inputs(inputs), outputs)
    return read_tensors(outputs["codebook"]), pq.read_table(outputs["entries"]).to_pylist()


def test_golden_counts_and_codebooks(stage, caplog):
    caplog.set_level(logging.INFO)
    (tensors, _), entries = run(stage)
    assert [entry["codebook"] for entry in entries] == ["global"] * 3 + ["subword_global"] * 2
    assert tensors["subword_global_entries_V"].tolist() == [0, 2] and [entry["count"] for entry in entries[3:]] == [
        3,
        3,
    ]
    assert tensors["subword_global_VD"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    entries = entries[:3]
    assert [(entry["entry"], entry["text"], entry["count"]) for entry in entries] == [
        (0, " cat", 2),
        (2, "dog", 1),
        (3, " catdog", 3),
    ]
    assert [entry["token_ids"] for entry in entries] == [[3], [5], [3, 5]]
    assert [entry["kind"] for entry in entries] == ["subword", "subword", "bigram"]
    assert tensors["global_entries_V"].tolist() == [0, 2, 3]
    assert tensors["global_VD"].tolist() == torch.tensor([(1.0, 0.0), (0.0, 1.0), (0.6, 0.6)]).tolist()
    assert tensors["local_VD"].tolist() == [[1.0, 0.0], [9.0, 9.0], [0.0, 1.0]]
    assert "global: kept 3 of 5 entries (2 subwords, 1 bigrams) from 3 images" in caplog.text


@pytest.mark.parametrize(("min_count", "kept"), [(2, [0, 3]), (3, [3])])
def test_min_count_keeps_the_more_frequent(stage, min_count, kept):
    assert run(stage, min_count=min_count)[0][0]["global_entries_V"].tolist() == kept


def test_another_split_counts_other_images(stage):
    # Highest for (-1, 0): catdogdog with 1, then dog and dogdog with 0 each; of the two the lower entry wins.
    assert run(stage, split="val")[0][0]["global_entries_V"].tolist() == [2, 5]


def test_facts_hashes_and_provenance(stage):
    data, inputs, outputs = stage
    (tensors, metadata), _ = run(stage)
    expected = {"global_size": 3, "local_size": 3, "subword_global_size": 2}
    for name in ("global", "local", "subword_global"):
        codebook_VD = tensors[f"{name}_VD"]
        shape = str(tuple(codebook_VD.shape)).encode()
        expected[name] = hashlib.sha256(shape + codebook_VD.numpy().tobytes()).hexdigest()
    for found in (metadata, parquet_metadata(outputs["entries"])):
        assert found["vocabulary"] == VOCABULARY
        assert found["codebooks"] == expected
        assert found["v2l"]["stage"] == "filter_vocabulary"
        assert found["v2l"]["config"] == data
        assert sorted(found["v2l"]["inputs"]) == ["embedding", "features", "manifest", "vocabulary"]
    schema = pq.read_schema(outputs["entries"])
    assert {field.name: str(field.type) for field in schema} == {
        "codebook": "string",
        "entry": "int32",
        "kind": "string",
        "token_ids": "list<element: int32>",
        "text": "string",
        "count": "int32",
    }


def counted(embedding_VD, feature_ND, rows, top_k, batch_size):
    """How many images have each entry among their top-k, by the stage's own search in batches."""
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    best = np.concatenate(list(top_entries(embedding_VD, feature_ND, batches, top_k)))
    return np.bincount(best, minlength=len(embedding_VD))


def by_sorting(embedding_VD, feature_ND, rows, top_k):
    """The same counts from a stable sort of all scores."""
    order = np.argsort(-(feature_ND[rows] @ embedding_VD.T), axis=1, kind="stable")[:, :top_k]
    return np.bincount(order.ravel(), minlength=len(embedding_VD))


small = hnp.arrays(np.float32, st.tuples(st.integers(5, 12), st.just(3)), elements=st.integers(-2, 2).map(float))


@settings(max_examples=60, deadline=None)
@given(embedding=small, feature=small, top_k=st.integers(1, 5), batch=st.integers(1, 13))
def test_counts_with_ties_equal_a_stable_sort_at_any_batch_size(embedding, feature, top_k, batch):
    rows = np.arange(0, len(feature), 2)
    counts = counted(torch.from_numpy(embedding), torch.from_numpy(feature), rows, top_k, batch)
    assert counts.sum() == len(rows) * top_k
    assert counts.tolist() == by_sorting(embedding, feature, rows, top_k).tolist()


few = st.integers(-2, 2).map(float)


@settings(max_examples=150, deadline=None)
@given(
    distinct=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2)), elements=few),
    copied=st.lists(st.integers(0, 5), min_size=1, max_size=25),
    feature=hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(2)), elements=few),
    top_k=st.integers(1, 25),
    batch=st.integers(1, 9),
)
def test_of_copies_and_ties_the_lower_entries_win_in_every_image(distinct, copied, feature, top_k, batch):
    embedding = distinct[np.array(copied) % len(distinct)]
    top_k = min(top_k, len(embedding))
    batches = np.split(np.arange(len(feature)), range(batch, len(feature), batch))
    best = np.concatenate(list(top_entries(torch.from_numpy(embedding), torch.from_numpy(feature), batches, top_k)))
    order = np.argsort(-(feature @ embedding.T), axis=1, kind="stable")[:, :top_k]
    assert np.sort(best.reshape(-1, top_k), axis=1).tolist() == np.sort(order, axis=1).tolist()


def test_scores_are_of_distinct_entries_alone(monkeypatch):
    widths = []
    monkeypatch.setattr(
        filter_vocabulary, "decided", lambda score_BU, top_k: widths.append(score_BU.shape) or decided(score_BU, top_k)
    )
    embedding_VD = torch.eye(4)[torch.arange(40) % 4]
    best = list(top_entries(embedding_VD, torch.eye(4), [np.arange(3), np.arange(3, 4)], 2))
    assert widths == [(3, 4), (1, 4)]
    assert [rows.tolist() for rows in best] == [[0, 4, 1, 5, 2, 6], [3, 7]]


def test_a_batch_without_memory_is_halved_unless_it_is_the_user_s(monkeypatch, caplog):
    def short_of_memory(score_BU, top_k):
        if len(score_BU) > 3:
            raise torch.OutOfMemoryError
        return decided(score_BU, top_k)

    monkeypatch.setattr(filter_vocabulary, "decided", short_of_memory)
    embedding_VD, feature_ND = torch.eye(9), torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    found = np.concatenate(list(top_entries(embedding_VD, feature_ND, [np.arange(20)], 2)))
    assert found.tolist() == feature_ND.topk(2, dim=1).indices.flatten().tolist()
    assert [record.args[1] for record in caplog.records] == [20, 10, 5]
    assert "no memory for 5 images at once" in caplog.text and "going on with 2" in caplog.text
    with pytest.raises(UserError, match=r"20 images at once.*lower `filter_vocabulary.batch_size`"):
        list(top_entries(embedding_VD, feature_ND, [np.arange(20)], 2, batch_size=20))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), batch=st.integers(1, 40))
def test_copies_of_an_entry_do_not_depend_on_the_batch(seed, batch):
    generator = torch.Generator().manual_seed(seed)
    embedding_VD = torch.randn(20, 64, generator=generator)[torch.arange(60) % 20]
    feature_ND = torch.randn(30, 64, generator=generator)
    counts = counted(embedding_VD, feature_ND, np.arange(30), 5, batch)
    assert counts.sum() == 150
    # The best text's three copies fill places 1 to 3, the second best's lower two copies places 4 and 5.
    best_N = (feature_ND.double() @ embedding_VD[:20].double().T).argmax(dim=1)
    assert counts[40:].tolist() == np.bincount(best_N.numpy(), minlength=20).tolist()
    assert counts[:20].tolist() == counts[20:40].tolist()


def test_refusals_name_the_key(stage):
    with pytest.raises(UserError, match="min_count` = 4.*most frequent entry has 3.*lower min_count"):
        run(stage, min_count=4)
    with pytest.raises(UserError, match=r"`filter_vocabulary.split` is 'test'.*\['train', 'val'\]"):
        run(stage, min_count=1, split="test")
    with pytest.raises(UserError, match="5 entries with visible text.*top_k` = 6"):
        run(stage, split="train", top_k=6)
    assert not stage[2]["codebook"].exists()


def test_every_entry_counts_when_top_k_is_the_whole_vocabulary(stage):
    assert [entry["count"] for entry in run(stage, top_k=5)[1]] == [3] * (
        5 + 2
    )  # of the expanded and of the subword codebook


@pytest.mark.parametrize("name", ["embedding", "features"])
def test_files_of_different_lengths_are_refused(stage, name):
    path = stage[1][name]
    tensors, _ = read_tensors(path)
    write_tensors(path, {key: tensor[:-1] for key, tensor in tensors.items()}, {})
    with pytest.raises(UserError, match=f"{path} has . rows"):
        run(stage)


@pytest.mark.parametrize("name", ["embedding", "features"])
def test_values_that_are_not_finite_are_refused(stage, name):
    path = stage[1][name]
    tensors, _ = read_tensors(path)
    write_tensors(path, {key: tensor.index_fill(0, torch.tensor(0), torch.nan) for key, tensor in tensors.items()}, {})
    with pytest.raises(UserError, match=f"{path} has .* that are not finite"):
        run(stage)
