"""Minutes per stage from benchmark files."""

from v2l.pipeline.timings import stage_minutes


def test_jobs_are_summed_by_stage_in_their_order(tmp_path):
    for name, seconds, memory in (
        ("make_tables/a", 30, "100.5"),
        ("make_tables/b", 60, "-"),
        ("train_tokenizer/v2l", 120, "2048"),
        ("make_figures/c", 1, "NA"),
    ):
        path = tmp_path / f"{name}.benchmark.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    rows = [line.split() for line in stage_minutes(tmp_path).splitlines()]
    assert rows == [
        ["train_tokenizer", "1", "jobs", "2.0", "min", "2048", "MB"],
        ["make_tables", "2", "jobs", "1.5", "min", "100", "MB"],
        ["make_figures", "1", "jobs", "0.0", "min", "0", "MB"],
        ["sum", "3.5", "min"],
    ]


def test_nothing_ran(tmp_path):
    assert stage_minutes(tmp_path) == ""
