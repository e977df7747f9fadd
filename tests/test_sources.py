"""Sources as text, and the wildcard patterns that tell them apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2l.configuration.baselines import BASELINES
from v2l.configuration.measures import MEASURES
from v2l.configuration.runs import Run
from v2l.configuration.sources import HELD_OUT, PAPER, RELEASED, Source, run_pattern, source_pattern

TASKS = list(MEASURES)
SILENT = [name for name, baseline in BASELINES.items() if not baseline.predicts]
protocols = st.sampled_from([PAPER, RELEASED, HELD_OUT])
# As names of the registries: letters and digits (isalnum), "-", "_" and "."; many near those of baselines.
names = st.text(st.sampled_from("aZé7-_.") | st.characters(categories=["L", "Nd"]), min_size=1)
names |= st.builds("{}{}".format, st.sampled_from(list(BASELINES)), st.sampled_from(["", "-2", ".7b", "x"]))
sources = st.builds(Source, st.sampled_from(TASKS), names, protocols) | st.builds(Source, st.sampled_from(TASKS))


@given(sources)
def test_a_source_is_what_its_text_says(source):
    assert Source.parse(str(source)) == source
    assert Source.of_run(source.task, source.run) == source
    assert str(Run("v2l", source)) == f"v2l/{source}"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("reconstruction", Source("reconstruction")),
        ("restoration.llama-2.7b", Source("restoration", "llama-2.7b")),
        ("restoration.llama-2.7b@held-out", Source("restoration", "llama-2.7b", HELD_OUT)),
        ("classification.tiny@released", Source("classification", "tiny", RELEASED)),
    ],
)
def test_what_goes_without_saying_is_not_said(text, source):
    assert str(source) == text and Source.parse(text) == source


@given(source=sources, task=st.sampled_from(TASKS), named=st.lists(names, max_size=3))
def test_a_pattern_matches_the_sources_of_its_predictors_alone(source, task, named):
    found = re.fullmatch(source_pattern(task, *named), str(source)) is not None
    assert found == (source.task == task and source.predictor in (named or [""]))


@given(task=st.sampled_from(TASKS), named=st.lists(names, min_size=1, max_size=3), protocol=protocols, data=st.data())
def test_a_pattern_matches_each_of_its_sources(task, named, protocol, data):
    predictor = data.draw(st.sampled_from(named))
    assert re.fullmatch(source_pattern(task, *named), str(Source(task, predictor, protocol)))


@given(source=sources)
def test_runs_are_those_of_predictors_that_answer(source):
    """Alone, as a wildcard's value is checked, and with the end of its file's name."""
    for pattern, run in ((run_pattern(), source.run), (run_pattern() + r"\.parquet", f"{source.run}.parquet")):
        assert bool(re.fullmatch(pattern, run)) == (bool(source.predictor) and source.predictor not in SILENT)


@pytest.mark.parametrize(
    ("source", "by_language_model", "reads_tokens"),
    [
        (Source("restoration", "tiny", HELD_OUT), True, None),
        (Source("restoration", "majority-vote"), False, True),
        (Source("vqa", "majority-vote"), False, False),
        (Source("restoration", "corrupted-input"), False, False),
        (Source("masked", "corrupted-input"), False, True),
        (Source("reconstruction"), False, None),
    ],
)
def test_who_answered(source, by_language_model, reads_tokens):
    assert source.by_language_model == by_language_model
    assert (source.baseline and source.baseline.reads_tokens) == reads_tokens
