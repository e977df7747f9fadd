import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.token_experiment import GEOMETRY, GLOBAL_TOKENS, SUBWORDS, build, stage_config
from v2l import reconstruct_images
from v2l.configuration.config import Corruption
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.data.images import decode_png, encode_png, open_image, to_uint8, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens, schema
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, write_parquet
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.tasks.decoded_images import restored_maps
from v2l.tasks.image_corruption import corrupted, mask_positions
from v2l.tasks.token_maps import image_mask, steps

IMAGES = [f"val/{number}.png" for number in range(3, 7)]
KEYS = [
    "seed",
    "train_tokenizer.network",
    "train_tokenizer.splits",
    "reconstruct_images",
    "evaluate_llm",
    "extract_tokens",
    "samples.reconstruction",
]
STEP = [("task", pa.string()), ("image_id", pa.string())]
STEP += [(name, pa.list_(pa.int32())) for name in ("positions", "predicted_codes")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The experiment's files, and tokens of the four `val` images: random codes, clean and rotated, per tokenizer."""
    folder = tmp_path_factory.mktemp("reconstruct")
    names = build(folder)
    generator = np.random.default_rng(1)
    for tokenizer in ("v2l", "vqgan"):
        rows = []
        for corruption in ("none", "rotation"):
            for image_id in IMAGES:
                global_ids = generator.integers(7, size=GLOBAL_TOKENS).tolist() if tokenizer == "v2l" else None
                rows.append(
                    (image_id, "val", 0, corruption, global_ids, generator.integers(SUBWORDS, size=16).tolist())
                )
        table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema(16, GLOBAL_TOKENS))
        metadata = {"tokenizer": tokenizer_description(names[f"weights.{tokenizer}"]), "grid": [4, 4]}
        names[f"tokens.{tokenizer}"] = folder / f"tokens.{tokenizer}.parquet"
        write_parquet(names[f"tokens.{tokenizer}"], table, {}, metadata)
    return names


