"""Paired differences between methods: by hand, against SciPy, and what is compared with what."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from tests.test_make_tables import accuracy, make, records, row
from v2l.metrics.bootstrap import paired_interval
from v2l.tables.differences import Difference

TABLE = "table4_restoration"


def paired(values, samples=500, seed=0):
    return paired_interval(np.array(values, dtype=np.float64), samples, np.random.default_rng(seed))


def test_the_interval_is_the_percentile_bootstrap_of_the_differences():
    difference_N = np.random.default_rng(1).normal(0.2, 1, size=40)
    low, high, _ = paired(difference_N, samples=20_000)
    generator = np.random.default_rng(5)
    means = np.sort([difference_N[generator.integers(40, size=40)].mean() for _ in range(20_000)])
    assert (low, high) == pytest.approx((means[500], means[19_500]), abs=0.02)
    same = bootstrap((difference_N,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0))
    assert (low, high) == pytest.approx(tuple(same.confidence_interval), abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=7))
def test_p_of_few_items_counts_all_their_signs(values):
    low, high, p = paired(values)
    if len(set(values)) == 1:
        assert (low, high, p) == (None, None, None)
        return
    means = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=len(values))]
    expected = np.mean(np.array(means) >= abs(sum(values)))
    assert p == pytest.approx(expected) and p >= 2 / 2 ** len(values)
    assert min(values) <= low <= high <= max(values)


def test_p_is_small_for_a_clear_difference_and_uniform_without_one():
    assert paired(np.random.default_rng(0).normal(1, 1, size=100))[2] == pytest.approx(2 / 501)
    found = [paired(np.random.default_rng(seed).normal(size=30), 199, seed)[2] for seed in range(60)]
    assert 0 <= np.mean(np.array(found) < 0.05) < 0.15 and 0.35 < np.mean(found) < 0.65


@pytest.mark.parametrize("values", [[], [1, math.nan], [1, math.inf]])
def test_differences_are_finite(values):
    with pytest.raises(ValueError, match="finite"):
        paired(values)


def test_texts_of_differences():
    assert Difference("v2l", -0.0123, 9, -0.0204, -0.0041, 0.002).text(3) == "-0.012 [-0.020, -0.004], p = 0.002"
    assert Difference("v2l", 1.5, 9, 1.0, 2.0, 0.0002).text(1) == "+1.5 [+1.0, +2.0], p < 0.001"
    assert Difference("v2l", 0.0, 9, None, None, None).text(2) == "+0.00 on every item"


def scored(method, values, task="shift", metric="psnr", llm="llm", protocol="paper"):
    items = {f"i{number}": value for number, value in enumerate(values)}
    finite = [value for value in values if math.isfinite(value)]
    keys = {"method": method, "tokenizer": method, "llm": llm, "task": task, "n": len(finite)}
    return row(TABLE, metric, float(np.mean(finite)), **keys) | {"items": items, "protocol": protocol}


def notes(outputs):
    return {
        (found["method"], found["llm"], found["task"], found["metric"]): found["note"] for found in records(outputs)
    }


def test_a_method_is_compared_with_the_first_on_the_same_items(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.normal(20, 5, size=30)
    rows = [scored("vqgan", first + rng.normal(1, 0.1, size=30)), scored("v2l", first)]
    outputs = make(tmp_path, TABLE, rows)
    found = notes(outputs)
    assert found["v2l", "llm", "shift", "psnr"] == ""
    # Between images the values differ by far more than the methods do on one image.
    assert found["vqgan", "llm", "shift", "psnr"].startswith("difference to v2l: +1.0")
    assert found["vqgan", "llm", "shift", "psnr"].endswith("p = 0.010")
    text = outputs["markdown"].read_text()
    assert r"\*" in text and "- asterisk: differs from v2l on common items, p below 0.05" in text
    assert "Differences to v2l: mean over common items" in text and "$^{*}$" in outputs["latex"].read_text()
    assert make(tmp_path, TABLE, rows)["csv"].read_bytes() == outputs["csv"].read_bytes()


def test_only_equal_settings_and_common_items_are_compared(tmp_path):
    base = [1.0, 2.0, 3.0, 4.0]
    rows = [
        *[scored("v2l", base), scored("v2l", [9.0, 9.5, 9.0, 9.0], llm="other")],
        scored("vqgan", [2.0, 3.5, 4.0, math.inf]),
        scored("vqgan", base, task="rotation"),
        scored("spae", base, llm="third"),
        scored("lqae", base, metric="lpips"),
        scored("majority-vote", [2.0, 3.0, 4.0, 5.0], llm=None),
        row(TABLE, "fid", 3.0, "no paired difference", method="vqgan", tokenizer="vqgan", llm="llm", task="shift"),
    ]
    found = notes(make(tmp_path, TABLE, rows))
    note = found["vqgan", "llm", "shift", "psnr"]
    assert note.startswith("difference to v2l: +1.17 [+1.00, ") and note.endswith("p = 0.250")
    assert found["vqgan", "llm", "shift", "fid"] == "no paired difference"
    assert found["majority-vote", "", "shift", "psnr"] == "difference to v2l: +1.00 on every item"
    rest = [("vqgan", "llm", "rotation", "psnr"), ("spae", "third", "shift", "psnr"), ("lqae", "llm", "shift", "lpips")]
    assert {found[key] for key in rest} == {""} and found["v2l", "other", "shift", "psnr"] == ""


def test_items_that_one_method_lacks_are_left_out_and_said_so(tmp_path):
    rows = [scored("v2l", [1.0, math.nan, 3.0, 4.0, 5.0]), scored("vqgan", [2.0, 2.0, 5.0, 5.0, 5.5])]
    found = notes(make(tmp_path, TABLE, rows))
    assert found["vqgan", "llm", "shift", "psnr"].startswith("difference to v2l: +1.12 [")
    assert found["vqgan", "llm", "shift", "psnr"].endswith(", over 4 common items")


def test_cells_of_table_1_are_compared_by_their_setting(tmp_path):
    cells = [(True, 1, 0), (True, 3, 0)]
    values = {"v2l": ([1.0, 0.0] * 6, [1.0] * 12), "vqgan": ([1.0] * 12, [1.0, 0.0] * 6)}
    rows = [
        accuracy(np.mean(found), 2, cell, method) | {"items": dict(zip(map(str, range(12)), found, strict=True))}
        for method, both in values.items()
        for cell, found in zip(cells, both, strict=True)
    ]
    found = [
        (item["method"], item["inner_shots"], item["note"])
        for item in records(make(tmp_path, "table1_classification", rows))
    ]
    assert [note.partition(" [")[0] for _, _, note in found] == [
        "",
        "",
        "difference to v2l: +0.500",
        "difference to v2l: -0.500",
    ]
