"""Every source of predictions on tiny files with known answers."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from tests.tiny import picture
from v2l.configuration.cell_settings import CELL_SETTINGS, CellSetting
from v2l.configuration.config import ScorePredictions
from v2l.configuration.measures import MEASURES
from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_training import Network
from v2l.data.geometry import network_geometry
from v2l.data.images import encode_png, open_image, tokenizer_image
from v2l.data.manifest import SCHEMA
from v2l.data.token_table import WORDS_SCHEMA, schema
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.records import read_beside
from v2l.io.storage import parquet_metadata, tensor_metadata, write_parquet, write_tensors
from v2l.metrics.rows import VALUE_COLUMNS
from v2l.models.lpips_network import empty_lpips
from v2l.score_predictions import run

GEOMETRY = network_geometry(Network(image_size=32, resize_via=None))
PIXELS = {"geometry": GEOMETRY.model_dump(), "note": "", "global_tokens": None}  # what no tokenizer made
NAMED = ["method", "tokenizer", "llm"]
CELL = ["ways", "tokens", "inner_shots", "repeats", "induction"]
NAMES = [f"class{label}/{number}.png" for label in range(2) for number in range(3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Metric weights, a manifest of six pictures, and tokenizer weights that hold metadata alone."""
    folder = tmp_path_factory.mktemp("score")
    torch.manual_seed(0)
    lpips_network = empty_lpips("alex")
    for head in lpips_network.lins:
        head.model[-1].weight.abs_()
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in lpips_network.state_dict().items()},
        folder / "alex.safetensors",
    )
    torch.save(EfficientNet.from_name("efficientnet-lite0").state_dict(), folder / "lite0.pth")
    for name in NAMES:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(int(name[5]), int(name[7])).save(path)
    labels = [int(name[5]) for name in NAMES]
    n = len(NAMES)
    columns = [NAMES, ["val"] * n, labels, [f"class{label}" for label in labels], [[]] * n, [[]] * n]
    columns += [[48] * n, [40] * n]
    metadata = {
        "dataset": {"name": "toy", "root": str(folder / "images"), "fit": "crop", "classes": ["class0", "class1"]}
    }
    write_parquet(folder / "manifest.parquet", pa.table(columns, schema=SCHEMA), {}, metadata)
    for name, code in (("v2l", "hash"), ("vqgan", None)):
        codebooks = {"local": "hash", "global": code, "local_size": 4, "global_size": 4 if code else None}
        fact = {
            "name": name,
            "method": name,
            "geometry": GEOMETRY.model_dump(),
            "global_tokens": 21 if code else 0,
            "note": "",
            "codebooks": codebooks,
        }
        write_tensors(folder / f"{name}.safetensors", {"empty": torch.zeros(1)}, {}, {"tokenizer": fact})
    return folder


def score(files, folder, tokenizer, source, inputs, **changes):
    """Run the stage; its rows, items and output paths."""
    section = ScorePredictions(
        lpips_weights=str(files / "alex.safetensors"),
        frechet="efficientnet-lite0",
        frechet_weights=str(files / "lite0.pth"),
        bootstrap_samples=100,
        semantic_tokens=[1, 2],
    ).model_dump()
    job = {"tokenizer": tokenizer, "source": source}
    config = StageConfig("score_predictions", {"seed": 0, "score_predictions": section | changes, "job": job})
    outputs = {"metrics": folder / "metrics.json", "per_item": folder / "items.parquet"}
    run(config, Inputs(inputs), outputs)
    return json.loads(outputs["metrics"].read_text())["rows"], pq.read_table(outputs["per_item"]).to_pylist(), outputs


def write_predictions(path, rows):
    """Classification predictions: (tokens, induction, answer, target) of each episode."""
    records = [
        {"ways": 2, "tokens": tokens, "inner_shots": 1, "repeats": 0, "induction": induction, "episode": i}
        | {"answer": answer, "target": target}
        for i, (tokens, induction, answer, target) in enumerate(rows)
    ]
    types = [(name, pa.int32()) for name in ("ways", "tokens", "inner_shots", "repeats", "episode")]
    types += [("induction", pa.bool_()), ("answer", pa.string()), ("target", pa.string())]
    write_parquet(
        path, pa.Table.from_pylist(records, pa.schema(types)), {}, {"protocol": "paper", "tokenizer_note": ""}
    )
    return {"predictions": path}


ANSWERS = [
    *[(5, True, answer, "king crab") for answer in ("king crab", " king crab\t", "king", "King crab", "king crab s")],
    *[(21, True, "drum", "drum"), (21, True, "", "drum")],
]


