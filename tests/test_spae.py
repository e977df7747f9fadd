"""SPAE in our reading: positions, streaming average quantization, semantic guidance, stage and settings."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_train_tokenizer import SECTION, lines_of, toy, vgg  # noqa: F401
from v2l.configuration.experiment import load_experiment
from v2l.configuration.tokenizer_entries import SPAEEntry
from v2l.configuration.tokenizer_training import Loss, Network
from v2l.configuration.variants import map_side, pyramid_problem
from v2l.errors import UserError
from v2l.io.storage import read_tensors
from v2l.models.quantizers import matching_map, transport_map
from v2l.models.spae import SPAETokenizer, layer_positions
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.models.vision_tokenizer import Batch
from v2l.tables.tables import TABLES
from v2l.training.trainer import Trainer

VOCABULARY, WIDTH = 60, 12
LOSS = Loss(perceptual_weights="unused")
NETWORK = Network(
    image_size=16, channels=8, channel_multipliers=[1, 1], residual_blocks=1, latent_channels=8, resize_via=None
)  # 8x8 tokens


def make(pyramid: tuple[int, ...] = (1, 2, 4, 8), codes: int = VOCABULARY, **entry) -> SPAETokenizer:
    """A tokenizer whose codes are spread as the encoder's vectors are."""
    torch.manual_seed(0)
    entry = SPAEEntry(method="spae", pyramid=list(pyramid), **{"semantic_layers": 1} | entry)
    tokenizer = SPAETokenizer("toy", NETWORK, entry, torch.randn(codes, WIDTH)).eval()
    tokenizer.match_moments(images(8))
    return tokenizer


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


def projected(tokenizer: SPAETokenizer) -> torch.Tensor:
    return tokenizer.codes(torch.arange(tokenizer.local_size))


def plain_quantization(vector_LD, code_VD, pyramid, grid):
    """Streaming average quantization one position at a time, in float64: (ids of each layer, decoder input_LD)."""
    chosen = {position: [] for position in range(grid * grid)}
    ids = []
    for side in pyramid:
        block, layer = grid // side, []
        for row in range(side):
            for column in range(side):
                position = (row * block + block // 2) * grid + column * block + block // 2
                vector = vector_LD[position]
                target = vector + sum((vector - code_VD[code] for code in chosen[position]), np.zeros_like(vector))
                code = int(((target - code_VD) ** 2).sum(1).argmin())
                chosen[position].append(code)
                layer.append(code)
        ids.append(layer)
    return ids, np.stack([code_VD[codes].mean(0) for codes in chosen.values()])


@pytest.mark.parametrize("pyramid", [(1, 2, 4, 8), (1, 8, 8, 8), (2, 8)])
def test_quantization_equals_a_plain_loop(pyramid, monkeypatch):
    tokenizer = make(pyramid)
    with torch.no_grad():
        vector_BLD, code_VD = tokenizer.vectors(images()), projected(tokenizer)
    shown = []
    monkeypatch.setattr(tokenizer, "decode_vectors", lambda code_BLD: shown.append(code_BLD) or code_BLD)
    local_BL, global_BK = tokenizer.encode(images())
    tokenizer.decode(local_BL, global_BK)
    tokenizer(Batch(images(), torch.randn(3, WIDTH), torch.zeros(3, 64)), LOSS)
    for image in range(3):
        ids, mean_LD = plain_quantization(
            vector_BLD[image].double().numpy(), code_VD.detach().double().numpy(), pyramid, 8
        )
        assert sum(ids[:-1], []) == global_BK[image].tolist() and ids[-1] == local_BL[image].tolist()
        for decoder_input in shown:  # of decode, and of the training pass
            torch.testing.assert_close(decoder_input[image].detach(), torch.tensor(mean_LD).float())
    assert len(global_BK.unique()) > 1 and len(local_BL.unique()) > 10


def test_first_ids_are_whole_layers():
    network = Network()  # the paper's 16x16 map
    entry = SPAEEntry(method="spae")
    counts = np.cumsum([side**2 for side in entry.pyramid]).tolist()
    assert counts == [1, 5, 21, 85, 341, 597] and pyramid_problem(entry, map_side(network)) is None
    tokenizer = make()
    assert tokenizer.global_tokens == 21 and np.cumsum(tokenizer.sizes).tolist()[1:3] == [5, 21]
    upper = tokenizer.encode(images()).global_BK
    for sides, count in [((1, 8), 1), ((1, 2, 8), 5)]:  # up to there no position is in two layers
        assert torch.equal(make(sides).encode(images()).global_BK, upper[:, :count])


def test_layers_hold_the_centres_of_equal_blocks():
    found = {side: [divmod(position, 8) for position in layer_positions(side, 8).tolist()] for side in (1, 2, 4, 8)}
    assert found[1] == [(4, 4)]
    assert found[2] == [(2, 2), (2, 6), (6, 2), (6, 6)]
    assert found[4] == [(row, column) for row in (1, 3, 5, 7) for column in (1, 3, 5, 7)]
    assert found[8] == [(row, column) for row in range(8) for column in range(8)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4))
