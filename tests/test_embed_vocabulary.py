"""Stage embed_vocabulary: means over templates, in row order, one row for each vocabulary entry."""

import json
import logging

import open_clip
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests import tiny
from v2l import embed_vocabulary
from v2l.configuration.config import EmbedVocabulary
from v2l.configuration.model_entries import AnyEncoder, ConseEncoder, OpenClipEncoder
from v2l.configuration.slices import StageConfig
from v2l.encoders.image_text_encoder import ImageTextEncoder
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import read_tensors, write_parquet

FACTS = {"llm": "tiny", "size": 9, "sha256": "0" * 64, "subwords": 2}


class FirstLetter(ImageTextEncoder):
    """Encodes a text as the unit vector of its first letter, and remembers what it was asked."""

    dimension, image_size, device = 26, 1, torch.device("cpu")

    def __init__(self):
        self.asked = []

    def encode_text(self, texts):
        self.asked.append(texts)
        return torch.eye(26)[[ord(text[0]) - ord("a") for text in texts]]

    def token_counts(self, texts):
        return [len(text) for text in texts]

    def encode_squares(self, pixels_NHWC):
        raise NotImplementedError


def test_mean_over_templates_is_not_normalised_again():
    embedding_VD = embed_texts(FirstLetter(), [" cat", "bird"], prompt_templates(["{} photo", "a {}"]), batch_size=8)
    expected = torch.zeros(2, 26)
    expected[:, 0] = expected[0, 2] = expected[1, 1] = 0.5
    assert torch.equal(embedding_VD, expected)


def test_texts_are_stripped_and_encoded_once():
    encoder = FirstLetter()
    embedding_VD = embed_texts(encoder, [" cat", "dog ", "cat", "\tcat\n"], prompt_templates(["{}"]), batch_size=8)
    assert encoder.asked == [["cat", "dog"]]
    assert embedding_VD.argmax(dim=1).tolist() == [2, 3, 2, 2]


def test_batches_hold_texts_of_similar_length():
    encoder = FirstLetter()
    embed_texts(encoder, ["abcd", "a", "xyzz", "b"], prompt_templates(["{}"]), batch_size=2)
    assert encoder.asked == [["a", "b"], ["abcd", "xyzz"]]


@settings(max_examples=30)
@given(
    texts=st.lists(st.text("abcxyz ", min_size=1).filter(str.strip), min_size=1, max_size=30), batch=st.integers(1, 40)
)
def test_rows_keep_their_order_at_any_batch_size(texts, batch):
    encoder = FirstLetter()
    embedding_VD = embed_texts(encoder, texts, prompt_templates(["{}", "a {}"]), batch)
    letters_V = [ord(text.strip()[0]) - ord("a") for text in texts]
    expected = (torch.eye(26)[letters_V] + torch.eye(26)[[0] * len(texts)]) / 2
    assert torch.equal(embedding_VD, expected)
    assert max(len(asked) for asked in encoder.asked) <= batch


def test_batches_of_the_stage_s_own_shrink_where_memory_does_not_suffice(caplog):
    class ShortOfMemory(FirstLetter):
        def encode_text(self, texts):
            if len(texts) > 2:
                raise torch.OutOfMemoryError
            return super().encode_text(texts)

    templates, texts = prompt_templates(["{}"]), ["ab", "bc", "cd", "de", "ef"]
    found = embed_texts(ShortOfMemory(), texts, templates, None)
    assert torch.equal(found, embed_texts(FirstLetter(), texts, templates, None))
    assert "no memory for 5 entries at once" in caplog.text
    with pytest.raises(UserError, match=r"5 entries at once.*`embed_vocabulary.batch_size`"):
        embed_texts(ShortOfMemory(), texts, templates, 5)


def test_imagenet_templates_are_the_eighty_of_open_clip():
    prompts = [template("rabbit") for template in prompt_templates("imagenet-80")]
    assert len(set(prompts)) == 80
    assert all(prompt.count("rabbit") == 1 for prompt in prompts)
    assert prompts[0] == open_clip.OPENAI_IMAGENET_TEMPLATES[0]("rabbit")