def test_accuracy_counts_exact_answers_in_each_cell(files, tmp_path):
    inputs = write_predictions(tmp_path / "predictions.parquet", ANSWERS[::-1])
    rows, items, outputs = score(files, tmp_path, "v2l", "classification.llama-2-7b.q4", inputs)
    assert [(row["tokens"], row["value"], row["n"]) for row in rows] == [(5, 0.4, 5), (21, 0.5, 2)]
    assert list(rows[0]) == [*NAMED, *CELL, *VALUE_COLUMNS]
    assert list(items[0]) == [*NAMED, *CELL, "item", "metric", "value"]
    assert {
        name: rows[0][name] for name in ("method", "tokenizer", "llm", "ways", "induction", "protocol", "note")
    } == {
        "method": "v2l",
        "tokenizer": "v2l",
        "llm": "llama-2-7b.q4",
        "ways": 2,
        "induction": True,
        "protocol": "paper",
        "note": "metric mode standard",
    }
    assert 0 <= rows[0]["ci_low"] < 0.4 < rows[0]["ci_high"] <= 1
    assert sum(item["value"] for item in items) == 3 and len(items) == 7
    assert {item["metric"] for item in items} == {"accuracy"}
    record = read_beside(tmp_path / "metrics.json") or {}
    del record["content_sha256"]
    assert record == parquet_metadata(outputs["per_item"])["v2l"]
    assert record["config"]["seed"] == 0 and len(record["inputs"]["predictions"][0]["sha256"]) == 64


@pytest.mark.parametrize(("predictor", "tokenizer"), [("token-overlap", "v2l"), ("clip-prototype", None)])
def test_baselines_of_table_1_have_no_language_model(files, tmp_path, predictor, tokenizer):
    inputs = write_predictions(tmp_path / "predictions.parquet", ANSWERS)
    row = score(files, tmp_path, "v2l", f"classification.{predictor}", inputs)[0][0]
    assert (row["method"], row["tokenizer"], row["llm"]) == (predictor, tokenizer, None)
    assert "no language model" in row["note"]


def test_further_settings_of_a_cell_are_keys(files, tmp_path, registries):
    CELL_SETTINGS.add("order", CellSetting("forwards", "nowhere:none"))
    inputs = write_predictions(tmp_path / "predictions.parquet", ANSWERS[:4])
    table = pq.read_table(inputs["predictions"])
    table = table.append_column("order", pa.array(["forwards", "backwards"] * 2))
    write_parquet(inputs["predictions"], table, {}, {"protocol": "paper", "tokenizer_note": ""})
    rows, items, _ = score(files, tmp_path, "v2l", "classification.llm", inputs)
    assert list(rows[0]) == [*NAMED, *CELL, "order", *VALUE_COLUMNS]
    assert [(row["order"], row["value"], row["n"]) for row in rows] == [("backwards", 0.5, 2), ("forwards", 0.5, 2)]
    assert [item["order"] for item in items] == ["backwards"] * 2 + ["forwards"] * 2


def test_every_source_has_its_measure(files, tmp_path):
    assert all(callable(implementation_of(measure)) for measure in MEASURES.values())
    inputs = write_predictions(tmp_path / "predictions.parquet", ANSWERS)
    with pytest.raises(UserError, match="source 'clasification' is not known.*did you mean `classification`"):
        score(files, tmp_path, "v2l", "clasification.llm", inputs)


def test_an_interval_needs_spread(files, tmp_path):
    inputs = write_predictions(tmp_path / "predictions.parquet", [(5, True, "a", "a")] * 3 + [(9, True, "a", "b")])
    rows = score(files, tmp_path, "v2l", "classification.llm", inputs)[0]
    assert [(row["value"], row["ci_low"], row["ci_high"]) for row in rows] == [(1, None, None), (0, None, None)]
    assert "all items are equal" in rows[0]["note"] and "a single item" in rows[1]["note"]


def test_empty_predictions_are_an_error(files, tmp_path):
    inputs = write_predictions(tmp_path / "predictions.parquet", [])
    with pytest.raises(UserError, match="predictions.parquet holds no predictions"):
        score(files, tmp_path, "v2l", "classification.llm", inputs)
    assert not list(tmp_path.glob("metrics.json*"))