def test_the_streaming_average_is_the_mean_of_the_chosen_codes(seed, sides):
    tokenizer = make((*sorted(sides), 8))
    generator = torch.Generator().manual_seed(seed)
    vector_BLD = torch.randn(2, 64, WIDTH, generator=generator)
    code_VD = torch.randn(VOCABULARY, WIDTH, generator=generator)
    chosen = [[[] for _ in range(64)] for _ in range(2)]
    for layer in tokenizer.quantize(vector_BLD, code_VD):
        for image in range(2):
            for number, position in enumerate(layer.position_P.tolist()):
                seen = chosen[image][position]
                target = vector_BLD[image, position] * (len(seen) + 1) - sum(seen)
                torch.testing.assert_close(layer.target_BPD[image, number], target, atol=1e-5, rtol=1e-4)
                seen.append(code_VD[layer.ids_BP[image, number]])
                torch.testing.assert_close(layer.mean_BPD[image, number], torch.stack(seen).mean(0))


def test_more_layers_never_raise_the_mean_error():
    """With the same map quantized 1, 2, .. 6 times, the mean of the codes comes closer and closer to the vectors."""
    tokenizer = make((8,) * 6, codes=200)
    vector_BLD = torch.randn(16, 64, WIDTH, generator=torch.Generator().manual_seed(5))
    code_VD = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(6))
    layers = tokenizer.quantize(vector_BLD, code_VD)
    error = [(layer.mean_BPD - vector_BLD).square().sum(2).mean().item() for layer in layers]
    assert all(later < earlier for earlier, later in zip(error, error[1:], strict=False))
    assert error[-1] < error[0] / 2


def test_vectors_are_normalised_over_the_batch():
    tokenizer = make().train()
    vector_ND = tokenizer.vectors(images(8)).flatten(0, 1)
    torch.testing.assert_close(vector_ND.mean(0), torch.zeros(WIDTH), atol=1e-5, rtol=0)
    torch.testing.assert_close(vector_ND.var(0, correction=0), torch.full((WIDTH,), 1 / WIDTH), atol=1e-4, rtol=1e-2)
    alone = tokenizer.eval().vectors(images(8))[:1]
    torch.testing.assert_close(tokenizer.vectors(images(8)[:1]), alone, atol=1e-5, rtol=1e-4)


def test_transport_gives_the_codes_the_vectors_moments_and_moves_them_least():
    generator = torch.Generator().manual_seed(0)
    code_VD, vector_ND = torch.randn(400, 6, generator=generator), torch.randn(300, 6, generator=generator)
    code_VD = code_VD @ torch.randn(6, 6, generator=generator)
    vector_ND = vector_ND @ torch.randn(6, 6, generator=generator) + 2
    moved = {found: F.linear(code_VD, *found(code_VD, vector_ND)) for found in (transport_map, matching_map)}
    for made_VD in moved.values():
        torch.testing.assert_close(made_VD.mean(0), vector_ND.mean(0), atol=1e-3, rtol=0)
        torch.testing.assert_close(made_VD.T.cov(correction=0), vector_ND.T.cov(correction=0), atol=2e-2, rtol=1e-2)
    distance = {found: (made_VD - code_VD).square().sum(1).mean() for found, made_VD in moved.items()}
    assert distance[transport_map] < distance[matching_map]