def reconstruct(files, path, source, tokenizer="v2l", predictions=None, **overrides):
    config = stage_config(
        "reconstruct_images",
        [*KEYS, "samples.restoration"],
        {"tokenizer": tokenizer, "source": source},
        **overrides,
    )
    inputs = {"manifest": files["manifest"], "train_manifest": files["manifest"]}
    if tokenizer != "pixels":
        inputs = {"weights": files[f"weights.{tokenizer}"], "tokens": files[f"tokens.{tokenizer}"]}
    if predictions:
        inputs["predictions"] = predictions
    reconstruct_images.run(config, Inputs(inputs), {"images": path})
    table = pq.read_table(path)
    keys = list(zip(table["image_id"].to_pylist(), table["task"].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)
    return {key: decode_png(data) for key, data in zip(keys, table["image"].to_pylist(), strict=True)}


def decode(files, tokenizer, local_ids, global_ids):
    network = load_tokenizer(files[f"weights.{tokenizer}"])
    context = None if global_ids is None else torch.tensor([global_ids])
    return to_uint8(network.decode(torch.tensor([local_ids]), context))[0].numpy()


def clean(files, tokenizer="v2l"):
    rows = pq.read_table(files[f"tokens.{tokenizer}"]).to_pylist()[: len(IMAGES)]
    return {row["image_id"]: (row["local_ids"], row["global_ids"]) for row in rows}


def predict(path, codes_of, tasks=RESTORATION_TASKS, images=IMAGES):
    """A predictions file: for each task and image, steps of two positions with the codes of `codes_of(image_id)`."""
    rows = []
    for task in tasks:
        for image_id in images:
            for group in steps(mask_positions(task, (4, 4)), 2):
                rows.append((task, image_id, group.tolist(), [int(codes_of(image_id)[position]) for position in group]))
    columns = [list(column) for column in zip(*rows, strict=True)]
    write_parquet(path, pa.table(columns, schema=pa.schema(STEP)), {}, {"protocol": "paper"})
    return path


@pytest.mark.parametrize("tokenizer", ["v2l", "vqgan"])
def test_reconstruction_decodes_clean_tokens(files, tmp_path, tokenizer):
    images = reconstruct(files, tmp_path / "i.parquet", "reconstruction", tokenizer)
    assert list(images) == [(image_id, "reconstruction") for image_id in IMAGES]
    for image_id, ids in clean(files, tokenizer).items():
        # a batch of another size may round a pixel the other way
        assert np.abs(images[image_id, "reconstruction"].astype(int) - decode(files, tokenizer, *ids)).max() <= 1


def test_facts_and_provenance(files, tmp_path):
    reconstruct(files, tmp_path / "i.parquet", "reconstruction")
    metadata = parquet_metadata(tmp_path / "i.parquet")
    assert (
        metadata["geometry"] == GEOMETRY.model_dump()
        and metadata["tokenizer"] == "v2l"
        and metadata["v2l"]["stage"] == "reconstruct_images"
    )
    assert set(metadata["v2l"]["inputs"]) == {"weights", "tokens"}
    predictions = predict(tmp_path / "p.parquet", lambda image_id: clean(files)[image_id][0])
    reconstruct(files, tmp_path / "r.parquet", "restoration.majority-vote", predictions=predictions)
    assert parquet_metadata(tmp_path / "r.parquet")["protocol"] == "paper"


def test_oracle_has_every_task(files, tmp_path):
    oracle = reconstruct(files, tmp_path / "o.parquet", "restoration.tokenizer-oracle")
    plain = reconstruct(files, tmp_path / "i.parquet", "reconstruction")
    assert list(oracle) == [(image_id, task) for image_id in IMAGES for task in RESTORATION_TASKS]
    assert all(np.array_equal(pixels, plain[image_id, "reconstruction"]) for (image_id, _), pixels in oracle.items())


def test_predicting_the_clean_codes_gives_the_oracle(files, tmp_path):
    tokens = clean(files)
    predictions = predict(tmp_path / "p.parquet", lambda image_id: tokens[image_id][0])
    restored = reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=predictions)
    oracle = reconstruct(files, tmp_path / "o.parquet", "restoration.tokenizer-oracle")
    assert set(restored) == set(oracle)
    assert all(np.array_equal(restored[key], oracle[key]) for key in oracle)


def test_predictions_fill_the_mask_alone(files, tmp_path):
    """Global ids are the clean image's."""
    tokens = clean(files)
    predictions = predict(tmp_path / "p.parquet", lambda image_id: [9] * 16)
    restored = reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=predictions)
    for task in RESTORATION_TASKS:
        for image_id, (local_ids, global_ids) in tokens.items():
            expected = np.array(local_ids)
            expected[mask_positions(task, (4, 4))] = 9
            pixels = decode(files, "v2l", expected.tolist(), global_ids)
            assert np.abs(restored[image_id, task].astype(int) - pixels).max() <= 1


def test_held_out_shows_the_global_codes_of_the_corrupted_image(files, tmp_path):
    """And its own local codes wherever nothing is predicted: here everything is, with the clean image's or with 9."""
    rows = pq.read_table(files["tokens.v2l"]).to_pylist()
    rotated = {row["image_id"]: row["global_ids"] for row in rows if row["corruption"] == "rotation"}
    only = {"evaluate_llm": {"restoration": {"tasks": ["rotation"], "held_out": {"images": 3}}}}
    nines = predict(tmp_path / "p.parquet", lambda image_id: [9] * 16, ["rotation"], IMAGES[:3])
    oracle = reconstruct(files, tmp_path / "o.parquet", "restoration.tokenizer-oracle@held-out", **only)
    restored = reconstruct(files, tmp_path / "r.parquet", "restoration.llm@held-out", predictions=nines, **only)
    assert list(oracle) == list(restored) == [(image_id, "rotation") for image_id in IMAGES[:3]]
    for image_id in IMAGES[:3]:
        local_ids, global_ids = clean(files)[image_id]
        assert rotated[image_id] != global_ids
        for images, codes in ((oracle, local_ids), (restored, [9] * 16)):
            pixels = decode(files, "v2l", codes, rotated[image_id])
            assert np.abs(images[image_id, "rotation"].astype(int) - pixels).max() <= 1


