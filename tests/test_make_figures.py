import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.token_experiment import GLOBAL_TOKENS, build, stage_config
from v2l import make_figures
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.data.images import encode_png
from v2l.data.token_table import schema
from v2l.errors import UserError
from v2l.figures import described_images, image_grids
from v2l.figures.drawing import image_grid, printable
from v2l.figures.image_file import ImageFile
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet
from v2l.models.tokenizer_file import tokenizer_description
from v2l.reconstruct_images import SCHEMA

IMAGES = [f"val/{number}.png" for number in range(3, 7)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    names = build(folder)
    rows = [(image_id, "val", 0, "none", [number, 0, 6], [0] * 16) for number, image_id in enumerate(IMAGES)]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema(16, GLOBAL_TOKENS))
    names["tokens"] = folder / "tokens.parquet"
    metadata = {"tokenizer": tokenizer_description(names["weights.v2l"]), "grid": [4, 4]}
    write_parquet(names["tokens"], table, {}, metadata)
    return names


def images_file(path, tokenizer, source, tasks, images=IMAGES, grey=100):
    """An output of reconstruct_images with one grey value for each image and task."""
    rows = [(image_id, task, encode_png(np.full((16, 16, 3), grey, np.uint8))) for image_id in images for task in tasks]
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA)
    job = {"config": {"job": {"tokenizer": tokenizer, "source": source}}}
    write_parquet(path, table, job, {"geometry": {"image_size": 16}, "tokenizer": tokenizer})
    return path


@pytest.fixture
def restored(tmp_path):
    """Files of the restoration figure, in an order that is not the figure's; the vote has only three images."""
    paths = []
    for number, name in enumerate(["tiny-llm", "tokenizer-oracle", "majority-vote", "corrupted-input"]):
        path, shown = tmp_path / f"{number}.parquet", IMAGES[: 3 if name == "majority-vote" else 4]
        paths.append(images_file(path, "v2l", f"restoration.{name}", RESTORATION_TASKS, shown, 40 * number))
    return paths


def draw(folder, figure, inputs, **settings):
    settings = {"images": 2, "words": 2, "dpi": 60} | settings
    config = stage_config("make_figures", ["seed", "make_figures"], {"figure": figure}, make_figures=settings)
    outputs = {name: folder / f"{figure}.{name}" for name in ("pdf", "png")}
    make_figures.run(config, Inputs(inputs), outputs)
    return outputs


@pytest.fixture
def drawn(monkeypatch):
    """What the figures are drawn from: the arguments of the drawing functions."""
    calls = {}

    def record(module, name):
        function = getattr(module, name)

        def wrapper(*arguments):
            calls[name] = arguments
            return function(*arguments)

        monkeypatch.setattr(module, name, wrapper)

    record(image_grids, "image_grid")
    record(described_images, "captioned_images")
    return calls


def test_global_tokens_stand_under_their_image(files, tmp_path, drawn):
    draw(tmp_path, "global_tokens", files, images=4)
    pictures, captions, _ = drawn["captioned_images"]
    assert captions == [[f" word{number}", " word0"] for number in range(4)]
    assert [picture.shape for picture in pictures] == [(224, 224, 3)] * 4


def test_too_few_global_tokens_are_refused(files, tmp_path):
    with pytest.raises(UserError, match="tokens.parquet holds 3 global tokens.*make_figures.words` = 4"):
        draw(tmp_path, "global_tokens", files, words=4)


def test_restoration_columns_are_in_order_for_each_task(files, restored, tmp_path, drawn):
    draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored})
    columns, groups = drawn["image_grid"]
    assert groups == [*((task, 3) for task in RESTORATION_TASKS), ("reference", 2)]
    assert [title for title, _ in columns] == ["corrupted input", "majority vote", "tiny-llm"] * 5 + [
        "tokenizer oracle",
        "original",
    ]
    greys = [int(images[0][0, 0, 0]) for _, images in columns[:3]] + [int(columns[-2][1][0][0, 0, 0])]
    assert greys == [120, 80, 0, 40] and all(len(images) == 2 for _, images in columns)


def test_only_images_that_every_file_holds_are_shown(files, restored, tmp_path, drawn, caplog):
    caplog.set_level("INFO")
    draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored}, images=9)
    assert all(len(images) == 3 for _, images in drawn["image_grid"][0])
    assert "figure restoration: 3 images" in caplog.text


def test_language_models_are_in_the_order_of_their_names_in_every_protocol(tmp_path):
    names = ["llm-2", "llm", "llm-10"]
    sources = [f"restoration.{name}@held-out" for name in names]
    files = [ImageFile(images_file(tmp_path / f"{source}.parquet", "v2l", source, ["shift"])) for source in sources]
    assert [file.label for file in sorted(files, key=ImageFile.rank)] == ["llm", "llm-10", "llm-2"]