def test_matching_twice_leaves_the_words_where_they_are():
    tokenizer = make().train()
    tokenizer.match_moments(images(64))
    once = projected(tokenizer).detach()
    vector_ND = tokenizer.vectors(images(64)).detach().flatten(0, 1)
    torch.testing.assert_close(once.mean(0), vector_ND.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(once.T.cov(correction=0), vector_ND.T.cov(correction=0), atol=1e-3, rtol=0)
    tokenizer.match_moments(images(64))
    torch.testing.assert_close(projected(tokenizer).detach(), once, atol=1e-3, rtol=0)


def test_gradients_pass_straight_from_the_image_to_the_vectors():
    tokenizer = make()
    weight_BLD = torch.randn(3, 64, WIDTH, generator=torch.Generator().manual_seed(7))
    found = []

    def vectors(image_BCHW):
        found.append(SPAETokenizer.vectors(tokenizer, image_BCHW).detach().requires_grad_())
        return found[-1]

    tokenizer.vectors = vectors
    tokenizer.decode_vectors = lambda code_BLD: code_BLD
    output, losses, _ = tokenizer(Batch(images(), torch.randn(3, WIDTH), torch.zeros(3, 64)), LOSS)
    (output * weight_BLD).sum().backward(retain_graph=True)
    torch.testing.assert_close(found[0].grad, weight_BLD)
    assert tokenizer.codebook_projection.weight.grad is None
    (losses["quantizer"] + losses["semantic"]).backward()
    assert tokenizer.codebook_projection.weight.grad.abs().sum() > 0 and tokenizer.tok_embeddings.weight.grad is None


def test_quantizer_loss_is_the_mean_over_layers():
    tokenizer = make((2, 8))
    with torch.no_grad():
        vector_BLD = tokenizer.vectors(images())
        first, last = tokenizer.quantize(vector_BLD, projected(tokenizer))
        _, losses, _ = tokenizer(Batch(images(), torch.randn(3, WIDTH), torch.zeros(3, 64)), LOSS)
    errors = [F.mse_loss(layer.mean_BPD, vector_BLD[:, layer.position_P]) for layer in (first, last)]
    assert losses["quantizer"].item() == pytest.approx((1 + 0.33) * sum(errors).item() / 2, rel=1e-5)


def test_semantic_loss_by_hand():
    """Two codes of variance 0.35: cosines 1 and 0 with the feature, squared distances 0.25 and 0.65 of the target."""
    tokenizer = make((1, 8), codes=2, similarity_temperature=0.5, distance_temperature=0.2)
    tokenizer.tok_embeddings.weight.zero_()[[0, 1], [0, 1]] = torch.tensor([2.0, 3.0])
    feature_BD, target_BPD, code_VD = torch.zeros(1, WIDTH), torch.zeros(1, 1, WIDTH), torch.zeros(2, WIDTH)
    feature_BD[0, 0] = 5.0
    target_BPD[0, 0, 0] = 0.5
    code_VD[0, 0], code_VD[1, 1] = 1.0, math.sqrt(0.4)
    wanted = 1 / (1 + math.exp(-1 / 0.5))
    found = 1 / (1 + math.exp((0.25 - 0.65) / (0.2 * 0.35)))
    expected = -wanted * math.log(found) - (1 - wanted) * math.log(1 - found)
    assert tokenizer.semantic_loss(target_BPD, feature_BD, code_VD).item() == pytest.approx(expected, rel=1e-5)


def test_semantic_loss_takes_the_mean_over_upper_positions_alone():
    tokenizer = make(semantic_layers=2)
    feature_BD, code_VD = F.normalize(torch.randn(3, WIDTH), dim=1), projected(tokenizer).detach()
    batch = Batch(images(), feature_BD, torch.zeros(3, 64))
    with torch.no_grad():
        vector_BLD, losses = tokenizer.vectors(images()), tokenizer(batch, LOSS).losses
    places = [*layer_positions(1, 8).tolist(), *layer_positions(2, 8).tolist()]
    cosine_BV = F.cosine_similarity(feature_BD[:, None], tokenizer.tok_embeddings.weight, dim=2)
    wanted_BV = (cosine_BV / tokenizer.entry.similarity_temperature).softmax(1)
    variance, terms = code_VD.var(0, correction=0).sum(), []
    for place in places:
        distance_BV = (vector_BLD[:, place, None] - code_VD).square().sum(2)
        logits_BV = -distance_BV / (tokenizer.entry.distance_temperature * variance)
        terms.append(F.cross_entropy(logits_BV, wanted_BV))
    torch.testing.assert_close(losses["semantic"], torch.stack(terms).mean())


def test_without_weight_or_layers_there_is_no_guidance():
    batch = Batch(images(), None, torch.zeros(3, 64))
    assert set(make()(batch, LOSS.model_copy(update={"semantic": 0.0})).losses) == {"quantizer"}
    assert set(make(semantic_layers=0)(batch, LOSS).losses) == {"quantizer"}


def test_guidance_alone_brings_the_words_of_the_image_to_the_top():
    """Trained on nothing else, the first word is the one that the image feature is closest to."""
    tokenizer = make((1, 8), codes=12, similarity_temperature=0.05)
    feature_BD = F.normalize(tokenizer.tok_embeddings.weight[[3, 7, 9]], dim=1)
    batch = Batch(images(), feature_BD, torch.zeros(3, 64))
    optimizer = torch.optim.Adam([p for p in tokenizer.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        tokenizer(batch, LOSS).losses["semantic"].backward()
        optimizer.step()
    assert tokenizer.encode(images()).global_BK[:, 0].tolist() == [3, 7, 9]


def test_equal_codes_give_the_lowest_id():
    tokenizer = make()
    doubled = torch.cat([tokenizer.tok_embeddings.weight] * 2)
    torch.manual_seed(0)
    other = SPAETokenizer("toy", NETWORK, tokenizer.entry, doubled)
    state = tokenizer.state_dict() | {"tok_embeddings.weight": doubled}
    other.eval().load_state_dict(state)
    assert all(torch.equal(*pair) for pair in zip(tokenizer.encode(images()), other.encode(images()), strict=True))


def test_quantization_is_float32_under_autocast():
    tokenizer = make()
    seen = []
    original = tokenizer.quantize
    tokenizer.quantize = lambda *arguments: seen.extend(arguments) or original(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        losses = tokenizer(Batch(images(), torch.randn(3, WIDTH), torch.zeros(3, 64)), LOSS).losses
    assert {tensor.dtype for tensor in [*seen, *losses.values()]} == {torch.float32}


def test_decoding_needs_the_upper_layers():
    tokenizer = make()
    local_BL, global_BK = tokenizer.encode(images())
    with pytest.raises(ValueError, match="global ids"):
        tokenizer.decode(local_BL, None)
    difference = tokenizer.decode(local_BL, global_BK) - tokenizer.decode(local_BL, (global_BK + 1) % VOCABULARY)
    assert difference.abs().max() > 1e-4


def test_saved_and_loaded_tokenizer_is_the_same(tmp_path):
    tokenizer = make((1, 4, 8, 8), similarity_temperature=0.3)
    tokenizer.save(tmp_path / "weights.safetensors", {})
    loaded = load_tokenizer(tmp_path / "weights.safetensors")
    metadata = tokenizer_description(tmp_path / "weights.safetensors")
    assert loaded.description == tokenizer.description == metadata and loaded.entry == tokenizer.entry
    assert (metadata["worded_ids"], metadata["shown_as"], metadata["global_tokens"]) == ("global", "subword", 81)
    assert "our reading" in metadata["note"]
    assert metadata["codebooks"]["local"] == metadata["codebooks"]["global"]
    codes = loaded.encode(images())
    assert all(torch.equal(*pair) for pair in zip(codes, tokenizer.encode(images()), strict=True))
    assert torch.equal(loaded.decode(*codes), tokenizer.decode(*codes))


def test_words_are_the_subwords():
    vocabulary = pa.table({"text": [" a", "b", " c", " c d"]})  # the last is an expansion
    words = SPAETokenizer.words(SPAEEntry(method="spae"), {"local_VD": torch.zeros(3, 4)}, vocabulary)
    assert words.texts == [" a", "b", " c"] and words.entries == [0, 1, 2]


ENTRY = {"pyramid": [1, 2, 4], "semantic_layers": 2}


def test_training_writes_losses_words_and_frozen_codes(toy):  # noqa: F811
    outputs = toy("spae", ENTRY)
    lines = lines_of(outputs)
    assert {"pixel", "perceptual", "quantizer", "semantic"} <= set(lines[0])
    assert lines[-1]["pixel"] < lines[0]["pixel"] and all(line["codes_used"] > 1 for line in lines)
    metadata, tensors = tokenizer_description(outputs["weights"]), read_tensors(outputs["weights"])[0]
    assert metadata["method"] == "spae" and metadata["global_tokens"] == 5
    assert torch.equal(tensors["tok_embeddings.weight"], read_tensors(toy.inputs["codebook"])[0]["local_VD"])
    words = pa.parquet.read_table(outputs["words"])
    assert words["code"].to_pylist() == words["entry"].to_pylist() == list(range(30))


def test_interrupted_and_resumed_training_equals_uninterrupted(toy, interrupt):  # noqa: F811
    expected_lines = (outputs := toy("spae", ENTRY))["metrics"].read_bytes()
    expected = read_tensors(outputs["weights"])[0]
    outputs["weights"].unlink()
    taken = interrupt(Trainer)
    with pytest.raises(InterruptedError):
        toy("spae", ENTRY)
    toy("spae", ENTRY)
    assert taken == [0, 1, 2, 3, 4, 5, 4, 5, 6] and outputs["metrics"].read_bytes() == expected_lines
    found = read_tensors(outputs["weights"])[0]
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_guidance_weight_changes_the_weights(toy):  # noqa: F811
    guided = read_tensors(toy("spae", ENTRY)["weights"])[0]
    free = read_tensors(toy("spae", ENTRY, loss=SECTION["loss"] | {"semantic": 0.0})["weights"])[0]
    assert not torch.equal(guided["encoder.conv_in.weight"], free["encoder.conv_in.weight"])


BAD_PYRAMIDS = [
    ([1, 2, 4], "the last side must be that of the token map, 8"),
    ([2, 1, 8], "sides must ascend"),
    ([1, 3, 8], "every side must divide that of the token map, 8; 3 does not"),
    ([1, 2, 8], "more sides than `semantic_layers` = 3"),
]


@pytest.mark.parametrize(("pyramid", "problem"), BAD_PYRAMIDS)
def test_bad_pyramids_are_named(pyramid, problem):
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "demo", "tokenizers": {"spae": {"pyramid": pyramid}}})
    assert "`tokenizers.spae.pyramid`" in str(caught.value) and problem in str(caught.value)
    assert str(pyramid) in str(caught.value)
    with pytest.raises(UserError, match="`tokenizers.toy.pyramid`"):
        make(tuple(pyramid), semantic_layers=3)


@pytest.mark.parametrize(("pyramid", "place"), [([], "pyramid`"), ([8], "pyramid`"), ([0, 8], "pyramid.0`")])
def test_pyramids_of_wrong_type_are_named(pyramid, place):
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "demo", "tokenizers": {"spae": {"pyramid": pyramid}}})
    assert f"`tokenizers.spae.{place}" in str(caught.value)


def test_a_variants_own_geometry_decides():
    smaller = {"pyramid": [1, 2, 4], "semantic_layers": 2, "train_tokenizer": {"network": {"image_size": 32}}}
    assert load_experiment({"experiment": "demo", "tokenizers": {"spae": smaller}}).tokenizers["spae"].pyramid[-1] == 4


@pytest.mark.parametrize("experiment", ["demo", "paper", "tiny"])
def test_spae_stands_in_all_four_tables(experiment):
    config = load_experiment({"experiment": experiment})
    for table in ("table1_classification", "table2_semantics", "table3_reconstruction", "table4_restoration"):
        assert any(run.tokenizer == "spae" for run in TABLES[table].runs(config)), table