def test_braces_in_a_text_are_kept():
    assert prompt_templates(["a photo of {}"])[0]("{x}") == "a photo of {x}"


@pytest.mark.parametrize("templates", [[], ["no place"], ["{} and {}"], ["{name}"], ["{} {"], "imagenet-81"])
def test_templates_without_exactly_one_place_are_refused(templates):
    with pytest.raises(ValidationError):
        EmbedVocabulary(templates=templates)


def test_class_template_of_conse_is_checked():
    with pytest.raises(ValidationError):
        ConseEncoder(kind="conse", text="a", image="b", class_names="c", class_template="a photo")


@pytest.fixture
def stage(tmp_path):
    """Configuration and paths of a run on three entries with the tiny CLIP."""
    tiny.write_clip(tmp_path)
    files = {"model": str(tmp_path / "clip.json"), "weights": str(tmp_path / "clip.safetensors")}
    entry = OpenClipEncoder(kind="open_clip", **files).model_dump()
    data = {
        "seed": 0,
        "encoder": "clip",
        "encoders": {"clip": entry},
        "embed_vocabulary": {"templates": ["a photo of {}", "a drawing of {}."], "batch_size": 1024},
    }
    table = pa.table(
        {
            "kind": ["subword", "subword", "bigram"],
            "token_ids": pa.array([[3], [4], [3, 4]], pa.list_(pa.int32())),
            "text": [" rabbit", "cat", " rabbit cat"],
        }
    )
    vocabulary = tmp_path / "vocabulary.parquet"
    write_parquet(vocabulary, table, {"stage": "expand_vocabulary"}, {"vocabulary": FACTS})
    return data, {"vocabulary": vocabulary}, {"embedding": tmp_path / "out" / "embedding.safetensors"}


def test_run_writes_the_means_with_facts_and_provenance(stage, caplog):
    data, inputs, outputs = stage
    caplog.set_level(logging.INFO)
    embed_vocabulary.run(StageConfig("embed_vocabulary", data), Inputs(inputs), outputs)
    tensors, metadata = read_tensors(outputs["embedding"])
    encoder = load_encoder(TypeAdapter(AnyEncoder).validate_python(data["encoders"]["clip"]), torch.device("cpu"))
    for row, word in enumerate(["rabbit", "cat", "rabbit cat"]):
        expected = encoder.encode_text([f"a photo of {word}", f"a drawing of {word}."]).mean(dim=0)
        assert torch.allclose(tensors["embedding_VD"][row], expected, atol=1e-6)
    assert tensors["embedding_VD"].dtype == torch.float32
    assert metadata["vocabulary"] == FACTS
    assert metadata["encoder"] == "clip"
    assert metadata["v2l"]["stage"] == "embed_vocabulary"
    assert metadata["v2l"]["config"] == data
    assert sorted(metadata["v2l"]["inputs"]) == ["encoders.clip.model", "encoders.clip.weights", "vocabulary"]
    assert "embedded 3 entries with 2 templates, 16 channels" in caplog.text


def test_two_runs_give_the_same_bytes(stage):
    data, inputs, outputs = stage
    written = []
    for _ in range(2):
        embed_vocabulary.run(StageConfig("embed_vocabulary", json.loads(json.dumps(data))), Inputs(inputs), outputs)
        written.append(outputs["embedding"].read_bytes())
    assert written[0] == written[1]


def test_missing_encoder_weights_stop_the_stage_without_output(stage):
    data, inputs, outputs = stage
    data["encoders"]["clip"]["weights"] = "nowhere.pt"
    with pytest.raises(UserError, match="nowhere.pt does not exist"):
        embed_vocabulary.run(StageConfig("embed_vocabulary", data), Inputs(inputs), outputs)
    assert not outputs["embedding"].exists()