def write_semantics(folder, files, global_ids, images=NAMES):
    """Tokens whose clean rows have `global_ids`, a corrupted row, and a vocabulary of four directions."""
    n = len(images)
    columns = [
        [*images, images[0]],
        ["val"] * (n + 1),
        [0] * (n + 1),
        ["none"] * n + ["shift"],
        [*global_ids, global_ids[0]],
        [[0]] * (n + 1),
    ]
    metadata = {"tokenizer": {"worded_ids": "global" if global_ids[0] else None, "note": ""}, "grid": [1, 1]}
    write_parquet(folder / "tokens.parquet", pa.table(columns, schema=schema(1, 2)), {}, metadata)
    embedding_VD = torch.tensor([[9.0, 9.0], [0.5, 0.0], [3.0, 4.0], [-2.0, 0.0]])
    write_tensors(folder / "embedding.safetensors", {"embedding_VD": embedding_VD}, {})
    write_parquet(folder / "words.parquet", pa.table([range(3), ["x", "xy", "-x"], [1, 2, 3]], WORDS_SCHEMA), {})
    feature_ND = torch.tensor([[1.0, 0.0]] * (len(NAMES) - 1) + [[0.0, 1.0]])
    write_tensors(folder / "features.safetensors", {"feature_ND": feature_ND}, {})
    named = {name: folder / f"{name}.safetensors" for name in ("embedding", "features")}
    return (
        named
        | {name: folder / f"{name}.parquet" for name in ("tokens", "words")}
        | {"manifest": files / "manifest.parquet"}
    )


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_clip_scores_by_hand(files, tmp_path, batch_size):
    """Images look along x, the last one along y; codes 0, 1, 2 are the directions x, (0.6, 0.8) and -x."""
    inputs = write_semantics(tmp_path, files, [[0, 1]] * 5 + [[1, 0]])
    rows, items, _ = score(files, tmp_path, "v2l", "semantics", inputs, batch_size=batch_size)
    found = {(row["tokens"], row["metric"]): row for row in rows}
    assert list(rows[0]) == ["method", "vocabulary_size", "tokens", *VALUE_COLUMNS]
    assert {row["vocabulary_size"] for row in rows} == {3} and {row["n"] for row in rows} == {6}
    assert found[1, "clip_score"]["value"] == pytest.approx((5 * 100 + 80) / 6, abs=1e-4)
    assert found[2, "clip_score"]["value"] == pytest.approx((5 * 80 + 40) / 6, abs=1e-4)
    assert found[2, "clip_r"]["value"] == pytest.approx((5 * 0.8 + 0.4 / 0.8) / 6, abs=1e-6)
    assert "our reading" in found[1, "clip_r"]["note"]
    assert [item["value"] for item in items if item["tokens"] == 2 and item["metric"] == "clip_score"] == pytest.approx(
        [80] * 5 + [40]
    )


def test_semantics_names_what_does_not_fit(files, tmp_path):
    with pytest.raises(UserError, match=r"semantic_tokens` asks for 3 global tokens, .* holds 2"):
        score(
            files, tmp_path, "v2l", "semantics", write_semantics(tmp_path, files, [[0, 1]] * 6), semantic_tokens=[1, 3]
        )
    with pytest.raises(UserError, match="asks for 2 global tokens, .* holds 0"):
        score(files, tmp_path, "vqgan", "semantics", write_semantics(tmp_path, files, [None] * 6))
    with pytest.raises(UserError, match="image 'other.png', which the manifest does not"):
        inputs = write_semantics(tmp_path, files, [[0, 1]] * 6, [*NAMES[:5], "other.png"])
        score(files, tmp_path, "v2l", "semantics", inputs)
    inputs = write_semantics(tmp_path, files, [[0, 1]] * 6)
    for feature_ND, said in [(torch.ones(9, 2), "9 rows, the manifest"), (torch.ones(6, 2) / 0, "not finite")]:
        write_tensors(inputs["features"], {"feature_ND": feature_ND}, {})
        with pytest.raises(UserError, match=f"features.safetensors has .*{said}"):
            score(files, tmp_path, "v2l", "semantics", inputs)


def original(files, name):
    return np.asarray(tokenizer_image(open_image(files / "images" / name), GEOMETRY, "crop"))


