"""A small experiment's results, written file by file with texts that a page must not take for markup."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from v2l import make_report, make_tables
from v2l.configuration.slices import StageConfig
from v2l.data.images import encode_png
from v2l.data.manifest import SCHEMA as MANIFEST
from v2l.data.token_table import WORDS_SCHEMA, schema
from v2l.io.job_files import Inputs
from v2l.io.json_records import write_json
from v2l.io.records import write_beside
from v2l.io.storage import write_parquet
from v2l.pipeline.machines import SUFFIX
from v2l.reconstruct_images import SCHEMA as IMAGES
from v2l.report.present_files import template_files

HOSTILE = "<script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\"> & \"quoted\""
CONTROLS = "bell\x07 null\x00 escape\x1b[0m"
PICTURES = [f"val/{number}.png" for number in range(3)]
CLASSES = ["cat", HOSTILE]
METHODS = {"v2l": 0.75, "vqgan": 0.5}
CELL = {"ways": 2, "tokens": 3, "inner_shots": 1, "repeats": 0, "induction": True}
SIDE, WORDS = 16, [" cat", HOSTILE, "\u202eevil", CONTROLS]
GLOBAL_TOKENS, GRID = 2, 2
TABLES = "table1_classification table3_reconstruction table4_restoration"


def record(stage: str, job: dict[str, str], inputs: dict[str, Path] | None = None, **config) -> dict:
    files = {name: [{"path": str(path), "sha256": "0" * 64}] for name, path in (inputs or {}).items()}
    versions = {"python": "3.11"}
    return {"stage": stage, "config": {"job": job} | config, "commit": "c0ffee", "versions": versions, "inputs": files}


class ReportProject:
    """Results below `results/tiny` of a folder, by input name of stage make_report in `files`."""

    def __init__(self, folder: Path):
        self.folder, self.results = folder, folder / "results/tiny"
        self.files: dict[str, list[Path]] = {"templates": [Path(path).absolute() for path in template_files()]}
        self.manifest = self._manifest()
        self._tokens()
        for number, (method, accuracy) in enumerate(METHODS.items()):
            self._classified(method, accuracy)
            for source, tasks in (("reconstruction", ["reconstruction"]), ("restoration.llm", ["inpainting", "shift"])):
                self._pictured(method, source, tasks, 20.0 + number)
        self._pictured("pixels", "restoration.corrupted-input", ["inpainting", "shift"], 30.0)
        for table, task in zip(TABLES.split(), ("classification", "reconstruction", "restoration"), strict=True):
            self._table(table, task)
        self._training()
        self._figure()

    def report(self, name: str = "report.html", leave_out: tuple[str, ...] = (), **settings) -> Path:
        """The report of these files, without some of them."""
        job = {
            "tables": f"{TABLES} table2_semantics",
            "figures": "masked reconstruction",
            "logs": str(self.folder / "logs"),
        }
        sizes = {"images": 2, "items": 3, "prompt_characters": 400} | settings
        config = StageConfig("make_report", {"experiment": "tiny", "make_report": sizes, "job": job})
        files = {key: paths for key, paths in self.files.items() if key not in leave_out}
        path = self.folder / name
        make_report.run(config, Inputs(files), {"html": path})
        return path

    def _add(self, name: str, path: str) -> Path:
        target = self.results / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self.files.setdefault(name, []).append(target)
        return target

    def _manifest(self) -> Path:
        path = self._add("manifests", "index_images/pictures.parquet")
        for number, name in enumerate(PICTURES):
            picture = self.folder / "pictures" / name
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 24), (60 * number, 90, 200)).save(picture)
        rows = [(name, "val", 0, CLASSES[row % 2], [HOSTILE], [], 20, 24) for row, name in enumerate(PICTURES)]
        dataset = {"name": "pictures", "root": str(self.folder / "pictures"), "fit": "crop", "classes": CLASSES}
        table = pa.table(list(zip(*rows, strict=True)), schema=MANIFEST)
        write_parquet(path, table, record("index_images", {"dataset": "pictures"}), {"dataset": dataset})
        return path

    def _tokens(self) -> None:
        words = self._add("words", "train_tokenizer/v2l.words.parquet")
        rows = pa.table([range(len(WORDS)), WORDS, range(len(WORDS))], WORDS_SCHEMA)
        write_parquet(words, rows, record("train_tokenizer", {"tokenizer": "v2l"}))
        vocabulary = self._add("vocabulary", "expand_vocabulary/vocabulary.parquet")
        subwords = pa.table({"kind": ["subword"] * 4, "token_ids": [[1]] * 4, "text": ["<b>", " sky", " sun", ""]})
        write_parquet(vocabulary, subwords, record("expand_vocabulary", {}))
        description = {"name": "v2l", "worded_ids": "global", "shown_as": "subword"}
        for sample in ("reconstruction", "restoration"):
            path = self._add("tokens", f"extract_tokens/v2l/{sample}.parquet")
            rows = [(name, "val", 0, "none", [row, 3], [0, 1, 2, 3]) for row, name in enumerate(PICTURES)]
            table = pa.table(list(zip(*rows, strict=True)), schema=schema(GRID * GRID, GLOBAL_TOKENS))
            made = record("extract_tokens", {"tokenizer": "v2l", "sample": sample}, {"manifest": self.manifest})
            write_parquet(path, table, made, {"tokenizer": description, "grid": [GRID, GRID]})

    def _scores(self, tokenizer: str, source: str, rows: list[dict], items: list[dict]) -> None:
        job = {"tokenizer": tokenizer, "source": source}
        path = self._add("scores", f"score_predictions/{tokenizer}/{source}.json")
        path.write_text(json.dumps({"rows": rows}))
        write_beside(path, record("score_predictions", job))
        path = self._add("item_scores", f"score_predictions/{tokenizer}/{source}.parquet")
        write_parquet(path, pa.Table.from_pylist(items), record("score_predictions", job))

    def _classified(self, method: str, accuracy: float) -> None:
        names = {"method": method, "tokenizer": method, "llm": "llm"} | CELL
        value = {"value": accuracy, "ci_low": accuracy - 0.1, "ci_high": accuracy + 0.1, "n": 4, "protocol": "paper"}
        items = [
            names | {"item": str(row), "metric": "accuracy", "value": float(row < 4 * accuracy)} for row in range(4)
        ]
        self._scores(method, "classification.llm", [names | {"metric": "accuracy", "note": HOSTILE} | value], items)
        path = self._add("predictions", f"evaluate_llm/{method}/llm/classification.parquet")
        asked = {"query_image": PICTURES[0], "class_names": CLASSES, "target": "cat", "prompt_ids": [5] * 300}
        answers = [
            CELL | asked | {"episode": row, "output_ids": [7], "output": f" {HOSTILE}\n", "answer": HOSTILE}
            for row in range(4)
        ]
        job = {"tokenizer": method, "predictor": "llm", "protocol": "paper", "task": "classification"}
        made = record("evaluate_llm", job, llms={"llm": {"path": str(self.folder / "moved away")}})
        write_parquet(path, pa.Table.from_pylist(answers), made)

    def _pictured(self, tokenizer: str, source: str, tasks: list[str], psnr: float) -> None:
        predictor = source.partition(".")[2]
        is_bound = predictor == "corrupted-input"
        names: dict = {"method": predictor if is_bound else tokenizer}
        if predictor:
            names |= {"tokenizer": None if is_bound else tokenizer, "llm": None if is_bound else predictor}
        else:
            names |= {"global_tokens": 0}
        rows, items = [], []
        for task in tasks:
            keys = names | ({"task": task} if predictor else {})
            for metric, value in (("psnr", psnr), ("lpips", psnr / 100)):
                measured = {"metric": metric, "value": value, "ci_low": value - 0.01, "ci_high": value + 0.01}
                rows.append(keys | measured | {"n": 3, "protocol": "paper", "note": ""})
                items += [keys | {"item": name, "metric": metric, "value": value} for name in PICTURES]
        self._scores(tokenizer, source, rows, items)
        path = self._add("images", f"reconstruct_images/{tokenizer}/{source}.parquet")
        picture = encode_png(np.full((SIDE, SIDE, 3), int(psnr * 5), np.uint8))
        table = pa.table(
            list(zip(*[(name, task, picture) for task in tasks for name in PICTURES], strict=True)), schema=IMAGES
        )
        write_parquet(path, table, record("reconstruct_images", {"tokenizer": tokenizer, "source": source}))

    def _table(self, table: str, task: str) -> None:
        scores = [path for path in self.files["scores"] if path.name.startswith(task)]
        config = {
            "experiment": "tiny",
            "seed": 0,
            "make_tables": {"intervals": True},
            "score_predictions": {"bootstrap_samples": 20},
            "job": {"table": table},
        }
        published = Path(__file__).parents[1] / "config/published.csv"
        folder = self.results / "make_tables"
        folder.mkdir(exist_ok=True)
        outputs = {name: folder / f"{table}.{name}" for name in ("csv", "markdown", "latex")}
        per_item = [path.with_suffix(".parquet") for path in scores]
        inputs = Inputs({"metrics": scores, "per_item": per_item, "published": published})
        make_tables.run(StageConfig("make_tables", config), inputs, outputs)
        self.files.setdefault("tables", []).append(outputs["csv"])

    def _training(self) -> None:
        for name, lines in {
            "v2l": [{"step": step, "epoch": 0, "pixel": 1 / (step + 1), "codes_share": step / 9} for step in range(9)],
            "vqgan": [{"imported": HOSTILE, "hours": 0.1}],
        }.items():
            path = self._add("trainings", f"train_tokenizer/{name}.metrics.jsonl")
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            write_beside(path, record("train_tokenizer", {"tokenizer": name}))

    def _figure(self) -> None:
        path = self._add("figures", "make_figures/reconstruction.png")
        Image.new("RGB", (300, 200), "white").save(path)
        write_beside(path, record("make_figures", {"figure": "reconstruction"}))
        log = self.folder / "logs/make_tables/table1.benchmark.tsv"
        log.parent.mkdir(parents=True)
        log.write_text("s\tmax_rss\n90\t100\n")
        machine = {"processor": "A <b>processor</b>", "cores": 2, "gpus": ["A card", "A card"]}
        write_json(log.with_name(f"table1{SUFFIX}"), machine)
