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
from v2l.figures.image_file import ImageFile
from v2l.figures.labels import column_titles
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet
from v2l.models.tokenizer_file import tokenizer_description
from v2l.reconstruct_images import SCHEMA
from v2l.tasks.token_maps import image_mask

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
    job = {
        "config": {
            "job": {"tokenizer": tokenizer, "source": source},
            "evaluate_llm": {"masked": {"mask_share": 0.25}},
            "seed": 3,
        }
    }
    write_parquet(path, table, job, {"geometry": {"image_size": 16, "grid": 4}, "tokenizer": tokenizer})
    return path


def scores_file(path, values):
    """An output of score_predictions: `values` are metric -> one value an image."""
    rows = [
        {"item": image_id, "metric": metric, "value": value}
        for metric, found in values.items()
        for image_id, value in zip(IMAGES, found, strict=False)
    ]
    write_parquet(path, pa.Table.from_pylist(rows), {})
    return path


@pytest.fixture
def restored(tmp_path):
    """Files of the restoration figure; those of the second method have only three images."""
    paths = []
    shown = [
        ("pixels", "corrupted-input", 120),
        ("v2l", "tiny-llm", 0),
        ("vqgan", "tiny-llm", 80),
        ("v2l", "tokenizer-oracle", 40),
    ]
    for number, (tokenizer, predictor, grey) in enumerate(shown):
        images = IMAGES[: 3 if tokenizer == "vqgan" else 4]
        path = tmp_path / f"{number}.parquet"
        paths.append(images_file(path, tokenizer, f"restoration.{predictor}", RESTORATION_TASKS, images, grey))
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


def words_of(captioned):
    return [[(phrase.text, phrase.mark) for phrase in shown.phrases] for shown in captioned]


def test_global_tokens_stand_under_their_image_with_the_mark_of_their_kind(files, tmp_path, drawn):
    inputs = files | {"vocabulary": tmp_path / "v.parquet", "words": tmp_path / "w.parquet"}
    kinds = ["subword", "bigram", "trigram", "subword", "subword"]
    write_parquet(inputs["vocabulary"], pa.table({"kind": kinds}), {})
    texts = [f" word{number}" for number in range(7)]
    write_parquet(inputs["words"], pa.table({"text": texts, "entry": [0, 1, 2, None, 4, 3, 1]}), {})
    draw(tmp_path, "global_tokens", inputs, images=4)
    (((_, captioned),), legend) = drawn["captioned_images"]
    marks = ["●", "■", "▲", ""]
    assert words_of(captioned) == [[(f" word{number}", marks[number]), (" word0", "●")] for number in range(4)]
    assert [shown.image.shape for shown in captioned] == [(224, 224, 3)] * 4
    assert [(phrase.text, phrase.mark) for phrase in legend] == [("subword", "●"), ("bigram", "■"), ("trigram", "▲")]


def test_too_few_global_tokens_are_refused(files, tmp_path):
    with pytest.raises(UserError, match="tokens.parquet holds 3 global tokens.*make_figures.words` = 4"):
        draw(tmp_path, "global_tokens", files, words=4)


def test_restoration_has_a_block_for_each_task_with_what_was_hidden(files, restored, tmp_path, drawn):
    draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored})
    (blocks,) = drawn["image_grid"]
    assert [block.heading for block in blocks] == [f"{task} by tiny-llm" for task in RESTORATION_TASKS]
    columns = blocks[0].columns
    titles = ["input", "V2L Tokenizer", "VQ-GAN", "tokenizer oracle", "original"]
    assert all([column.title for column in block.columns] == titles for block in blocks)
    assert [int(column.images[0][0, 0, 0]) for column in columns[:4]] == [120, 0, 80, 40]
    hidden = {block.heading.split()[0]: [len(column.regions) for column in block.columns] for block in blocks}
    assert hidden["inpainting"] == hidden["outpainting"] == [1, 1, 1, 0, 0] and hidden["shift"] == [0] * 5
    assert columns[0].regions[0].tolist() == [
        [row in (1, 2) and column in (1, 2) for column in range(4)] for row in range(4)
    ]
    assert blocks[1].columns[0].regions[0].tolist() == [[row >= 2] * 4 for row in range(4)]


