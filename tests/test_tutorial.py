"""docs/tutorial.md, block by block; and the demo's tokenizer that it makes, against the stages of the pipeline."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from v2l import V2LTokenizer, embed_images, extract_tokens, reconstruct_images, tokenize
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig, project
from v2l.data.images import decode_png
from v2l.data.manifest import SCHEMA
from v2l.data.token_table import WORDS_SCHEMA, Tokens
from v2l.errors import UserError
from v2l.expand_vocabulary import SCHEMA as SCHEMA_OF_VOCABULARY
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet

ROOT = Path(__file__).parents[1]
PICTURES = ("1f436", "1f408", "1f697", "1f34e", "1f600")


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """The tutorial's names after its last block, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in ("assets", "config", "weights"):
        (folder / name).symlink_to(ROOT / name)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks:
            exec(compile(block, "docs/tutorial.md", "exec"), names)
    return folder, names


def test_its_blocks_run_and_restore_a_picture(tutorial):
    folder, names = tutorial
    assert Image.open(folder / "work/reconstruction.png").size == (64, 64)
    given, restored = names["codes"][3:4].local_ids, names["restoration"].codes.local_ids
    outside = np.ones((8, 8), dtype=bool)
    outside[2:6, 2:6] = False
    assert (given[0].numpy() == restored[0].numpy())[outside].all()


def test_codes_and_pictures_are_those_of_the_stages(tutorial, tmp_path, monkeypatch):
    folder, names = tutorial
    monkeypatch.chdir(folder)
    pictures = [Image.open(f"assets/fluent-emoji-3d/assets/{name}.webp") for name in PICTURES]
    codes = names["tokenizer"].encode(pictures)
    tokens, images = staged(folder, tmp_path)
    assert np.array_equal(tokens.local_NL, codes.local_ids.flatten(1).numpy())
    assert np.array_equal(tokens.global_NK, codes.global_ids.numpy())
    assert np.array_equal(images, names["tokenizer"].decode(codes))


def staged(folder: Path, tmp_path: Path) -> tuple[Tokens, np.ndarray]:
    """Tokens and uint8 images of PICTURES by the stages embed_images, extract_tokens and reconstruct_images."""
    rows = [(f"{name}.webp", "val", 0, "", [], [], 256, 256) for name in sorted(PICTURES)]
    order = np.argsort(np.argsort(PICTURES))
    files = {name: tmp_path / f"{name}.parquet" for name in ("manifest", "words", "tokens", "images")}
    root = str(folder / "assets/fluent-emoji-3d/assets")
    dataset = {"name": "emoji", "root": root, "fit": "pad", "classes": ["any"]}
    write_parquet(files["manifest"], pa.table(list(zip(*rows, strict=True)), schema=SCHEMA), {}, {"dataset": dataset})
    table = pa.table([range(1), ["a"], range(1)], WORDS_SCHEMA)
    write_parquet(files["words"], table, {}, {"vocabulary": {"llm": "smollm2-135m"}})
    files |= {"features": tmp_path / "f.safetensors", "weights": folder / "work/v2l-demo/model.safetensors"}
    demo = load_experiment({"experiment": "demo"})
    run(demo, embed_images, {"dataset": "emoji"}, ["encoders.conse", "embed_images"], files, "features")
    keys = ["samples.reconstruction", "tokenizers.v2l", "extract_tokens"]
    run(demo, extract_tokens, {"tokenizer": "v2l", "sample": "reconstruction"}, keys, files, "tokens")
    keys = ["samples.reconstruction", "tokenizers.v2l", "reconstruct_images"]
    run(demo, reconstruct_images, {"tokenizer": "v2l", "source": "reconstruction"}, keys, files, "images")
    tokens = Tokens.read(files["tokens"])
    assert tokens.image_id.tolist() == [row[0] for row in rows]
    images = np.stack([decode_png(png) for png in pq.read_table(files["images"])["image"].to_pylist()])
    in_order = Tokens(tokens.image_id[order], tokens.local_NL[order], tokens.global_NK[order], tokens.tokenizer, (8, 8))
    return in_order, images[order]


def run(demo, stage, job: dict, keys: list[str], files: dict[str, Path], output: str) -> None:
    name = stage.__name__.rpartition(".")[2]
    config = StageConfig(name, project(demo, ["seed", "encoder", *keys], job))
    stage.run(config, Inputs({key: path for key, path in files.items() if path.exists()}), {output: files[output]})


def test_what_the_pipeline_made_comes_before_the_named_weights(tutorial, tmp_path, monkeypatch):
    folder, names = tutorial
    for name in ("assets", "config"):  # no weights/
        (tmp_path / name).symlink_to(ROOT / name)
    made, vocabulary = tmp_path / "results/demo/train_tokenizer", names["tokenizer"].vocabulary
    made.mkdir(parents=True)
    (made / "v2l.safetensors").symlink_to(folder / "work/v2l-demo/model.safetensors")
    texts, said = vocabulary.words, vocabulary.language_model | {"subwords": len(vocabulary.subwords)}
    table = pa.table([range(len(texts)), texts, [None] * len(texts)], WORDS_SCHEMA)
    write_parquet(made / "v2l.words.parquet", table, {}, {"vocabulary": said})
    columns = {"kind": ["subword"] * len(vocabulary.subwords) + ["bigram"], "text": [*vocabulary.subwords, "two"]}
    columns["token_ids"] = [*([number] for number in vocabulary.subword_ids), [1, 2]]
    expanded = tmp_path / "results/demo/expand_vocabulary/vocabulary.parquet"
    write_parquet(expanded, pa.table(columns, SCHEMA_OF_VOCABULARY), {}, {"vocabulary": said})
    monkeypatch.chdir(tmp_path)
    found = V2LTokenizer.from_experiment("v2l", "demo")
    assert found.vocabulary == vocabulary and found.settings.fit == "pad"
    assert np.array_equal(found.decode(names["codes"]), names["images"])
    with pytest.raises(UserError, match="v2l-continued.safetensors --config experiment=demo` makes it"):
        V2LTokenizer.from_experiment("v2l-continued", "demo")


def test_the_command_prints_ids_and_writes_the_reconstruction(tutorial, tmp_path, capsys):
    folder, names = tutorial
    picture, output = folder / "assets/fluent-emoji-3d/assets/1f436.webp", tmp_path / "out" / "reconstruction.png"
    arguments = [str(picture), "--weights", str(folder / "work/v2l-demo"), "--output", str(output), "--json"]
    tokenize.run(tokenize.parser().parse_args(arguments))
    found, codes = json.loads(capsys.readouterr().out), names["codes"]
    assert found["words"] == codes.words[0] and found["local_ids"] == codes.local_ids[0].tolist()
    assert found["global_ids"] == codes.global_ids[0].tolist()
    assert np.array_equal(np.asarray(Image.open(output)), names["tokenizer"].decode(codes[:1])[0])
