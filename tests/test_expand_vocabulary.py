"""Stage expand_vocabulary on a tiny LLaMA written to disk."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from tests.tiny import write_llama
from v2l.configuration.config import ExpandVocabulary
from v2l.configuration.model_entries import LLM
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.expand_vocabulary import SCHEMA, continue_subwords, run
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata
from v2l.llm.language_model import load_llm
from v2l.llm.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llm")
    torch.manual_seed(0)
    write_llama(path)
    return path


def stage(folder, **section) -> StageConfig:
    data = {
        "expand_vocabulary": ExpandVocabulary(llm="tiny", batch_size=50, **section).model_dump(mode="json"),
        "llms": {"tiny": {"path": str(folder), "dtype": "float32"}},
    }
    return StageConfig("expand_vocabulary", data)


def one_at_a_time(model, prompt: list[int], subword: int, banned: list[int]) -> list[int]:
    """The two greedy tokens after prompt + subword, without cache or batch."""
    ids = [*prompt, subword]
    for _ in range(2):
        logits_V = model(torch.tensor([ids]), use_cache=False).logits[0, -1].detach().clone()
        logits_V[banned] = -torch.inf
        ids.append(int(logits_V.argmax()))
    return ids[-2:]


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_continuations_equal_one_prompt_at_a_time(folder, batch_size):
    model, tokenizer = load_llm("tiny", LLM(path=str(folder), dtype="float32"), torch.device("cpu"))
    prompt, subwords = tokenizer("a photo of").input_ids, list(range(260, 300))
    free = continue_subwords(model, prompt, subwords, [], batch_size)
    banned = sorted({*free[:3].flatten().tolist(), 0, 1, 2})
    made = continue_subwords(model, prompt, subwords, banned, batch_size)
    assert made.tolist() == [one_at_a_time(model, prompt, subword, banned) for subword in subwords]
    assert not set(made.flatten().tolist()) & set(banned)


def test_the_vocabulary_file(folder, tmp_path):
    path, config = tmp_path / "vocabulary.parquet", stage(folder)
    run(config, Inputs({}), {"vocabulary": path})
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == SCHEMA
    model, tokenizer = load_llm("tiny", config.llms["tiny"], torch.device("cpu"))
    words = Vocabulary(tokenizer)
    ids = [number for number, _ in words.subwords()]
    count = len(ids)
    assert (
        not set(ids) & {0, 1, 2}
        and table["kind"].to_pylist() == ["subword"] * count + ["bigram"] * count + ["trigram"] * count
    )
    token_ids = table["token_ids"].to_pylist()
    assert [entry for entry in token_ids[:count]] == [[number] for number in ids]
    prompt, banned = tokenizer("a photo of").input_ids, [0, 1, 2]
    for row in range(0, count, 29):
        first, second = one_at_a_time(model, prompt, ids[row], banned)
        assert token_ids[count + row] == [ids[row], first]
        assert token_ids[2 * count + row] == [ids[row], first, second]
    text = dict(zip(map(tuple, token_ids), table["text"].to_pylist(), strict=True))
    cat = tokenizer.convert_tokens_to_ids("▁cat")
    assert text[cat,] == " cat"
    assert all(text[tuple(entry)].startswith(" cat") for entry in token_ids if entry[0] == cat)
    metadata = parquet_metadata(path)
    assert metadata["vocabulary"] == words.identity("tiny") | {"subwords": count, "ordinary": len(words.subwords())}
    assert metadata["v2l"]["stage"] == "expand_vocabulary" and metadata["v2l"]["config"] == config.data


def test_limits_and_reserved_ids(folder, tmp_path):
    path = tmp_path / "vocabulary.parquet"
    run(stage(folder, max_subwords=10), Inputs({}), {"vocabulary": path})
    few = pq.read_table(path)
    assert few.num_rows == 30 and few["text"].to_pylist()[0] != "<unk>"
    run(stage(folder, max_subwords=10, reserved=True), Inputs({}), {"vocabulary": path})
    everything = pq.read_table(path)
    assert everything["token_ids"].to_pylist()[:10] == [[number] for number in range(10)]
    assert everything["text"].to_pylist()[:3] == ["<unk>", "<s>", "</s>"]


def test_a_template_that_ends_texts_changes_nothing(folder, tmp_path, caplog):
    ending = shutil.copytree(folder, tmp_path / "ending")
    content = json.loads((ending / "tokenizer.json").read_text())
    piece = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    content["post_processor"]["single"].append(piece)
    content["post_processor"]["special_tokens"] = {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
    (ending / "tokenizer.json").write_text(json.dumps(content))
    assert AutoTokenizer.from_pretrained(ending, trust_remote_code=False)("a photo of").input_ids[-1] == 2
    made = []
    with caplog.at_level("INFO"):
        for place in (folder, ending):
            run(stage(place, max_subwords=10), Inputs({}), {"vocabulary": tmp_path / "vocabulary.parquet"})
            made.append(pq.read_table(tmp_path / "vocabulary.parquet"))
    assert made[0] == made[1]
    assert "tiny: 185 ordinary, 128 part of a character, 24 control character, 3 special token" in caplog.text


def test_a_missing_model_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .*nowhere is not a folder"):
        run(stage(tmp_path / "nowhere"), Inputs({}), {"vocabulary": tmp_path / "vocabulary.parquet"})
    assert not list(tmp_path.iterdir())
