"""Weights of earlier trainings: the same tokenizer again, a beginning for another, refused when they are neither."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.conftest import Project
from tests.test_lqae import LOSS, SIZES, roberta  # noqa: F401 fixtures
from tests.test_train_tokenizer import SECTION, WIDTH, lines_of, toy, vgg  # noqa: F401 fixtures
from tests.tiny import write_roberta
from v2l.configuration.experiment import load_experiment
from v2l.configuration.extensions import load_extensions
from v2l.configuration.imported_weights import how_to_make
from v2l.errors import UserError
from v2l.io.provenance import hash_path
from v2l.io.storage import read_tensors, write_parquet, write_tensors
from v2l.models.compact import write_compact
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.models.weights_file import probe_rows

METHODS = ("v2l", "v2l-local", "v2l-subword", "vqgan", "lqae", "spae")
SUBWORDS = 30
MADE = {"command": "make something", "machine": "an abacus", "hours": 1.5}


class Trainings:
    """`train` and `again` run the stage at toy size, `compact` makes a compact file of what it wrote."""

    def __init__(self, go: Callable, language_model: Path):
        self.go, self.folder, self.inputs = go, go.folder, go.inputs
        self.entries = {
            "lqae": {"language_model": str(language_model), "output_norm": "batch"} | SIZES,
            "spae": {"pyramid": [1, 2, 4], "semantic_layers": 1},
        }
        self.changes = {"lqae": {"loss": LOSS}}
        self.write_codes(read_tensors(self.inputs["codebook"])[0])

    def write_codes(self, codebook: dict, encoder: str = "toy-encoder") -> None:
        """The experiment's codebook, and the vocabulary's embedding that begins with its subwords."""
        codebook = {key: tensor.clone() for key, tensor in codebook.items()}
        write_tensors(self.inputs["codebook"], codebook, {}, {"encoder": encoder})
        self.inputs["embedding"] = self.folder / "embedding.safetensors"
        embedding_VD = torch.cat([codebook["local_VD"], torch.ones(30, codebook["local_VD"].shape[1])])
        write_tensors(self.inputs["embedding"], {"embedding_VD": embedding_VD}, {}, {"encoder": encoder})

    def write_vocabulary(self, texts: list[str], subwords: int, llm: str = "other") -> None:
        metadata = {"vocabulary": {"llm": llm, "subwords": subwords}}
        write_parquet(self.inputs["vocabulary"], pa.table({"text": texts}), {}, metadata)

    def again(self, method: str, entry: dict | None = None, **changes) -> dict[str, Path]:
        made = self.entries.get(method, {}) | (entry or {})
        return self.go(method, made, **(self.changes.get(method, {}) | changes))

    def train(self, method: str = "v2l", **changes) -> Path:
        """A weights file that stays where later runs of the stage do not write."""
        outputs = self.again(method, **changes)
        for name, path in outputs.items():
            path.rename(self.folder / f"source.{name}")
        return (self.folder / "source.weights").rename(self.folder / "source.safetensors")

    def compact(self, source: Path) -> Path:
        target = self.folder / "compact.safetensors"
        write_compact(source, target, **MADE)
        return target

    def refused(
        self, path: Path, *words: str, method: str = "v2l", key: str = "weights", entry: dict | None = None, **changes
    ) -> None:
        """The stage ends with a message that says all of `words`, and writes nothing."""
        for left in self.folder.glob("out.*"):
            left.unlink()
        with pytest.raises(UserError) as caught:
            self.again(method, {key: str(path)} | (entry or {}), **changes)
        assert not list(self.folder.glob("out.*"))
        for word in (str(path), *words):
            assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


@pytest.fixture
def trainings(toy, roberta) -> Trainings:  # noqa: F811
    return Trainings(toy, roberta)


def rewrite(path: Path, change: Callable[[dict, dict], None]) -> Path:
    """The file after `change(tensors, metadata)`."""
    tensors, metadata = read_tensors(path)
    change(tensors, metadata)
    record = metadata.pop("v2l", {})
    write_tensors(path, {key: tensor.clone() for key, tensor in tensors.items()}, record, metadata)
    return path


def images() -> torch.Tensor:
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


def features() -> torch.Tensor:
    vector_BD = torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(6))
    return torch.nn.functional.normalize(vector_BD)


@pytest.mark.parametrize("method", METHODS)
def test_a_compact_file_gives_the_same_tokenizer_in_float16(trainings, method):
    source = trainings.train(method)
    compact = trainings.compact(source)
    assert compact.stat().st_size < source.stat().st_size
    codebook = read_tensors(trainings.inputs["codebook"])[0]
    codebook["local_VD"] *= 1 + 1e-6  # another machine's last bits
    codebook["global_VD"] = codebook["global_VD"][:4]  # and other pictures, which chose other words
    trainings.write_codes(codebook)
    outputs = trainings.again(method, {"weights": str(compact)})
    original, imported = load_tokenizer(source), load_tokenizer(outputs["weights"])
    expected, found = (tokenizer.encode(images(), features()) for tokenizer in (original, imported))
    assert (expected.local_BL == found.local_BL).float().mean() > 0.95 and len(expected.local_BL.unique()) > 1
    assert (expected.global_BK is None) == (found.global_BK is None)
    assert expected.global_BK is None or (expected.global_BK == found.global_BK).float().mean() > 0.9
    torch.testing.assert_close(imported.decode(*expected), original.decode(*expected), rtol=0, atol=0.02)
    assert pq.read_table(outputs["words"]).equals(pq.read_table(trainings.folder / "source.words"))
    (line,) = lines_of(outputs)
    assert (line["imported"], line["sha256"]) == (str(compact), hash_path(compact))
    assert {key: line[key] for key in ("seed", "steps", "images", *MADE)} == {
        **{"seed": 0, "steps": 7, "images": 35},
        **MADE,
    }
    assert line["commit"] == read_tensors(source)[1]["v2l"]["commit"]
    assert {"weights", "embedding", "vocabulary"} <= set(read_tensors(outputs["weights"])[1]["v2l"]["inputs"])


@pytest.mark.parametrize("method", METHODS)
def test_a_whole_file_gives_the_same_tensors_and_can_be_imported_from_there(trainings, method):
    source = trainings.train(method)
    expected, metadata = read_tensors(source)
    for path in (source, trainings.folder / "once.safetensors"):
        outputs = trainings.again(method, {"weights": str(path)})
        found, said = read_tensors(outputs["weights"])
        assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
        for key in ("training", "vocabulary", "encoder", "words"):
            assert said[key] == metadata[key]
        assert said["tokenizer"]["codebooks"] == metadata["tokenizer"]["codebooks"]
        outputs["weights"].rename(trainings.folder / "once.safetensors")


def test_a_tokenizer_of_an_extension_is_imported_and_trained_on_too(trainings, registries):
    load_extensions(["tests/extending/tokenizer.py"])
    trainings.entries["palette"], trainings.changes["palette"] = {"patch_size": 4}, {"loss": LOSS}
    source = trainings.train("palette")
    compact = trainings.compact(source)
    for key in ("weights", "start_from"):
        outputs = trainings.again("palette", {key: str(compact)}, max_steps=1)
        found, expected = (read_tensors(path)[0] for path in (outputs["weights"], source))
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found["palette.weight"], expected["palette.weight"], rtol=1e-3, atol=1e-4)
    trainings.refused(
        compact, "build.patch_size: 4 in the file, 8 here", method="palette", entry={"patch_size": 8}, max_steps=1
    )


def test_a_file_says_how_it_was_trained_and_which_words_it_chose(trainings):
    metadata = read_tensors(trainings.train())[1]
    assert metadata["training"] == {"seed": 0, "steps": 7, "images": 35} and metadata["encoder"] == "toy-encoder"
    assert metadata["words"] == [f" word {number}" for number in range(20)]
    assert (metadata["vocabulary"]["llm"], metadata["vocabulary"]["subwords"]) == ("toy", SUBWORDS)


def test_a_compact_file_leaves_out_what_every_experiment_supplies(trainings):
    tensors, metadata = read_tensors(trainings.compact(trainings.train("lqae")))
    assert not any(key.startswith("language_model.") for key in tensors)
    assert all(key.startswith("language_model.") for key in metadata["compact"]["left_out"])
    source = trainings.train("v2l")
    tensors, metadata = read_tensors(trainings.compact(source))
    assert "tok_embeddings.weight" not in tensors and len(tensors["probe.tok_embeddings.weight"]) == SUBWORDS
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert tensors["tok_embeddings_global.weight"].shape == (20, WIDTH)
    assert metadata["compact"]["source_sha256"] == hash_path(source) and metadata["compact"]["commit"]


def test_probes_are_evenly_spaced_from_the_first_row_to_the_last():
    rows = probe_rows(49_152)
    assert (len(rows), rows[0], rows[-1]) == (64, 0, 49_151) and set((rows[1:] - rows[:-1]).tolist()) <= {780, 781}
    assert probe_rows(5).tolist() == [0, 1, 2, 3, 4]


def test_words_that_this_vocabulary_lacks_have_no_row(trainings):
    source = trainings.train()
    texts = [f" word {number}" for number in range(SUBWORDS)] + ["another"] * 30
    rewrite(source, lambda tensors, metadata: metadata["words"].__setitem__(3, " word 59"))
    trainings.write_vocabulary(texts, SUBWORDS)
    words = pq.read_table(trainings.again("v2l", {"weights": str(source)})["words"]).to_pydict()
    assert words["text"][3] == " word 59" and words["entry"][:5] == [0, 1, 2, None, 4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_compact", [False, True])
def test_training_starts_with_the_weights_and_its_own_codes(trainings, method, is_compact):
    """One step, in which the rate of the warm-up is 0: only statistics of batches move."""
    source = trainings.train(method)
    path = trainings.compact(source) if is_compact else source
    codebook = read_tensors(trainings.inputs["codebook"])[0]
    codebook["global_VD"], codebook["global_entries_V"] = codebook["global_VD"][:4], torch.arange(4)
    trainings.write_codes(codebook)
    outputs = trainings.again(method, {"start_from": str(path)}, max_steps=1)
    expected, (found, metadata) = read_tensors(source)[0], read_tensors(outputs["weights"])
    moved = ("tok_embeddings_global.", "vector_norm.", "output_norm.")
    for key, tensor in expected.items():
        if not key.startswith(moved):
            torch.testing.assert_close(found[key], tensor, rtol=1e-3 * is_compact, atol=1e-6 * is_compact)
    if method == "v2l":
        assert torch.equal(found["tok_embeddings_global.weight"], codebook["global_VD"])
        assert metadata["words"] == [f" word {number}" for number in range(4)]
    assert metadata["training"]["steps"] == 1 and metadata["training"]["start_from"]["steps"] == 7
    assert metadata["v2l"]["inputs"]["start_from"] == [{"path": str(path), "sha256": hash_path(path)}]


def test_a_training_that_starts_from_weights_learns_on_and_matches_nothing(trainings, monkeypatch):
    source = trainings.train()
    kind = type(load_tokenizer(source))
    monkeypatch.setattr(kind, "match_moments", lambda *_: pytest.fail("the projector was matched"))
    lines = lines_of(trainings.again("v2l", {"start_from": str(source)}))
    first = json.loads((trainings.folder / "source.metrics").read_text().splitlines()[0])
    assert lines[0]["step"] == 0 and lines[-1]["pixel"] < lines[0]["pixel"] < first["pixel"]


@pytest.mark.parametrize("key", ["weights", "start_from"])
def test_another_network_is_refused_with_both_values(trainings, key):
    source = trainings.compact(trainings.train())
    network = SECTION["network"]
    trainings.refused(source, "method v2l,", "method v2l-subword", method="v2l-subword", key=key)
    for changed, words in (
        (
            {"channel_multipliers": [1, 1]},
            ["geometry.grid: 4 in the file, 8 here", "channel_multipliers: [1, 1, 2] in"],
        ),
        ({"resize_via": 20}, ["geometry.resize_via: None in the file, 20 here"]),
        ({"image_size": 32}, ["geometry.image_size: 16 in the file, 32 here"]),
        (  # at the same shapes
            {"cross_attention_heads": 4, "cross_attention_head_channels": 2},
            ["build.network.cross_attention_heads: 2 in the file, 4 here", "`tokenizers.toy-tokenizer`"],
        ),
    ):
        trainings.refused(source, *words, key=key, network=network | changed)


def test_what_decides_nothing_after_training_may_differ(trainings):
    source = trainings.train()
    network = SECTION["network"] | {"discriminator_channels": 16, "learned_codebook_size": 5}
    trainings.again("v2l", {"weights": str(source)}, network=network)
    trainings.refused(source, "global_tokens: 3 in the file, 2 here", global_tokens=2)


@pytest.mark.parametrize("key", ["weights", "start_from"])
@pytest.mark.parametrize("is_compact", [False, True])
def test_another_vocabulary_or_encoder_is_refused_with_both(trainings, key, is_compact):
    path = trainings.train()
    path = trainings.compact(path) if is_compact else path
    codebook = read_tensors(trainings.inputs["codebook"])[0]
    changed = codebook | {"local_VD": codebook["local_VD"].clone()}
    changed["local_VD"][29] = changed["local_VD"][29].flip(0)
    trainings.write_codes(changed, "another-encoder")
    trainings.refused(path, "toy-encoder", "another-encoder", "subword 29 has cosine", "0.999", key=key)
    trainings.write_codes(codebook)
    texts = [f" word {number}" for number in range(60)]
    trainings.write_vocabulary([*texts[:29], "other", *texts[30:]], SUBWORDS)
    trainings.refused(path, "30 subwords of language model toy", "30 subwords of other", key=key)
    trainings.write_vocabulary(texts, 29)
    trainings.refused(path, "30 subwords of language model toy", "29 subwords of other", key=key)


def test_embeddings_of_another_width_are_refused(trainings):
    path = trainings.compact(trainings.train())
    codebook = read_tensors(trainings.inputs["codebook"])[0]
    trainings.write_codes(codebook | {"local_VD": torch.randn(SUBWORDS, 12)})
    trainings.refused(path, f"({SUBWORDS}, {WIDTH}) in place of ({SUBWORDS}, 12)")


@pytest.mark.parametrize("is_compact", [False, True])
def test_codes_that_are_no_subwords_of_the_experiment_need_no_vocabulary_of_it(trainings, is_compact, tmp_path):
    """vqgan has no words, and lqae those of its own language model, which must be the same."""
    paths = {}
    for method in ("vqgan", "lqae"):
        path = trainings.train(method)
        path = trainings.compact(path) if is_compact else path
        paths[method] = path.rename(trainings.folder / f"{method}.safetensors")
    trainings.write_vocabulary(["other"] * 60, 20)
    for method, path in paths.items():
        for output in trainings.again(method, {"weights": str(path)}).values():
            output.unlink()
    torch.manual_seed(7)
    other = tmp_path / "other"
    other.mkdir()
    write_roberta(other)
    before = trainings.entries["lqae"]["language_model"]
    for key in ("weights", "start_from"):
        words = ("another language model", before, "language_model.", "tensors differ")
        trainings.refused(paths["lqae"], *words, method="lqae", key=key, entry={"language_model": str(other)})


def write_text(path: Path) -> None:
    path.write_text("no weights")


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": 1}))


def write_other_tensors(path: Path) -> None:
    write_tensors(path, {"feature_ND": torch.ones(2, 2)}, {"commit": "x"}, {"encoder": "clip"})


def write_bare_tensors(path: Path) -> None:
    path.write_bytes(len(header := b'{"__metadata__":{"v2l":"[1]"}}').to_bytes(8, "little") + header)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (write_text, ["is a text, which begins 'no weights'"]),
        (write_pickle, ["cannot be read"]),
        (cut, ["cannot be read"]),
        (write_other_tensors, ["describes no tokenizer", "encoder", "`checkpoint`"]),
        (write_bare_tensors, ["describes no tokenizer"]),
        (Path.unlink, ["is not there", "results/<experiment>/train_tokenizer/<name>.safetensors"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("key", ["weights", "start_from"])
def test_what_is_no_weights_file_is_refused(trainings, damage, words, key):
    damage(source := trainings.train())
    trainings.refused(source, *words, key=key)


def without(*keys: str) -> Callable[[dict, dict], None]:
    return lambda tensors, metadata: [metadata.pop(key) for key in keys]


def replace(key: str, value: torch.Tensor) -> Callable[[dict, dict], None]:
    return lambda tensors, metadata: tensors.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("v2l"), ["does not say what made it", "provenance"]),
        (without("words", "training"), ["another version", "lacks training, words"]),
        (lambda tensors, metadata: metadata["tokenizer"]["build"]["network"].update(new=1), ["another version", "new"]),
        (
            lambda tensors, metadata: tensors.pop("quant_conv.bias"),
            ["missing: quant_conv.bias: expected (8), found nothing"],
        ),
        (replace("more", torch.ones(2)), ["surplus: more: expected nothing, found (2)"]),
        (replace("quant_conv.bias", torch.ones(3)), ["wrong: quant_conv.bias: expected (8), found (3)"]),
        (replace("quant_conv.bias", torch.ones(8).long()), ["wrong: quant_conv.bias", "int64"]),
        (replace("quant_conv.bias", torch.full((8,), torch.nan)), ["not finite: quant_conv.bias"]),
        (lambda tensors, metadata: metadata["words"].pop(), ["19 words", "20 codes"]),
    ],
)
def test_a_file_that_is_not_whole_is_refused(trainings, change, words):
    source = rewrite(trainings.train(), change)
    trainings.refused(source, *words)


def test_the_compact_command_refuses_what_it_cannot_make(trainings):
    source = trainings.train()
    compact = trainings.compact(source)
    target = trainings.folder / "target.safetensors"
    for path, made, word in (
        (compact, MADE, "compact already"),
        (source, MADE | {"hours": 0.0}, "--hours 0.0"),
        (source, MADE | {"machine": " "}, "--machine ' '"),
    ):
        with pytest.raises(UserError, match=word):
            write_compact(path, target, **made)
    rewrite(source, replace("quant_conv.bias", torch.full((8,), 1e6)))
    with pytest.raises(UserError, match="float16 has values that are not finite: quant_conv.bias"):
        write_compact(source, target, **MADE)
    assert not target.exists()


def test_the_compact_command_runs_from_the_shell(trainings):
    target = trainings.folder / "weights" / "toy.safetensors"
    command = [sys.executable, "-m", "v2l.models.compact", str(trainings.train()), str(target)]
    made = ["--command", "make it", "--machine", "an abacus", "--hours", "2"]
    done = subprocess.run([*command, *made], capture_output=True, text=True)
    assert done.returncode == 0 and "MB" in done.stderr, done.stderr
    assert tokenizer_description(target)["name"] == "toy-tokenizer"
    failed = subprocess.run([*command, *made[:-1], "-1"], capture_output=True, text=True)
    assert failed.returncode == 1 and "error: --command is 'make it'" in failed.stderr, failed.stderr


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"method": "v2l", "weights": "a", "start_from": "b"}, ["`weights` and `start_from` exclude each other"]),
        ({"method": "v2l", "weights": "a", "checkpoint": "b"}, ["`checkpoint` and `weights` exclude each other"]),
        (
            {"method": "vqgan", "start_from": "a", "checkpoint": "b", "checkpoint_config": "c"},
            ["`checkpoint` and `start_from` exclude each other"],
        ),
        (
            {"method": "spae", "pyramid": [1, 4], "weights": "results/tiny/train_tokenizer/mine.safetensors"},
            ["`tokenizers.mine.weights`", "this tokenizer's training writes"],
        ),
    ],
)
def test_entries_that_contradict_themselves_stop_at_parse_time(entry, words):
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "tiny", "tokenizers": {"mine": entry}})
    assert all(word in str(caught.value) for word in words) and "`tokenizers.mine" in str(caught.value)


def test_a_missing_file_says_what_makes_it():
    assert how_to_make(Path("weights/demo/v2l.safetensors")) == "`make demo-training` makes it"
    path = "results/paper/train_tokenizer/v2l.safetensors"
    assert how_to_make(Path(path)) == f"`snakemake {path} --config experiment=paper` makes it"


TARGET = "results/tiny/train_tokenizer/{}.safetensors"


def overrides(**entries: dict) -> list[str]:
    """`--config` of the tiny experiment with further tokenizers."""
    return ["--config", "experiment=tiny", f"tokenizers={yaml.safe_dump(entries, default_flow_style=True, width=9999)}"]


def test_the_files_of_a_plan(tmp_path):
    """Missing files are reported with what makes them, this experiment's own are made; imports read no pictures."""
    project = Project(tmp_path)
    again = {"method": "v2l", "weights": TARGET.format("v2l")}
    further = {"method": "vqgan", "start_from": TARGET.format("vqgan")}
    result = project.snakemake(
        "-n", TARGET.format("again"), TARGET.format("further"), *overrides(again=again, further=further)
    )
    assert result.returncode == 0 and "train_tokenizer_import" in result.stdout, result.stdout
    assert "train_tokenizer: further" in result.stdout and "train_tokenizer: vqgan" in result.stdout
    assert "tokenizers.again" not in result.stdout
    shipped = {"method": "v2l", "weights": "weights/demo/absent.safetensors"}
    planned = project.snakemake("-n", TARGET.format("shipped"), *overrides(shipped=shipped))
    assert "train_tokenizer_import" in planned.stdout and "embed_images" not in planned.stdout, planned.stdout
    said = "tokenizers.shipped.weights: weights/demo/absent.safetensors (`make demo-training` makes it)"
    assert said in planned.stdout
    failed = project.snakemake(TARGET.format("shipped"), *overrides(shipped=shipped))
    assert failed.returncode != 0 and said in failed.stdout and not (project.folder / "results").exists()


@pytest.mark.pipeline
def test_a_tokenizer_of_the_tiny_run_is_imported_and_reruns_with_its_file(tiny_run, tmp_path):
    project = tiny_run.copy(tmp_path)
    source = project.folder / "mine.safetensors"
    source.write_bytes((project.folder / TARGET.format("v2l")).read_bytes())
    arguments = [TARGET.format("again"), *overrides(again={"method": "v2l", "weights": "mine.safetensors"})]
    assert project.planned(*arguments) == {"train_tokenizer_import": 1}
    result = project.snakemake(*arguments)
    assert result.returncode == 0, result.stdout[-6000:]
    found, expected = (read_tensors(project.folder / TARGET.format(name))[0] for name in ("again", "v2l"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert project.planned(*arguments) == {}
    rewrite(source, lambda tensors, metadata: tensors["quant_conv.bias"].add_(1))
    assert project.planned(*arguments) == {"train_tokenizer_import": 1}
    started = [TARGET.format("further"), *overrides(further={"method": "v2l", "start_from": "mine.safetensors"})]
    assert project.planned(*started) == {"train_tokenizer": 1}
