"""Images side by side: reconstructed (paper figure 7), restored, and restored by a fine-tuned model (figure 8)."""

from matplotlib.figure import Figure

from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.figures.drawing import Column, image_grid
from v2l.figures.image_file import ImageFile, choose, common_images, originals
from v2l.io.job_files import Inputs

WIDE_CELL = 1.4  # inches of an image in the reconstruction figure


def restoration_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image: for each task the corrupted input and the restorations, then tokenizer oracle and original."""
    files = sorted((ImageFile(path) for path in inputs.files("images")), key=ImageFile.rank)
    tasks = [task for task in RESTORATION_TASKS if any(task in file.tasks for file in files)]
    missing = [f"{file.path} (task {task})" for file in files for task in tasks if task not in file.tasks]
    if missing:
        raise UserError(
            f"no images in {', '.join(missing)}", "every task in every file", "reconstruct the images again"
        )
    chosen = choose(config, common_images(files), files[0].path)
    columns: list[Column] = []
    groups: list[tuple[str, int]] = []
    for task in tasks:
        shown = [(file.label, file.images(task, chosen)) for file in files if not file.is_oracle]
        columns, groups = columns + shown, [*groups, (task, len(shown))]
    reference = [(file.label, file.images(tasks[0], chosen)) for file in files if file.is_oracle]
    reference.append(("original", originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)))
    return image_grid(columns + reference, [*groups, ("reference", len(reference))]), len(chosen)


def masked_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image (paper figure 8): the input with its gaps, what fills them, tokenizer oracle, original."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    columns = [(file.label, file.images("masked", chosen)) for file in files]
    columns.append(("original", originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)))
    return image_grid(columns, [("", len(columns))], WIDE_CELL), len(chosen)


def reconstruction_grid(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image: the original, then each tokenizer's reconstruction in the order of the files."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    shown = originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)
    columns: list[Column] = [("original", shown)]
    columns += [(method_label(file.tokenizer), file.images("reconstruction", chosen)) for file in files]
    return image_grid(columns, [("", len(columns))], WIDE_CELL), len(chosen)


def method_label(tokenizer: str) -> str:
    """The method in words of a tokenizer that is named for it; else its name."""
    entry = TOKENIZER_METHODS.get(tokenizer)
    return entry.labels.get(tokenizer, tokenizer) if entry else tokenizer
