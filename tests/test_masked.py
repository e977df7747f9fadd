"""Task masked: gaps of token maps, filled by a tiny LLaMA with an adapter and by the commonest visible code."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.masked_experiment import IMAGES, SIDE, build, entry, ids_of, stage_config
from tests.token_experiment import experiment
from v2l import evaluate_llm, finetune_llm
from v2l.configuration.runs import Run
from v2l.configuration.sources import Source
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.llm.code_ids import all_code_ids
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import MaskedPrompt
from v2l.llm.vocabulary import Vocabulary
from v2l.metrics.source_names import names_of, note_of
from v2l.models.quantizers import hide
from v2l.tables.tables import RESTORATION
from v2l.tasks.masked import GapQuestion, frequent_predictor
from v2l.tasks.restoration_sequences import STEP_SCHEMA
from v2l.tasks.token_maps import image_mask, random_mask

LENGTH = SIDE * SIDE
MASKED = 5  # of 16: 30 %, rounded


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Tokens, vocabulary and language model, with an adapter that was trained for a few steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inputs")
    inputs = build(folder)
    names = {
        "adapter": "adapter_model.safetensors",
        "adapter_config": "adapter_config.json",
        "metrics": "metrics.jsonl",
    }
    outputs = {key: folder / "adapter" / name for key, name in names.items()}
    config = stage_config("finetune_llm", inputs, folder / "work")
    finetune_llm.run(config, Inputs({name: inputs[name] for name in ("tokens", "vocabulary")}), outputs)
    return inputs | {"adapter": outputs["adapter"]}


def predictions(inputs: dict[str, Path], path: Path, **changes) -> list[dict]:
    needs = ["tokens", "vocabulary", *(["adapter"] if changes.get("predictor", "tiny") == "tiny" else [])]
    config = stage_config("evaluate_llm", inputs, path.parent, **changes)
    evaluate_llm.run(config, Inputs({name: inputs[name] for name in needs}), {"predictions": path})
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def filled(inputs, tmp_path_factory) -> list[dict]:
    return predictions(inputs, tmp_path_factory.mktemp("filled") / "predictions.parquet")


@given(length=st.integers(1, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_a_mask_has_its_share_and_is_the_images_own(length, share, seed):
    masked_L = image_mask(length, share, seed, "a.png")
    assert masked_L.shape == (length,) and masked_L.sum() == max(1, round(share * length))
    assert np.array_equal(masked_L, image_mask(length, share, seed, "a.png"))


def test_masks_differ_between_images_and_seeds():
    masks = [image_mask(256, 0.3, seed, name).tolist() for seed in (0, 1) for name in ("a.png", "b.png")]
    assert len({tuple(mask) for mask in masks}) == 4 and all(sum(mask) == 77 for mask in masks)


def test_every_position_is_masked_equally_often():
    generator = np.random.default_rng(0)
    counts = sum(random_mask(10, 0.3, generator).astype(int) for _ in range(4000))
    assert np.abs(counts / 4000 - 0.3).max() < 0.03


def test_the_prompt_shows_the_map_with_gaps_and_then_as_far_as_it_is_known(inputs):
    tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1]
    map_L, masked_L = np.array([300, 301, 302, 303]), np.array([False, True, True, False])
    prompt = MaskedPrompt(tokenizer).ids(map_L, masked_L, 2)
    head = tokenizer("Picture with gaps:").input_ids
    middle = tokenizer("\nPicture:", add_special_tokens=False).input_ids
    assert prompt == [*head, 300, 0, 0, 303, *middle, 300, 301]
    assert tokenizer.unk_token_id == 0


def test_every_masked_position_is_predicted_once_and_each_gap_in_one_piece(inputs, filled):
    tokens = Tokens.read(inputs["tokens"])
    assert list(dict.fromkeys(row["image_id"] for row in filled)) == tokens.image_id.tolist()
    for image_id, local_L in zip(tokens.image_id, tokens.local_NL, strict=True):
        rows = [row for row in filled if row["image_id"] == image_id]
        where = np.concatenate([row["positions"] for row in rows])
        assert np.array_equal(where, np.flatnonzero(image_mask(LENGTH, 0.3, 0, image_id))) and len(where) == MASKED
        assert [row["step"] for row in rows] == list(range(len(rows)))
        assert all(later["positions"][0] > row["positions"][-1] + 1 for row, later in zip(rows, rows[1:], strict=False))
        assert all(row["target_codes"] == local_L[row["positions"]].tolist() for row in rows)
    assert {row["task"] for row in filled} == {"masked"}


def test_answers_are_the_tuned_models_own_restricted_to_the_codebook(inputs, filled):
    """Greedy, one forward pass for each token, what was predicted before seen in the second map alone."""
    model, tokenizer = load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"), adapter=inputs["adapter"].parent)
    ids, prompt = ids_of(inputs), MaskedPrompt(tokenizer)
    tokens = Tokens.read(inputs["tokens"])
    for image_id, local_L in list(zip(tokens.image_id, tokens.local_NL, strict=True))[:4]:
        masked_L = image_mask(LENGTH, 0.3, 0, image_id)
        seen_L = np.where(masked_L, -1, local_L)
        rows = {position: row for row in filled if row["image_id"] == image_id for position in row["positions"]}
        for position in np.flatnonzero(masked_L).tolist():
            token_1T = torch.tensor([prompt.ids(ids[seen_L], masked_L, position)])
            if position == rows[position]["positions"][0]:
                assert rows[position]["prompt_ids"] == token_1T[0].tolist()
            seen_L[position] = int(model(token_1T).logits[0, -1, ids].argmax())
            place = rows[position]["positions"].index(position)
            assert rows[position]["predicted_codes"][place] == seen_L[position]
            assert rows[position]["output_ids"][place] == ids[seen_L[position]]


def test_the_adapter_decides(inputs, filled, tmp_path):
    frozen = {key: path for key, path in inputs.items() if key != "adapter"}
    config = stage_config("evaluate_llm", inputs, tmp_path)
    path = tmp_path / "frozen.parquet"
    evaluate_llm.run(config, Inputs({name: frozen[name] for name in ("tokens", "vocabulary")}), {"predictions": path})
    answers = [row["predicted_codes"] for row in pq.read_table(path).to_pylist()]
    assert answers != [row["predicted_codes"] for row in filled]


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_the_batch_size_changes_nothing(inputs, filled, tmp_path, batch_size):
    assert predictions(inputs, tmp_path / "p.parquet", batch_size=batch_size) == filled


def test_the_commonest_visible_code_fills_every_gap(inputs, tmp_path):
    rows = predictions(inputs, tmp_path / "p.parquet", predictor="most-frequent-code")
    assert pq.read_schema(tmp_path / "p.parquet").remove_metadata() == STEP_SCHEMA
    assert sum(len(row["positions"]) for row in rows) == IMAGES * MASKED
    assert all(row["prompt_ids"] == row["output_ids"] == [] for row in rows)
    seen_L = np.array([7, 7, -1, 3, 3, 3, 7, -1])
    masked_L = np.array([False, False, True, False, False, False, True, True])  # one gap is filled with 7 already
    answers = frequent_predictor([GapQuestion("image", seen_L, masked_L, np.array([7]))])
    assert answers[0].codes == [3]


def test_a_prompt_beyond_the_context_is_named(inputs, tmp_path, monkeypatch):
    from v2l.llm import language_model

    original = language_model.llm_of

    def short(*arguments):
        model, *rest = original(*arguments)
        model.config.max_position_embeddings = 30
        return model, *rest

    monkeypatch.setattr(language_model, "llm_of", short)
    with pytest.raises(UserError, match=r"image 0\d.png, gap \d has .* tokens.*at most 30.*lower `train_tokenizer"):
        predictions(inputs, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()


def test_hidden_codes_are_zero_vectors():
    code_BLD = torch.ones(1, 3, 2)
    assert hide(code_BLD, None) is code_BLD
    assert hide(code_BLD, torch.tensor([[True, False, True]])).tolist() == [[[1, 1], [0, 0], [1, 1]]]


@pytest.mark.parametrize(
    ("source", "method", "llm", "note"),
    [
        ("masked.tiny", "v2l", "tiny", "fine-tuned with LoRA"),
        ("masked.corrupted-input", "corrupted-input", None, "zero vectors"),
        ("masked.most-frequent-code", "most-frequent-code", None, "no language model"),
        ("masked.tokenizer-oracle", "tokenizer-oracle", None, "upper bound"),
    ],
)
def test_rows_of_table_4(source, method, llm, note):
    of = Source.parse(source)
    assert names_of("v2l", of) == {"method": method, "tokenizer": "v2l", "llm": llm}
    assert note in note_of(of, "")
    llms = {"llms": {"tiny": {"path": "tiny"}}, "evaluate_llm": {"masked": {"llms": ["tiny"]}}}
    assert Run("v2l", of) in RESTORATION.runs(experiment(**llms))


def test_shards_give_the_same_predictions(inputs, filled, tmp_path):
    assert predictions(inputs, tmp_path / "p.parquet", machine={"shards": "2"}) == filled


def test_more_codes_than_ordinary_tokens_are_refused(inputs):
    words = Vocabulary(load_llm("tiny", entry(inputs["llm"]), torch.device("cpu"))[1])
    large = {"name": "large", "shown_as": "ordinary token", "codebooks": {"local_size": 50_265}}
    with pytest.raises(UserError, match=r"tokenizer large has 50265 local codes, the language model \d+ ordinary"):
        all_code_ids(large, words, inputs["vocabulary"])