def test_held_out_keeps_the_corrupted_maps_codes_outside_the_mask(files, tmp_path):
    given = Tokens.read(files["tokens.v2l"], "rotation")
    path = predict(tmp_path / "p.parquet", lambda image_id: [9] * 16, ["inpainting"])
    positions = mask_positions("inpainting", (4, 4))
    maps = list(restored_maps(path, {"inpainting": given}, np.arange(4), lambda task, image_id: positions))
    assert len(maps) == 1 and maps[0][2] is given and maps[0][3] == ["inpainting"]
    expected_NL = given.local_NL.copy()
    expected_NL[:, positions] = 9
    assert np.array_equal(maps[0][1], expected_NL)


def gaps(image_id):
    return np.flatnonzero(image_mask(16, 0.3, 0, image_id))


def test_masked_input_decodes_zero_vectors_in_the_gaps(files, tmp_path):
    for tokenizer in ("v2l", "vqgan"):
        images = reconstruct(files, tmp_path / "c.parquet", "masked.corrupted-input", tokenizer)
        assert list(images) == [(image_id, "masked") for image_id in IMAGES]
        network = load_tokenizer(files[f"weights.{tokenizer}"])
        for image_id, (local_ids, global_ids) in clean(files, tokenizer).items():
            visible_BL = torch.ones(1, 16, dtype=torch.bool)
            visible_BL[0, gaps(image_id)] = False
            context = None if global_ids is None else torch.tensor([global_ids])
            expected = to_uint8(network.decode(torch.tensor([local_ids]), context, visible_BL))[0].numpy()
            assert np.abs(images[image_id, "masked"].astype(int) - expected).max() <= 1
            assert not np.array_equal(expected, decode(files, tokenizer, local_ids, global_ids))


def test_masked_predictions_fill_the_gaps_of_their_image(files, tmp_path):
    tokens, rows = clean(files), []
    for image_id in IMAGES:
        rows += [("masked", image_id, step.tolist(), [9] * len(step)) for step in steps(gaps(image_id), 16)]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=pa.schema(STEP))
    write_parquet(tmp_path / "p.parquet", table, {}, {"protocol": "paper"})
    restored = reconstruct(files, tmp_path / "r.parquet", "masked.llm", predictions=tmp_path / "p.parquet")
    oracle = reconstruct(files, tmp_path / "o.parquet", "masked.tokenizer-oracle")
    assert list(restored) == list(oracle) == [(image_id, "masked") for image_id in IMAGES]
    for image_id, (local_ids, global_ids) in tokens.items():
        expected = np.array(local_ids)
        expected[gaps(image_id)] = 9
        pixels = decode(files, "v2l", expected.tolist(), global_ids)
        assert np.abs(restored[image_id, "masked"].astype(int) - pixels).max() <= 1
        assert np.abs(oracle[image_id, "masked"].astype(int) - decode(files, "v2l", local_ids, global_ids)).max() <= 1
    write_parquet(tmp_path / "p.parquet", table.slice(1), {}, {"protocol": "paper"})
    with pytest.raises(UserError, match="p.parquet does not restore image val/3.png for task masked"):
        reconstruct(files, tmp_path / "r.parquet", "masked.llm", predictions=tmp_path / "p.parquet")


def test_images_of_limits_predictor_and_oracle(files, tmp_path):
    limit = {"evaluate_llm": {"restoration": {"images_of": {"vqgan": 2}, "tasks": ["shift"]}}}
    predictions = predict(tmp_path / "p.parquet", lambda image_id: [1] * 16, ["shift"], IMAGES[:2])
    expected = [(image_id, "shift") for image_id in IMAGES[:2]]
    for source, extra in (("restoration.llm", predictions), ("restoration.tokenizer-oracle", None)):
        images = reconstruct(files, tmp_path / "r.parquet", source, "vqgan", extra, **limit)
        assert list(images) == expected