@pytest.mark.parametrize(("images", "each"), [(2, 1), (6, 2), (99, 3)])
def test_images_of_restoration_are_divided_among_its_tasks(files, restored, tmp_path, drawn, caplog, images, each):
    """At least one each, and only those that every file holds."""
    caplog.set_level("INFO")
    draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored}, images=images)
    assert all(len(column.images) == each for block in drawn["image_grid"][0] for column in block.columns)
    assert f"figure restoration: {each} images" in caplog.text


@pytest.mark.parametrize(
    ("sources", "titles"),
    [
        (["v2l restoration.llm", "v2l restoration.llm-2@held-out"], ["llm", "llm-2"]),
        (["v2l restoration.majority-vote", "mine restoration.majority-vote"], ["V2L Tokenizer", "mine"]),
        (["v2l restoration.llm", "vqgan restoration.llm-2"], ["V2L Tokenizer, llm", "VQ-GAN, llm-2"]),
        (["v2l restoration.llm"], ["llm"]),
        (["v2l restoration.llm", "vqgan restoration.tokenizer-oracle"], ["llm", "tokenizer oracle"]),
    ],
)
def test_titles_say_what_differs(tmp_path, sources, titles):
    files = [
        ImageFile(images_file(tmp_path / f"{number}.parquet", *source.split(), ["shift"]))
        for number, source in enumerate(sources)
    ]
    assert column_titles(files) == titles


def test_reconstruction_keeps_the_order_of_the_files_with_scores_beneath(files, tmp_path, drawn):
    names = ["v2l", "v2l-local", "vqgan", "mine"]
    inputs = {"manifest": files["manifest"], "images": [], "scores": []}
    for number, name in enumerate(names):
        inputs["images"].append(images_file(tmp_path / f"{name}.parquet", name, "reconstruction", ["reconstruction"]))
        scores = {"lpips": [0.1 * number, 0.25, 0.5, 1], "psnr": [20.04, 30, 40.06, 50], "ssim": [1, 1, 1, 1]}
        inputs["scores"].append(scores_file(tmp_path / f"{name}.scores.parquet", scores))
    draw(tmp_path, "reconstruction", inputs, images=4)
    ((block,),) = drawn["image_grid"]
    titles = ["original", "V2L Tokenizer", "V2L without global tokens", "VQ-GAN", "mine"]
    assert [column.title for column in block.columns] == titles
    assert block.columns[0].notes == [["PSNR", "LPIPS"]] * 4
    first = [column.notes[0] for column in block.columns[1:]]
    assert first == [["20.0", "0.000"], ["20.0", "0.100"], ["20.0", "0.200"], ["20.0", "0.300"]]
    assert block.columns[1].notes[2] == ["40.1", "0.500"]


def test_a_metric_that_was_not_measured_is_left_out(files, tmp_path, drawn):
    inputs = {
        "manifest": files["manifest"],
        "images": images_file(tmp_path / "v2l.parquet", "v2l", "reconstruction", ["reconstruction"]),
        "scores": scores_file(tmp_path / "scores.parquet", {"lpips": [0.1, 0.2, 0.3, 0.4]}),
    }
    draw(tmp_path, "reconstruction", inputs)
    original, reconstruction = drawn["image_grid"][0][0].columns
    assert original.notes == [["LPIPS"]] * 2 and all(len(note) == 1 for note in reconstruction.notes)


def test_masked_restoration_stands_between_input_and_original_with_the_gaps_in_the_input(files, tmp_path, drawn):
    """As in paper figure 8; files come in the order of the columns. The gaps are those that were asked for."""
    sources = ["corrupted-input", "tiny-llm", "most-frequent-code", "tokenizer-oracle"]
    paths = [images_file(tmp_path / f"{name}.parquet", "v2l", f"masked.{name}", ["masked"]) for name in sources]
    draw(tmp_path, "masked", {"manifest": files["manifest"], "images": paths}, images=4)
    ((block,),) = drawn["image_grid"]
    titles = ["input", "tiny-llm", "most frequent code", "tokenizer oracle", "original"]
    assert [column.title for column in block.columns] == titles
    assert [len(column.regions) for column in block.columns] == [4, 0, 0, 0, 0]
    for image_id, region in zip(IMAGES, block.columns[0].regions, strict=True):
        assert region.sum() == 4 and region.ravel().tolist() == image_mask(16, 0.25, 3, image_id).tolist()


