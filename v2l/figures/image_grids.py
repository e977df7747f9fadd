"""Images side by side: reconstructed (paper figure 7), restored, and restored by a fine-tuned model (figure 8)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.figures.drawing import GridBlock, GridColumn, image_grid
from v2l.figures.image_file import ImageFile, choose, common_images, originals
from v2l.figures.labels import column_titles, method_label
from v2l.io.job_files import Inputs
from v2l.io.storage import read_parquet
from v2l.tasks.image_corruption import corruption_class
from v2l.tasks.token_maps import image_mask

SCORES = {"psnr": "{:.1f}", "lpips": "{:.3f}"}  # beneath a reconstruction, as they are written


def reconstruction_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """A row per image: the original, then each tokenizer's reconstruction in the order of the files, with scores."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    scores = [item_scores(path, chosen) for path in inputs.files("scores")]
    shown = [name for name in SCORES if all(name in found for found in scores)]
    labels = [[IMAGE_METRICS[name].label for name in shown]] * len(chosen)
    columns = [GridColumn("original", originals(Manifest.read(inputs["manifest"]), chosen, files[0].size), labels)]
    for file, found in zip(files, scores, strict=True):
        notes = [[SCORES[name].format(found[name][image]) for name in shown] for image in chosen]
        columns.append(GridColumn(method_label(file.tokenizer), file.images("reconstruction", chosen), notes))
    return image_grid([GridBlock("", columns)]), f"{len(chosen)} images"


def restoration_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """A block for each task, in it a row per image: the input, what the methods restored, oracle and original."""
    files = [ImageFile(path) for path in inputs.files("images")]
    tasks = [task for task in RESTORATION_TASKS if any(task in file.tasks for file in files)]
    missing = [f"{file.path} (task {task})" for file in files for task in tasks if task not in file.tasks]
    if missing:
        raise UserError(
            f"no images in {', '.join(missing)}", "every task in every file", "reconstruct the images again"
        )
    chosen = choose(config, common_images(files), files[0].path, blocks=len(tasks))
    clean = GridColumn("original", originals(Manifest.read(inputs["manifest"]), chosen, files[0].size))
    titles, predictors = column_titles(files), {file.source.label for file in files if file.source.is_predicted}
    by = f" by {predictors.pop()}" if len(predictors) == 1 else ""
    blocks = []
    for task in tasks:
        regions = hidden_regions(task, files[0].grid, len(chosen))
        columns = [
            GridColumn(title, file.images(task, chosen), regions=() if file.is_oracle else regions)
            for title, file in zip(titles, files, strict=True)
        ]
        blocks.append(GridBlock(f"{task}{by}", [*columns, clean]))
    return image_grid(blocks), f"{len(chosen)} images"


def masked_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """A row per image (paper figure 8): the input with its gaps, what fills them, tokenizer oracle, original."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    regions = [masked_region(files[0], image_id) for image_id in chosen]
    columns = [
        GridColumn(title, file.images("masked", chosen), regions=regions if file.is_input else ())
        for title, file in zip(column_titles(files), files, strict=True)
    ]
    columns.append(GridColumn("original", originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)))
    return image_grid([GridBlock("", columns)]), f"{len(chosen)} images"


def item_scores(path: Path, image_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each metric's value by image, of a file of stage score_predictions."""
    table = read_parquet(path, columns=["item", "metric", "value"], filters=[("item", "in", list(image_ids))])
    found: dict[str, dict[str, float]] = {}
    for row in table.to_pylist():
        found.setdefault(row["metric"], {})[row["item"]] = row["value"]
    return found


def hidden_regions(task: str, grid: int, count: int) -> list[np.ndarray]:
    """For each of `count` images the boolean (grid, grid) map of tokens that `task` hides; none if it hides none."""
    corruption = corruption_class(task)
    if not corruption.is_masked:
        return []
    region_L = np.zeros(grid * grid, dtype=bool)
    region_L[corruption.positions((grid, grid))] = True
    return [region_L.reshape(grid, grid)] * count


def masked_region(file: ImageFile, image_id: str) -> np.ndarray:
    """The boolean (grid, grid) map of an image's gaps in masked restoration."""
    share = file.config["evaluate_llm"]["masked"]["mask_share"]
    return image_mask(file.grid**2, share, file.config["seed"], image_id).reshape(file.grid, file.grid)
