"""Markdown and LaTeX views: layout, marks, names with characters that are markup, and a LaTeX that compiles."""

import re
import shutil
import string
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_make_tables import PAPER_SETTINGS, accuracy, make, row
from v2l.tables.escaping import LATEX, latex_text, markdown_text
from v2l.tables.tables import TABLES

NASTY = r"a_b & 50% #1 ${x}$ ~^ \end | <b> [0] *"
DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
%s
\end{document}
"""


def markdown_cells(text: str) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_views_of_table_1_have_the_papers_seven_columns(tmp_path):
    rows = [accuracy(index / 8, 2, setting) for index, setting in enumerate(PAPER_SETTINGS)]
    rows += [accuracy(0.25, 5, (True, 1, 0)), accuracy(0.75, 5, (False, 3, 0))]
    outputs = make(tmp_path, "table1_classification", rows)
    text = outputs["markdown"].read_text()
    title = "Table 1. Few-shot classification accuracy. Experiment demo, protocol paper, n = 50 episodes per value."
    assert text.splitlines()[0] == title
    two, found, five, other = markdown_cells(text)
    assert two[:5] == ["method", "tokenizer", "llm", "tokens", "induction no, inner shots 1, repeats 0"]
    assert two[-1] == "average" and len(two) == 4 + 8
    assert five[-2:] == ["average", "induction no, inner shots 3, repeats 0"]
    values = ["0.000", "0.125", "0.250", "0.375", "0.500", "0.625", "0.750", "0.375"]
    assert found == ["v2l", "v2l", "llm", "5", *values]
    assert other == ["v2l", "v2l", "llm", "5", "–", "0.250", "–", "–", "–", "–", "–", "–", "0.750"]
    assert text.index("**ways 2**") < text.index("**ways 5**")
    latex = outputs["latex"].read_text()
    assert r"\multicolumn{6}{c}{induction yes}" in latex and r"\label{tab:table1_classification:1}" in latex
    assert "v2l & v2l & llm & 5 & -- & 0.250 & -- & -- & -- & -- & -- & -- & 0.750 \\\\" in latex


def test_tables_2_and_3_as_markdown(tmp_path):
    table = "table2_semantics"
    keys = {"vocabulary_size": 900, "tokens": 5, "n": 60}
    rows = [
        row(table, "clip_score", 31.25, method="spae", **keys),
        row(table, "clip_score", 41.25, method="v2l", **keys),
        row(table, "clip_r", 0.875, "our reading", method="v2l", **keys),
    ]
    assert make(tmp_path, table, rows)["markdown"].read_text() == (
        "Table 2. Semantic quality of the global tokens. Experiment demo, protocol paper, n = 60 images per value.\n\n"
        "| method   | vocabulary size   | tokens   |      CLIP |   CLIP-R |\n"
        "|:---------|:------------------|:---------|----------:|---------:|\n"
        "| v2l      | 900               | 5        | **41.25** |    0.875 |\n"
        "| spae     | 900               | 5        |     31.25 |        – |\n"
        "\n- bold: the best of a column, baselines left out\n- v2l: our reading\n"
    )
    table = "table3_reconstruction"
    rows = [
        row(table, "psnr", 11.0, method="mean-image"),
        row(table, "fd_efficientnet_lite0", 0.5, "no interval", method="mean-image"),
        row(table, "fd_efficientnet_lite0", 0.25, "no interval", method="v2l", global_tokens=21),
        row(table, "ssim", None, method="v2l", global_tokens=21, n=0),
    ]
    assert make(tmp_path, table, rows, intervals=True)["markdown"].read_text() == (
        "Table 3. Image reconstruction. Experiment demo, protocol paper, n = 0 to 50 images per value.\n\n"
        "| method     | global tokens   |   FD (EfficientNet-Lite0) |   LPIPS |                 PSNR |   SSIM |\n"
        "|:-----------|:----------------|--------------------------:|--------:|---------------------:|-------:|\n"
        "| v2l        | 21              |         0.25 [0.12, 0.38] |       – |                    – |      – |\n"
        "| mean-image | –               |         0.50 [0.38, 0.62] |       – | 11.00 [10.88, 11.12] |      – |\n"
        "\n- no interval\n"
    )


def test_a_second_metric_in_table_1_stands_beside_the_first(tmp_path, monkeypatch):
    table = TABLES["table1_classification"]
    monkeypatch.setitem(TABLES._things, table.name, replace(table, metrics=("accuracy", "clip_r"), notes=("Ours",)))
    rows = [accuracy(index / 8, 2, setting) for index, setting in enumerate(PAPER_SETTINGS)]
    rows += [found | {"metric": "clip_r", "value": 0.5} for found in rows]
    outputs = make(tmp_path, table.name, rows)
    header, cells = markdown_cells(outputs["markdown"].read_text())
    first = "induction no, inner shots 1, repeats 0"
    assert header[4:6] == [f"{first}, accuracy", f"{first}, CLIP-R"]
    assert header[-2:] == ["average, accuracy", "average, CLIP-R"] and len(header) == 4 + 16
    assert cells[4:8] == ["0.000", "0.500", "0.125", "0.500"] and cells[-2:] == ["0.375", "0.500"]
    assert outputs["markdown"].read_text().splitlines()[-1] == "- Ours"
    latex = outputs["latex"].read_text()
    assert "method & tokenizer & llm & tokens & accuracy & CLIP-R & accuracy & CLIP-R" in latex
    assert "0.750 & 0.500 & 0.375 & 0.500 \\\\" in latex
    del rows[0]
    cells = markdown_cells(make(tmp_path, table.name, rows)["markdown"].read_text())[1]
    assert cells[4] == "–" and cells[-2:] == ["–", "0.500"]


def test_the_best_is_marked_by_direction_and_protocol_and_never_a_baseline(tmp_path):
    table, values = "table4_restoration", {"v2l": 0.5, "vqgan": 0.25, "tokenizer-oracle": 0.0}
    rows = [row(table, "lpips", value, method=name, tokenizer="v2l", task="shift") for name, value in values.items()]
    rows += [
        row(table, "psnr", 40 * value, method=name, tokenizer="v2l", task="shift") for name, value in values.items()
    ]
    rows.append(row(table, "lpips", 0.125, method="v2l", tokenizer="v2l", task="shift") | {"protocol": "held-out"})
    outputs = make(tmp_path, table, rows)
    found = {tuple(cells[i] for i in (0, 3)): cells[-2:] for cells in markdown_cells(outputs["markdown"].read_text())}
    assert found["v2l", "paper"] == ["0.500", "**20.00**"] and found["vqgan", "paper"] == ["**0.250**", "10.00"]
    assert found["tokenizer-oracle", "paper"] == ["0.000", "0.00"] and found["v2l", "held-out"] == ["0.125", "–"]
    assert r"\textbf{0.250} & 10.00 \\" in outputs["latex"].read_text()


def every_table(folder, name="v2l") -> dict[str, str]:
    """LaTeX of all five tables with intervals and marks, as wide as they get, and `name` wherever a name can be."""
    made = {}
    for table in TABLES.values():
        rows = []
        for number, method in enumerate(("v2l", name, "token-overlap")):
            keys = {"method": method, "tokenizer": name, "llm": name, "tokens": 21, "vocabulary_size": 100_000}
            cells = [{"task": task} for task in ("inpainting", "shift")] if "task" in table.keys else [{}]
            if table.paper_columns:
                cells = [
                    {"ways": ways} | dict(zip(table.across, cell, strict=True))
                    for ways in (2, 5)
                    for cell in table.paper_columns
                ]
            for cell in cells:
                for metric in table.shown_metrics(("fd_efficientnet_lite0",)):
                    items = {str(item): number + item % 5 / 7 for item in range(12)}
                    rows.append(row(table.name, metric, number + 0.5, name, **keys, **cell) | {"items": items})
        unique = {str((found["metric"], *(found[key] for key in table.key_columns))): found for found in rows}
        made[table.name] = make(folder, table.name, list(unique.values()), intervals=True)["latex"].read_text()
    return made


def check_latex(text: str) -> None:
    """Environments and braces close in order, rows have the cells of their columns, and nothing is unescaped."""
    text = re.sub(r"^%.*\n", "", text)
    assert text.isascii()
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    plain = re.sub(r"\\([\\&%$#_{}])", " ", text)
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[#_~]", re.sub(r"\\label\{.*?\}", "", plain.replace("$^{*}$", "")))
    assert not re.search(r"[$^]|(?<!\{!\}\{)%", plain.replace("$^{*}$", ""))
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        for line in body.splitlines():
            if line.endswith(r"\\"):
                spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(columns)


@pytest.mark.parametrize("name", ["plain", NASTY])
def test_latex_is_well_formed(tmp_path, name):
    for text in every_table(tmp_path, name).values():
        check_latex(text)
        assert latex_text(name) in text and "$^{*}$" in text and r"\textbf" in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here: the form of the text is checked above")
def test_latex_compiles_and_fits_the_page(tmp_path):
    text = "\n".join(every_table(tmp_path, NASTY).values())
    (tmp_path / "all.tex").write_text(DOCUMENT % text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout and (tmp_path / "all.pdf").exists()


@given(st.text(alphabet=st.sampled_from(string.printable), max_size=30))
def test_latex_text_can_be_read_back(text):
    codes = {code: character for character, code in LATEX.items()}
    parts = re.split(
        f"({'|'.join(re.escape(code) for code in sorted(codes, key=len, reverse=True))})", latex_text(text)
    )
    assert "".join(codes.get(part, part) for part in parts) == " ".join(text.split())
    assert not set("&%$#_~^|<>*") & set("".join(part for part in parts if part not in codes))


def test_markdown_names_stay_in_their_cell(tmp_path):
    rows = [row("table4_restoration", "psnr", 1.0, NASTY, method="v2l", tokenizer=NASTY, llm=NASTY, task=NASTY)]
    text = make(tmp_path, "table4_restoration", rows)["markdown"].read_text()
    header, cells = markdown_cells(text)
    shown = r"a\_b & 50% #1 \${x}\$ \~^ \\end \| &lt;b> \[0] \*"
    assert len(header) == len(cells) == 5 and cells[1] == cells[2] == shown == markdown_text(NASTY)
    assert f"**{shown}**" in text and f"- {shown}" in text
    assert markdown_text("[a](b) &amp; \x1b x < y") == r"\[a](b) &amp;amp; \\x1b x &lt; y"
