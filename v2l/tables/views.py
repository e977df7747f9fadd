"""Markdown and LaTeX views of a table, laid out as in the paper: methods down, settings, tasks or metrics across."""

from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from v2l.configuration.dataset_entries import TASKS

TITLES = {
    "table1_classification": "Table 1. Few-shot classification accuracy",
    "table2_semantics": "Table 2. Semantic quality of the global tokens",
    "table3_reconstruction": "Table 3. Image reconstruction",
    "table4_restoration": "Table 4. Image denoising",
    "table5_captioning_vqa": "Table 5. Image captioning and visual question answering",
}
ROW_KEYS = {
    "table1_classification": ("ways", "method", "tokenizer", "llm", "tokens"),
    "table2_semantics": ("method", "vocabulary_size", "tokens"),
    "table3_reconstruction": ("method", "global_tokens"),
    "table4_restoration": ("method", "tokenizer", "llm"),
    "table5_captioning_vqa": ("method", "tokenizer", "llm"),
}
ITEMS = {"table1_classification": "episodes", "table5_captioning_vqa": "captions or questions"}
METRIC_LABELS = {
    "vqa_accuracy": "VQA accuracy",
    "cider": "CIDEr",
    "bleu_4": "BLEU-4",
    "clip_score": "CLIP",
    "clip_r": "CLIP-R",
    "fid": "FID",
    "fd_efficientnet_lite0": "FD (EfficientNet-Lite0)",
    "lpips": "LPIPS",
    "psnr": "PSNR",
    "ssim": "SSIM",
}
PAPER_COLUMNS = (  # of table 1: induction, inner shots, repeats
    *((False, 1, 0), (True, 1, 0), (True, 3, 0), (True, 5, 0)),
    *((True, 1, 1), (True, 1, 3), (True, 1, 5)),
)
AVERAGE = ("average", "", "")
MISSING = "\N{EN DASH}"
LATEX_SPECIAL = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"})


@dataclass(frozen=True)
class View:
    """A table for readers: `rows` of metrics files in the table's order, `metrics` its metric columns."""

    table: str
    experiment: str
    rows: list[dict]
    metrics: list[str]
    decimals: int

    def caption(self) -> str:
        """Title, experiment, protocol and number of items."""
        protocols = ", ".join(sorted({row["protocol"] for row in self.rows}))
        counts = sorted({row["n"] for row in self.rows})
        n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        items = ITEMS.get(self.table, "images")
        return f"{TITLES[self.table]}. Experiment {self.experiment}, protocol {protocols}, n = {n} {items} per value."

    def frame(self) -> pd.DataFrame:
        """Texts of the table; columns are tuples (the header's lines), the row keys come first."""
        keys = self._row_keys()
        values: dict[tuple, dict[tuple, float | None]] = {}
        for row in self.rows:
            values.setdefault(tuple(row[key] for key in keys), {})[self._column(row)] = row["value"]
        columns = self._columns(values)
        if self.table == "table1_classification":
            values = dict(sorted(values.items(), key=lambda item: item[0][0]))
            for cells in values.values():
                paper = [cells.get(_setting(*setting)) for setting in PAPER_COLUMNS]
                cells[AVERAGE] = None if None in paper else fmean(paper)
        texts = [
            [*(self._text(value) for value in key), *(self._text(cells.get(column)) for column in columns)]
            for key, cells in values.items()
        ]
        padding = ("",) * (len(columns[0]) - 1)
        header = [(*padding, key.replace("_", " ")) for key in keys] + columns
        return pd.DataFrame(texts, columns=pd.MultiIndex.from_tuples(header))

    def _row_keys(self) -> tuple[str, ...]:
        """The protocol is a column where there are several."""
        several = len({row["protocol"] for row in self.rows}) > 1
        return (*ROW_KEYS[self.table], "protocol") if several else ROW_KEYS[self.table]

    def markdown(self) -> str:
        """A GitHub table under the caption, header lines joined, and the rows' notes below."""
        frame = self.frame()
        aligned = ["left"] * len(self._row_keys())
        aligned += ["right"] * (frame.shape[1] - len(aligned))
        frame.columns = [", ".join(filter(None, column)) for column in frame.columns]
        body = frame.to_markdown(index=False, disable_numparse=True, colalign=aligned)
        notes = "".join(f"- {note}\n" for note in self._notes())
        return f"{self.caption()}\n\n{body}\n" + (f"\n{notes}" if notes else "")

    def latex(self) -> str:
        """A LaTeX table (booktabs, multirow header) with the caption and the notes; needs no other package."""
        frame, keys = self.frame().replace(MISSING, "--"), len(self._row_keys())
        title = self.caption().partition(". ")[2]  # LaTeX numbers its tables itself
        caption = " ".join([title, *(f"{note}." for note in self._notes())])
        return frame.to_latex(
            index=False,
            escape=True,
            multicolumn_format="c",
            column_format="l" * keys + "r" * (frame.shape[1] - keys),
            caption=caption.translate(LATEX_SPECIAL),
            label=f"tab:{self.table}",
        )

    def _column(self, row: dict) -> tuple[str, ...]:
        if self.table == "table1_classification":
            return _setting(row["induction"], row["inner_shots"], row["repeats"])
        label = METRIC_LABELS[row["metric"]]
        return (row["task"], label) if self.table == "table4_restoration" else (label,)

    def _columns(self, values: dict[tuple, dict]) -> list[tuple[str, ...]]:
        """Columns in the paper's order; what the paper does not have comes last."""
        found = dict.fromkeys(column for cells in values.values() for column in cells)
        if self.table == "table1_classification":
            paper = [_setting(*setting) for setting in PAPER_COLUMNS]
            return [*paper, AVERAGE, *(column for column in found if column not in paper)]
        labels = [(METRIC_LABELS[name],) for name in self.metrics]
        if self.table == "table4_restoration":
            present = dict.fromkeys(row["task"] for row in self.rows)
            tasks = [task for task in TASKS if task in present] + [task for task in present if task not in TASKS]
            return [(task, *label) for task in tasks for label in labels]
        return labels

    def _text(self, value: str | int | float | None) -> str:
        if value is None:
            return MISSING
        return f"{value:.{self.decimals}f}" if isinstance(value, float) else str(value)

    def _notes(self) -> list[str]:
        """What the rows' notes say, by method: each remark once."""
        methods: dict[str, list[str]] = {}
        for row in self.rows:
            for note in filter(None, row["note"].split("; ")):
                named = methods.setdefault(note, [])
                if row["method"] not in named:
                    named.append(row["method"])
        everyone = list(dict.fromkeys(row["method"] for row in self.rows))
        return [note if named == everyone else f"{', '.join(named)}: {note}" for note, named in methods.items()]


def _setting(induction: bool, inner_shots: int, repeats: int) -> tuple[str, str, str]:
    return f"induction {'yes' if induction else 'no'}", f"inner shots {inner_shots}", f"repeats {repeats}"
