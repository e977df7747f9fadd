"""How figures are laid out: in one column of a page, whatever stands in them."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import style
from PIL import Image

from v2l.configuration.experiment import load_experiment
from v2l.figures.captioned import Captioned, Phrase, captioned_images
from v2l.figures.drawing import MOST_COLUMNS, GridBlock, GridColumn, image_grid
from v2l.figures.figures import FIGURES
from v2l.figures.page import COLUMN, HEADING, TEXT, edges
from v2l.figures.text_lines import fitted_lines, printable, width_of
from v2l.figures.training_curves import LOSSES, USAGE, curves, line_styles, points
from v2l.make_figures import STYLE
from v2l.pipeline.figure_files import NAMES, figure_files
from v2l.pipeline.selections import figures

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
ODD = ["$x_1$", r"\frac{1}{2} $", "中文 🐶", "two\nlines\r\n", "<script>", "a" * 90, "", "%s {0}", "_^&#~"]


@pytest.fixture(autouse=True)
def _style():
    with style.context(STYLE):
        yield


def grey(value=100):
    return np.full((16, 16, 3), value, np.uint8)


def pixels(figure, path, dpi=100):
    figure.savefig(path, dpi=dpi)
    return np.asarray(Image.open(path).convert("RGB"))


def texts(figure):
    """Each text of the figure that is not empty, with its box in inches."""
    figure.canvas.draw()
    shown = [text for text in figure.texts if text.get_text()]
    return [(text, text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())) for text in shown]


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" rabbit", "rabbit"), ("two\n words", "two words"), ("$5$", "$5$"), ("中", "U+4E2D"), ("a🐶b", "aU+1F436b")],
)
def test_printable(text, shown):
    assert printable(text) == shown


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.floats(0.3, 2), st.integers(1, 4))
def test_lines_fit_and_lose_nothing_unless_cut(text, width, most):
    lines = fitted_lines(text, width, TEXT, most)
    assert 1 <= len(lines) <= most and all(width_of(line, TEXT) <= width for line in lines)
    if lines[-1].endswith("…"):
        kept = "".join("".join(lines)[:-1].split())
        assert printable(text).replace(" ", "").startswith(kept.removesuffix("…"))
    else:
        assert "".join("".join(lines).split()) == printable(text).replace(" ", "")


def test_lines_end_at_spaces_and_hyphens_before_words_are_broken():
    assert fitted_lines("V2L without global tokens", 0.45, TEXT, 4) == ["V2L", "without", "global", "tokens"]
    assert fitted_lines("smollm2-135m", 0.5, TEXT, 3) == ["smollm2-", "135m"]
    assert fitted_lines("most frequent code", 0.8, TEXT, 3, 2.0) == ["most frequent", "code"]
    wide = width_of("continued", TEXT)
    assert fitted_lines("v2l-continued", wide - 0.02, TEXT, 3, wide + 0.01) == ["v2l-", "continued"]
    assert len(fitted_lines("continued", wide - 0.02, TEXT, 3)) == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6).flatmap(lambda side: st.lists(st.booleans(), min_size=side**2, max_size=side**2)))
def test_edges_are_the_sides_between_inside_and_outside(cells):
    side = round(len(cells) ** 0.5)
    region = np.array(cells).reshape(side, side)
    padded = np.pad(region, 1).astype(int)
    perimeter = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    found = edges(region)
    assert np.abs(found[:, 1] - found[:, 0]).sum() == perimeter
    assert all(
        ((start == end) == [False, True]).all() or ((start == end) == [True, False]).all() for start, end in found
    )


def test_edges_of_a_block_are_its_four_sides():
    region = np.zeros((4, 4), dtype=bool)
    region[1:3, 1:4] = True
    sides = {tuple(map(tuple, side)) for side in edges(region).tolist()}
    corners = [(1, 1), (4, 1), (1, 3), (4, 3)]
    pairs = [(0, 1), (2, 3), (0, 2), (1, 3)]
    assert sides == {(corners[first], corners[second]) for first, second in pairs}


def test_images_lie_where_their_column_is(tmp_path):
    columns = [GridColumn("title", [np.full((16, 16, 3), colour, np.uint8)] * 2) for colour in COLOURS]
    shown = pixels(image_grid([GridBlock("", columns)]), tmp_path / "grid.png")
    assert shown.shape[1] == 340
    row = shown[-40]  # through the lower images
    found = [colour for colour in map(tuple, row.tolist()) if colour in COLOURS]
    assert list(dict.fromkeys(found)) == COLOURS and all(abs(found.count(colour) - 110) <= 4 for colour in COLOURS)


def test_a_hidden_region_is_enclosed_in_black_and_white(tmp_path):
    region = np.zeros((2, 2), dtype=bool)
    region[0, 0] = True
    plain, marked = (
        pixels(image_grid([GridBlock("", [GridColumn("", [grey()], regions=regions)])]), tmp_path / "grid.png", 200)
        for regions in ((), (region,))
    )
    rows, columns = np.nonzero((plain != marked).any(axis=2))
    middle = plain.shape[1] // 2
    assert abs(columns.max() - middle) <= 3 and abs(columns.min() - (middle - 110)) <= 3
    assert rows.max() - rows.min() <= 115
    changed = marked[rows, columns].sum(axis=1)
    assert changed.min() < 100 and changed.max() > 660


@pytest.mark.parametrize("methods", [1, 2, 3, 6, 7, 10, 13])
def test_many_methods_stand_in_bands_that_each_begin_with_the_original(methods):
    columns = [GridColumn(f"method-{number}", [grey()]) for number in range(methods + 1)]
    bands = GridBlock("heading", columns).bands()
    assert [column for band in bands for column in band.columns[1:]] == columns[1:]
    sizes = [len(band.columns) for band in bands]
    assert all(band.columns[0] is columns[0] for band in bands) and max(sizes) <= MOST_COLUMNS
    assert max(sizes) - min(sizes) <= 1 and [band.heading for band in bands] == ["heading", *[""] * (len(bands) - 1)]


@pytest.mark.parametrize("count", [2, 3, 7, 11])
def test_words_of_a_grid_stay_in_the_column_and_apart(count):
    names = ["original", "V2L without global tokens", "v2l-continued", "SPAE (our reading)", "tokenizer oracle", *ODD]
    columns = [GridColumn(name, [grey()] * 2, [["19.8", "0.138"]] * 2) for name in (names * 2)[:count]]
    figure = image_grid([GridBlock("inpainting by smollm2-135m", columns), GridBlock("shift", columns)])
    _assert_words_stand_apart(figure)
    shown = [text.get_text() for text, _ in texts(figure)]
    assert shown.count("original") == (
        1 if count <= MOST_COLUMNS else 4
    )  # titles that stand above already are left out


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_words_of_captions_stay_in_the_column_and_apart(count):
    shown = [Captioned(grey(), [Phrase(text, "●"), Phrase(text, most=3)]) for text in (ODD * 2)[:count]]
    figure = captioned_images(
        [("Captions", shown), ("Answers", shown)], [Phrase("subword", "●"), Phrase("bigram", "■")]
    )
    _assert_words_stand_apart(figure)


def test_a_blank_text_is_said_to_be_blank():
    assert Phrase(" \n").lines == Phrase("").lines == ["(blank)"] and Phrase(" a").lines == ["a"]


def _assert_words_stand_apart(figure):
    assert figure.get_size_inches()[0] == COLUMN
    found = texts(figure)
    for number, (text, box) in enumerate(found):
        assert text.get_fontsize() in (TEXT, HEADING) and not text.get_parse_math()
        assert box.x0 > -0.03 and box.x1 < COLUMN + 0.03 and box.y0 > -0.02
        assert box.y1 < figure.get_size_inches()[1] + 0.02
        for other, place in found[number + 1 :]:
            wide = min(box.x1, place.x1) - max(box.x0, place.x0)
            high = min(box.y1, place.y1) - max(box.y0, place.y0)
            assert wide < 0.01 or high < 0.02, f"{text.get_text()!r} lies on {other.get_text()!r}"


def log(steps, **values):
    return [{"step": step} | {key: value * (step + 1) for key, value in values.items()} for step in range(steps)]


def test_a_panel_for_each_loss_that_occurs_and_a_line_for_each_training_that_has_it():
    logs = {"v2l": log(30, pixel=0.001, quantizer=0.1), "spae": log(5, pixel=0.5, semantic=2.0)}
    figure = curves(logs, LOSSES)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["pixels (L1)", "quantizer", "semantic"]
    pixel, quantizer, semantic = figure.axes
    assert [len(line.get_xdata()) for line in pixel.lines] == [30, 5] and len(quantizer.lines) == 1
    assert semantic.lines[0].get_ydata().tolist() == [2, 4, 6, 8, 10]
    assert semantic.lines[0].get_color() == pixel.lines[1].get_color() != pixel.lines[0].get_color()
    assert pixel.get_yscale() == "log" and pixel.get_xlim() == (0, 29)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["V2L Tokenizer", "SPAE (our reading)"]


def test_usage_is_that_of_the_guard_where_it_watched():
    lines = [{"step": 0, "codes_share": 0.1}, {"step": 9, "codes_share": 0.2, "guard_codes_share": 0.5}]
    assert points(lines, "codes_share") == [(9, 0.5)]
    assert points(lines[:1], "codes_share") == [(0, 0.1)] and points(lines, "codes_perplexity") == []


def test_curves_of_the_trainings_in_docs_are_readable(tmp_path):
    logs = {
        path.stem: list(map(json.loads, path.read_text().splitlines())) for path in Path("docs/curves").glob("*.jsonl")
    }
    figure = curves(logs, USAGE)
    figure.savefig(tmp_path / "usage.png")
    legend = figure.legends[0]
    assert len(legend.get_texts()) == len(logs) >= 7
    box = legend.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.x0 >= 0 and box.x1 <= COLUMN
    assert all(axes.get_position().height * figure.get_size_inches()[1] > 0.6 for axes in figure.axes)


@pytest.mark.parametrize("count", [1, 7, 8, 40])
def test_no_two_lines_look_alike_or_differ_by_colour_alone(count):
    looks = [(look["color"], str(look["linestyle"])) for look in line_styles(count)]
    assert len(set(looks)) == count and len({dashes for _, dashes in looks[:7]}) == min(count, 7)


def test_the_style_embeds_fonts_and_reads_no_text_as_tex():
    assert matplotlib.rcParams["pdf.fonttype"] == 42 and not matplotlib.rcParams["text.parse_math"]
    assert matplotlib.rcParams["font.size"] == TEXT


@pytest.mark.parametrize("experiment", ["demo", "paper", "tiny"])
def test_every_figure_has_a_caption_and_files_of_known_names(experiment):
    config = load_experiment({"experiment": experiment})
    assert set(figures(config)) == set(FIGURES)
    for figure, kind in FIGURES.items():
        files = figure_files(config, figure)
        assert files and set(files) <= set(NAMES) and all(files.values()), figure
        assert kind.caption.endswith(".") and len(kind.caption) > 50


def test_curves_are_of_the_trainings_alone():
    config = load_experiment({"experiment": "demo"})
    names = {figure: figure_files(config, figure).get("metrics") for figure in figures(config)}
    assert names["training_curves"] == names["codebook_usage"] == ["train_tokenizer/v2l-continued.metrics.jsonl"]
    del config.tokenizers["v2l-continued"]
    config.train_tokenizer.tokenizers.remove("v2l-continued")
    assert not {"training_curves", "codebook_usage"} & set(figures(config))