def test_missing_and_incomplete_predictions_are_named(files, tmp_path):
    codes = {"codes_of": lambda image_id: [1] * 16}
    few = predict(tmp_path / "few.parquet", **codes, images=IMAGES[:2])
    with pytest.raises(UserError, match="few.parquet does not restore image val/5.png for task inpainting: 0 of 4"):
        reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=few)
    other = predict(tmp_path / "one.parquet", **codes, tasks=list(RESTORATION_TASKS)[:1])
    with pytest.raises(UserError, match="one.parquet does not restore image val/3.png for task outpainting: 0 of 8"):
        reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=other)
    half = pq.read_table(predict(tmp_path / "half.parquet", **codes)).slice(1)
    write_parquet(tmp_path / "half.parquet", half.replace_schema_metadata(), {}, {"protocol": "paper"})
    with pytest.raises(UserError, match="half.parquet does not restore image val/3.png .*: 2 of 4"):
        reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=tmp_path / "half.parquet")
    big = predict(tmp_path / "big.parquet", lambda image_id: [SUBWORDS] * 16)
    with pytest.raises(UserError, match=f"the codebook has {SUBWORDS}"):
        reconstruct(files, tmp_path / "r.parquet", "restoration.llm", predictions=big)
    assert not (tmp_path / "r.parquet").exists()


def test_mean_image(files, tmp_path):
    images = reconstruct(files, tmp_path / "m.parquet", "reconstruction.mean-image", "pixels")
    assert list(images) == [(image_id, "reconstruction") for image_id in IMAGES]
    root = Manifest.read(files["manifest"]).root
    training = [open_image(root / f"train/{number}.png") for number in range(3)]
    mean = np.mean([np.asarray(tokenizer_image(image, GEOMETRY, "crop"), float) for image in training], axis=0)
    assert all(np.array_equal(pixels, np.round(mean)) for pixels in images.values())


def test_mean_image_without_training_images(files, tmp_path):
    with pytest.raises(UserError, match=r"train_tokenizer.splits` is .'all'..*\['train', 'val'\]"):
        reconstruct(
            files, tmp_path / "m.parquet", "reconstruction.mean-image", "pixels", train_tokenizer={"splits": ["all"]}
        )


def test_corrupted_input(files, tmp_path):
    images = reconstruct(files, tmp_path / "c.parquet", "restoration.corrupted-input", "pixels")
    manifest = Manifest.read(files["manifest"])
    assert len(images) == 15  # the sample holds three of the four images
    settings = Corruption(shift="translate")
    for (image_id, task), pixels in images.items():
        expected = corrupted(open_image(manifest.root / image_id), task, GEOMETRY, "crop", settings, 0, image_id)
        assert np.array_equal(pixels, np.asarray(expected))


def test_more_than_a_row_group_is_streamed(files, tmp_path, monkeypatch):
    whole = reconstruct(files, tmp_path / "whole.parquet", "reconstruction")
    monkeypatch.setattr(reconstruct_images, "ROWS_PER_GROUP", 3)
    streamed = reconstruct(files, tmp_path / "s.parquet", "reconstruction")
    assert pq.ParquetFile(tmp_path / "s.parquet").num_row_groups == 2
    assert all(np.array_equal(streamed[key], whole[key]) for key in whole)


def test_images_are_lossless():
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)


def test_pictures_that_are_not_finite_are_named(files, tmp_path, monkeypatch):
    def broken(path, device):
        found = load_tokenizer(path, device)
        with torch.no_grad():
            next(found.decoder.parameters()).fill_(torch.nan)
        return found

    monkeypatch.setattr("v2l.tasks.decoded_images.load_tokenizer", broken)
    message = (
        "pictures that tokenizer v2l decodes in float32 are not finite for .*`reconstruct_images.precision: float32`"
    )
    with pytest.raises(UserError, match=message):
        reconstruct(files, tmp_path / "i.parquet", "reconstruction")
