"""Which ids of a language model show a tokenizer's codes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.tiny import write_llama
from v2l.errors import UserError
from v2l.io.storage import write_parquet
from v2l.llm.code_ids import code_ids, shown_codes, with_codes
from v2l.llm.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("llama")
    write_llama(folder)
    return Vocabulary(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def metadata(size: int, shown_as: str = "ordinary token") -> dict:
    return {"name": "few", "shown_as": shown_as, "codebooks": {"local_size": size}}


def vocabulary(ordinary: int) -> dict:
    return {"llm": "tiny", "ordinary": ordinary}


def test_code_i_is_the_ith_ordinary_token(words):
    ordinary = [number for number, _ in words.subwords()]
    assert len(ordinary) > 100 and ordinary[0] > 2  # control tokens stand before them
    shown_C = shown_codes(metadata(100), vocabulary(len(ordinary)), [])
    assert shown_C.tolist() == list(range(100))
    assert code_ids(metadata(100), 100, words, Path("unused")).tolist() == ordinary[:100]


def test_codes_that_are_subwords_are_shown_as_these(words, tmp_path):
    table = pa.table({"kind": ["subword"] * 3 + ["bigram"], "token_ids": [[7], [9], [40], [7, 9]]})
    write_parquet(tmp_path / "vocabulary.parquet", table, {})
    subword = metadata(3, "subword")
    assert shown_codes(subword, {}, []).tolist() == [0, 1, 2]
    assert code_ids(subword, 3, words, tmp_path / "vocabulary.parquet").tolist() == [7, 9, 40]
    with pytest.raises(UserError, match="few has 4 local codes.*has 3 subwords"):
        code_ids(metadata(4, "subword"), 4, words, tmp_path / "vocabulary.parquet")


@given(st.lists(st.lists(st.integers(0, 999), min_size=4, max_size=4), min_size=1, max_size=4))
def test_of_a_codebook_that_is_too_large_the_occurring_codes_are_shown_in_order(maps):
    occurring = sorted({code for codes in maps for code in codes})
    arrays = [np.array(codes) for codes in maps]
    shown_C = shown_codes(metadata(1000), vocabulary(len(occurring)), arrays)
    assert shown_C.tolist() == occurring
    table = pa.table(
        {"codes": [np.searchsorted(shown_C, codes).tolist() for codes in arrays], "other": [0] * len(maps)}
    )
    assert with_codes(table, ["codes"], shown_C)["codes"].to_pylist() == maps
    with pytest.raises(UserError) as caught:
        shown_codes(metadata(1000), vocabulary(len(occurring) - 1), arrays)
    assert f"{len(occurring)} different codes" in str(caught.value)
    assert f"tiny has {len(occurring) - 1} ordinary tokens" in str(caught.value)


def test_a_table_keeps_its_types():
    kind = pa.list_(pa.int32())
    table = pa.table({"codes": pa.array([[0, 2], [], [1]], kind)})
    found = with_codes(table, ["codes"], np.array([5, 70, 900]))["codes"]
    assert found.type == kind and found.to_pylist() == [[5, 900], [], [70]]