def test_reconstruction_keeps_the_order_of_the_files(files, tmp_path, drawn):
    names = ["v2l", "v2l-local", "vqgan", "mine"]
    paths = [images_file(tmp_path / f"{name}.parquet", name, "reconstruction", ["reconstruction"]) for name in names]
    draw(tmp_path, "reconstruction", {"manifest": files["manifest"], "images": paths})
    titles = [title for title, _ in drawn["image_grid"][0]]
    assert titles == ["original", "V2L Tokenizer", "V2L without global tokens", "VQ-GAN", "mine"]


def test_masked_restoration_stands_between_input_and_original(files, tmp_path, drawn):
    """As in paper figure 8; files come in the order of the columns."""
    sources = ["corrupted-input", "tiny-llm", "most-frequent-code", "tokenizer-oracle"]
    paths = [images_file(tmp_path / f"{name}.parquet", "v2l", f"masked.{name}", ["masked"]) for name in sources]
    draw(tmp_path, "masked", {"manifest": files["manifest"], "images": paths})
    titles = [title for title, _ in drawn["image_grid"][0]]
    assert titles == ["input", "tiny-llm", "most frequent code", "tokenizer oracle", "original"]


def test_one_file_of_images_is_enough(files, tmp_path, drawn):
    path = images_file(tmp_path / "v2l.parquet", "v2l", "reconstruction", ["reconstruction"])
    draw(tmp_path, "reconstruction", {"manifest": files["manifest"], "images": path})
    assert len(drawn["image_grid"][0]) == 2


def test_files_without_a_shared_image_are_refused(files, tmp_path):
    paths = [
        images_file(tmp_path / f"{number}.parquet", "v2l", "reconstruction", ["reconstruction"], [IMAGES[number]])
        for number in range(2)
    ]
    with pytest.raises(UserError, match="0.parquet has no image to show"):
        draw(tmp_path, "reconstruction", {"manifest": files["manifest"], "images": paths})


def test_a_file_without_a_task_is_named(files, restored, tmp_path):
    images_file(restored[0], "v2l", "restoration.tiny-llm", list(RESTORATION_TASKS)[:4])
    with pytest.raises(UserError, match=r"0.parquet \(task rotation\)"):
        draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored})
    assert not (tmp_path / "restoration.pdf").exists()


def test_equal_input_gives_equal_bytes_with_provenance(files, restored, tmp_path):
    inputs = {"manifest": files["manifest"], "images": restored}
    first, second = (draw(tmp_path / name, "restoration", inputs) for name in ("a", "b"))
    for kind in ("pdf", "png"):
        assert first[kind].read_bytes() == second[kind].read_bytes()
        record = json.loads(first[kind].with_name(f"restoration.{kind}.provenance.json").read_text())
        assert record["stage"] == "make_figures" and len(record["inputs"]["images"]) == 4
    assert b"CreationDate" not in first["pdf"].read_bytes()


def test_images_lie_where_their_column_is(tmp_path):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    columns = [("title", [np.full((16, 16, 3), colour, np.uint8)] * 2) for colour in colours]
    image_grid(columns, [("one", 1), ("two", 2)], cell=0.5).savefig(tmp_path / "grid.png", dpi=100)
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    row = pixels[-35]  # through the lower images: half a cell and the margin from below
    found = [colour for colour in map(tuple, row.tolist()) if colour in colours]
    assert list(dict.fromkeys(found)) == colours
    assert all(abs(found.count(colour) - 50) <= 3 for colour in colours)


def answers_file(path, predictor, rows):
    job = {"config": {"job": {"tokenizer": "v2l", "predictor": predictor}}}
    write_parquet(path, pa.Table.from_pylist(rows), job)
    return path


def test_captions_and_answers_stand_under_their_image(files, tmp_path, drawn):
    captions = [{"image_id": image, "answer": f"a caption of {image} that is long"} for image in IMAGES]
    answers = [{"image_id": IMAGES[0], "question": "what is it?", "answer": "red"}]
    paths = [
        answers_file(tmp_path / "c.parquet", "llm", captions),
        answers_file(tmp_path / "a.parquet", "llm", answers),
    ]
    draw(tmp_path, "captioning_vqa", {"manifests": [files["manifest"]] * 2, "predictions": paths})
    pictures, lines, title, per_row = drawn["captioned_images"]
    assert title == "Captions and answers by llm" and per_row == 2
    assert [picture.shape for picture in pictures] == [(224, 224, 3)] * 3
    assert all(" ".join(line) in {row["answer"] for row in captions} for line in lines[:2])
    assert all(len(line) == 2 for line in lines) and lines[2] == ["Q: what is it?", "A: red"]


def test_one_task_alone_makes_the_figure(files, tmp_path, drawn):
    path = answers_file(tmp_path / "a.parquet", "majority-vote", [{"image_id": IMAGES[0], "answer": "red"}])
    draw(tmp_path, "captioning_vqa", {"manifests": files["manifest"], "predictions": path})
    assert drawn["captioned_images"][1:3] == ([["red"]], "Captions and answers by majority-vote")


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" rabbit", "rabbit"), ("two\n words", "two words"), ("$5$", "$5$"), ("中", "U+4E2D"), ("a" * 30, "a" * 21 + "…")],
)
def test_printable(text, shown):
    assert printable(text) == shown