def test_files_without_a_shared_image_are_refused(files, tmp_path):
    paths = [
        images_file(tmp_path / f"{number}.parquet", "v2l", "masked.llm", ["masked"], [IMAGES[number]])
        for number in range(2)
    ]
    with pytest.raises(UserError, match="0.parquet has no image to show"):
        draw(tmp_path, "masked", {"manifest": files["manifest"], "images": paths})


def test_a_file_without_a_task_is_named(files, restored, tmp_path):
    images_file(restored[1], "v2l", "restoration.tiny-llm", list(RESTORATION_TASKS)[:4])
    with pytest.raises(UserError, match=r"1.parquet \(task rotation\)"):
        draw(tmp_path, "restoration", {"manifest": files["manifest"], "images": restored})
    assert not (tmp_path / "restoration.pdf").exists()


def test_equal_input_gives_equal_bytes_with_provenance_and_embedded_fonts(files, restored, tmp_path):
    inputs = {"manifest": files["manifest"], "images": restored}
    first, second = (draw(tmp_path / name, "restoration", inputs) for name in ("a", "b"))
    for kind in ("pdf", "png"):
        assert first[kind].read_bytes() == second[kind].read_bytes()
        record = json.loads(first[kind].with_name(f"restoration.{kind}.provenance.json").read_text())
        assert record["stage"] == "make_figures" and len(record["inputs"]["images"]) == 4
    pdf = first["pdf"].read_bytes()
    assert b"CreationDate" not in pdf and b"/FontFile2" in pdf and b"/Subtype /Type3" not in pdf


def answers_file(path, task, predictor, rows):
    job = {"config": {"job": {"tokenizer": "v2l", "task": task, "predictor": predictor}}}
    write_parquet(path, pa.Table.from_pylist(rows), job)
    return path


def test_captions_and_answers_stand_under_their_image(files, tmp_path, drawn):
    captions = [{"image_id": image, "answer": f"a caption of {image}"} for image in IMAGES]
    answers = [{"image_id": IMAGES[0], "question": "what is it?", "answer": "red"}]
    paths = [
        answers_file(tmp_path / "c.parquet", "captioning", "llm", captions),
        answers_file(tmp_path / "a.parquet", "vqa", "majority-vote", answers),
    ]
    draw(tmp_path, "captioning_vqa", {"manifests": [files["manifest"]] * 2, "predictions": paths})
    ((captioned, answered),) = drawn["captioned_images"]
    assert [captioned[0], answered[0]] == ["Captions by llm", "Answers to questions by majority-vote"]
    assert len(captioned[1]) == 2 and {phrases[0][0] for phrases in words_of(captioned[1])} <= {
        row["answer"] for row in captions
    }
    assert words_of(answered[1]) == [[("what is it?", "Q"), ("red", "A")]]


def test_figures_of_trainings_show_the_steps_of_each(tmp_path, caplog):
    caplog.set_level("INFO")
    lines = [{"step": step, "pixel": 1 / (step + 1), "codes_share": 0.5, "codes_perplexity": 9.5} for step in (0, 9)]
    path = tmp_path / "v2l.metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for figure in ("training_curves", "codebook_usage"):
        outputs = draw(tmp_path, figure, {"metrics": [path]})
        assert Image.open(outputs["png"]).width == round(3.4 * 60)
        assert f"figure {figure}: 1 trainings" in caplog.text


def test_an_imported_tokenizer_has_no_curves(tmp_path):
    path = tmp_path / "v2l.metrics.jsonl"
    path.write_text(json.dumps({"imported": "weights.safetensors", "steps": 3600}) + "\n")
    with pytest.raises(UserError, match="v2l.metrics.jsonl holds no steps of a training"):
        draw(tmp_path, "training_curves", {"metrics": [path]})