def write_images(folder, files, tasks, offset, names=NAMES, tokenizer="v2l", **changed):
    """Images that are `offset` brighter than their originals (clipped), for each task."""
    records = []
    for task in tasks:
        for name in names:
            source = name if name in NAMES else NAMES[0]
            pixels = (original(files, source).astype(int) + offset).clip(0, 255).astype(np.uint8)
            records.append({"image_id": name, "task": task, "image": encode_png(pixels)})
    columns = pa.schema([("image_id", pa.string()), ("task", pa.string()), ("image", pa.binary())])
    metadata = tensor_metadata(files / f"{tokenizer}.safetensors")["tokenizer"] if tokenizer != "pixels" else PIXELS
    write_parquet(folder / "images.parquet", pa.Table.from_pylist(records, columns), {}, metadata | changed)
    return {"images": folder / "images.parquet", "manifest": files / "manifest.parquet"}


def test_reconstruction_is_compared_with_the_originals(files, tmp_path, caplog):
    inputs = write_images(tmp_path, files, ["reconstruction"], 5)
    rows, items, _ = score(files, tmp_path, "v2l", "reconstruction", inputs)
    assert [row["metric"] for row in rows] == ["lpips", "psnr", "ssim", "fd_efficientnet_lite0"]
    assert list(rows[0]) == ["method", "global_tokens", *VALUE_COLUMNS]
    assert {(row["method"], row["global_tokens"], row["n"]) for row in rows} == {("v2l", 21, 6)}
    found = {row["metric"]: row for row in rows}
    shift = [(original(files, name).astype(int) + 5).clip(0, 255) - original(files, name) for name in NAMES]
    expected = [10 * np.log10(255**2 / (difference**2).mean()) for difference in shift]
    assert [item["value"] for item in items if item["metric"] == "psnr"] == pytest.approx(expected, abs=1e-3)
    assert found["psnr"]["value"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert 0.9 < found["ssim"]["value"] < 1 and found["lpips"]["value"] > 0
    frechet = found["fd_efficientnet_lite0"]
    assert frechet["value"] > 0 and frechet["ci_low"] is None
    assert "belongs to the set" in frechet["note"] and "6 images for 1280 features" in frechet["note"]
    assert "warning" in frechet["note"] and "6 images for 1280 features" in caplog.text
    assert all("metric mode standard" in row["note"] for row in rows)


def test_released_mode_is_in_rows_and_values(files, tmp_path):
    inputs = write_images(tmp_path, files, ["reconstruction"], 5)
    rows = {
        mode: score(files, tmp_path, "v2l", "reconstruction", inputs, mode=mode)[0] for mode in ("standard", "released")
    }
    both = {row["metric"]: (row, other) for row, other in zip(*rows.values(), strict=True)}
    for metric in ("lpips", "psnr"):
        standard, released = both[metric]
        assert standard["value"] != pytest.approx(released["value"], rel=0.01)
        assert "metric mode released: " in released["note"] and "metric mode standard" in standard["note"]
    for metric in ("ssim", "fd_efficientnet_lite0"):
        assert both[metric][0]["value"] == both[metric][1]["value"]
    assert "metric mode standard" in both["fd_efficientnet_lite0"][1]["note"]


def test_image_metrics_do_not_depend_on_the_batch_size(files, tmp_path):
    inputs = write_images(tmp_path, files, ["inpainting", "shift"], 40)
    whole = score(files, tmp_path, "v2l", "restoration.llm", inputs)[0]
    parts = score(files, tmp_path, "v2l", "restoration.llm", inputs, batch_size=4)[0]
    for row, other in zip(whole, parts, strict=True):
        assert {key: row[key] for key in ("task", "metric", "n", "note")} == {
            key: other[key] for key in ("task", "metric", "n", "note")
        }
        assert row["value"] == pytest.approx(other["value"], rel=1e-3)


@pytest.mark.parametrize(
    ("tokenizer", "source", "keys", "note"),
    [
        ("vqgan", "reconstruction", {"method": "vqgan", "global_tokens": 0}, ""),
        ("pixels", "reconstruction.mean-image", {"method": "mean-image", "global_tokens": None}, "lower bound"),
        (
            "pixels",
            "restoration.corrupted-input",
            {"method": "corrupted-input", "tokenizer": None, "llm": None},
            "lower bound",
        ),
        (
            "v2l",
            "restoration.llm-7b",
            {"method": "v2l", "tokenizer": "v2l", "llm": "llm-7b"},
            "noised copies of the answer",
        ),
        (
            "v2l",
            "restoration.llm-7b@released",
            {"method": "v2l", "tokenizer": "v2l", "llm": "llm-7b", "protocol": "released"},
            "noised copies of the answer",
        ),
        (
            "v2l",
            "restoration.llm-7b@held-out",
            {"method": "v2l", "tokenizer": "v2l", "llm": "llm-7b", "protocol": "held-out"},
            "",
        ),
        (
            "v2l",
            "restoration.majority-vote",
            {"method": "majority-vote", "tokenizer": "v2l", "llm": None},
            "no language model",
        ),
        (
            "v2l",
            "restoration.tokenizer-oracle",
            {"method": "tokenizer-oracle", "tokenizer": "v2l", "llm": None},
            "upper bound",
        ),
        ("v2l", "masked.llm-7b", {"method": "v2l", "tokenizer": "v2l", "llm": "llm-7b"}, "fine-tuned with LoRA"),
        (
            "v2l",
            "masked.corrupted-input",
            {"method": "corrupted-input", "tokenizer": "v2l", "llm": None},
            "zero vectors in place of the masked tokens",
        ),
    ],
)
def test_keys_of_every_image_source(files, tmp_path, tokenizer, source, keys, note):
    rows = score(
        files, tmp_path, tokenizer, source, write_images(tmp_path, files, ["rotation"], 9, NAMES[:2], tokenizer)
    )[0]
    assert [row["metric"] for row in rows] == ["lpips", "psnr", "ssim", "fd_efficientnet_lite0"]
    for row in rows:
        assert {key: row[key] for key in keys} == keys and row["protocol"] == keys.get("protocol", "paper")
        assert note in row["note"] and ("noised copies" in row["note"]) == ("noised copies" in note)
        assert row.get("task", "rotation") == "rotation"
    expected = ["method", "global_tokens"] if source.startswith("reconstruction") else [*NAMED, "task"]
    assert list(rows[0]) == [*expected, *VALUE_COLUMNS]


def test_image_metrics_can_be_chosen(files, tmp_path):
    inputs = write_images(tmp_path, files, ["shift"], 9, NAMES[:2])
    rows, items, _ = score(files, tmp_path, "v2l", "restoration.llm", inputs, image_metrics=["ssim"])
    assert [row["metric"] for row in rows] == ["ssim", "fd_efficientnet_lite0"]
    assert {item["metric"] for item in items} == {"ssim"}


def test_one_image_has_no_frechet_distance_and_equal_images_no_psnr(files, tmp_path):
    rows = score(
        files, tmp_path, "pixels", "restoration.corrupted-input", write_images(tmp_path, files, ["shift"], 0, NAMES[:1])
    )[0]
    found = {row["metric"]: row for row in rows}
    frechet = found["fd_efficientnet_lite0"]
    assert (frechet["value"], frechet["n"]) == (None, 1) and "at least 2 images" in frechet["note"]
    assert found["psnr"]["value"] is None and "1 of 1 items are infinite" in found["psnr"]["note"]
    assert found["lpips"]["value"] == 0


def test_wrong_image_files_are_named(files, tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        score(files, tmp_path, "v2l", "reconstruction", write_images(tmp_path, files, [], 0))
    with pytest.raises(UserError, match="image 'gone.png', which the manifest does not"):
        inputs = write_images(tmp_path, files, ["reconstruction"], 0, [*NAMES[:1], "gone.png"])
        score(files, tmp_path, "v2l", "reconstruction", inputs)
    inputs = write_images(tmp_path, files, ["reconstruction"], 1, NAMES[:2])
    for key in ("lpips_weights", "frechet_weights"):
        with pytest.raises(UserError, match="missing.file"):
            score(files, tmp_path, "v2l", "reconstruction", inputs, **{key: str(tmp_path / "missing.file")})
    assert not list(tmp_path.glob("metrics.json*"))


def test_an_original_that_vanished_is_named(files, tmp_path):
    name = "class0/0.png"
    inputs = write_images(tmp_path, files, ["reconstruction"], 0, [name])
    metadata = parquet_metadata(inputs["manifest"]) | {
        "dataset": {"name": "toy", "root": str(tmp_path), "fit": "crop", "classes": []}
    }
    table = pq.read_table(inputs["manifest"])
    write_parquet(tmp_path / "manifest.parquet", table, {}, metadata)
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        score(files, tmp_path, "v2l", "reconstruction", inputs | {"manifest": tmp_path / "manifest.parquet"})


def test_images_too_small_for_lpips_are_refused_with_the_key(files, tmp_path):
    small = network_geometry(Network(image_size=16, resize_via=None)).model_dump()
    inputs = write_images(tmp_path, files, ["reconstruction"], 0, geometry=small)
    with pytest.raises(UserError, match="train_tokenizer.network.image_size` is 16"):
        score(files, tmp_path, "v2l", "reconstruction", inputs)
