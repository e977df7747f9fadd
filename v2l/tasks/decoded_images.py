"""Images that a tokenizer decodes: of clean tokens, of restored maps, and of maps with gaps."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import HELD_OUT, Source
from v2l.data.images import encode_png, to_uint8
from v2l.data.token_table import Tokens
from v2l.errors import UserError, require_each_finite
from v2l.io.job_files import Inputs
from v2l.io.overlap import BATCHES_AHEAD, fetched, mapped, sent
from v2l.io.storage import read_parquet
from v2l.memory_errors import out_of_memory
from v2l.models.tokenizer_file import load_tokenizer
from v2l.precision import computed_in
from v2l.runtime import device
from v2l.tasks.image_corruption import mask_positions
from v2l.tasks.token_maps import assemble, image_count, image_mask

MASKED = "masked"
REMEDY = "set `reconstruct_images.precision: float32`; if it is, the tokenizer's weights are damaged: make them anew"
ImageRow = tuple[str, str, bytes]  # image_id, task, PNG
BatchNames = tuple[np.ndarray, list[str]]  # ids of a batch's images, and the tasks that each of them is for
Positions = Callable[[str, str], np.ndarray]  # task, image_id -> positions that the task masks
T = TypeVar("T")


class MapSet(NamedTuple):
    """Maps `local_NL` of the images at `rows` of `given`, whose global ids go with them; images of all `tasks`."""

    rows: np.ndarray
    local_NL: np.ndarray
    given: Tokens
    tasks: list[str]


def decoded_images(config: StageConfig, inputs: Inputs) -> Iterator[ImageRow]:
    """Images decoded by the tokenizer with the global codes of the clean image, in held-out those of the corrupted.

    Threads write the images of a batch as PNG while the next ones are decoded.
    """

    def decoded() -> Iterator[tuple[str, list[str], np.ndarray]]:
        for (names, tasks), (image_BHWC, finite_B) in fetched(_decoded_batches(config, inputs)):
            what = f"pictures that tokenizer {config.job['tokenizer']} decodes in {config.reconstruct_images.precision}"
            require_each_finite(what, names.tolist(), finite_B.tolist(), REMEDY)
            yield from ((name, tasks, pixels_HWC) for name, pixels_HWC in zip(names, image_BHWC.numpy(), strict=True))

    pixels = decoded()
    for image_id, tasks, png in mapped(_as_png, pixels, BATCHES_AHEAD * config.reconstruct_images.batch_size):
        yield from ((image_id, task, png) for task in tasks)


def _decoded_batches(config: StageConfig, inputs: Inputs) -> Iterator[tuple[BatchNames, list[Tensor]]]:
    """Image ids and tasks of every batch, its uint8 image_BHWC on the device, and which were finite before rounding."""
    source = Source.parse(config.job["source"])
    tokens = Tokens.read(inputs["tokens"])
    tokenizer = load_tokenizer(inputs["weights"], device())
    positions = masked_positions(config, tokens)
    for rows, local_NL, given, tasks in map_sets(config, inputs, source, tokens, positions):
        visible_NL = np.ones(local_NL.shape, dtype=bool)
        if source.predictor == "corrupted-input":
            for visible_L, row in zip(visible_NL, rows, strict=True):
                visible_L[positions(source.task, tokens.image_id[row])] = False
        for batch in groups(range(len(rows)), config.reconstruct_images.batch_size):
            global_BK = None
            if tokenizer.has_global and given.global_NK is not None:
                global_BK = sent(torch.from_numpy(given.global_NK[rows[batch]]), device())
            local_BL, visible_BL = (sent(torch.from_numpy(part[batch]), device()) for part in (local_NL, visible_NL))
            memory = out_of_memory("reconstruct_images", "reconstruct_images.batch_size", f"{len(batch)} images")
            with memory, torch.inference_mode(), computed_in(config.reconstruct_images.precision):
                image_BCHW = tokenizer.decode(local_BL, global_BK, visible_BL)
                image_BHWC, finite_B = to_uint8(image_BCHW), image_BCHW.isfinite().flatten(1).all(1)
            yield (tokens.image_id[rows[batch]], tasks), [image_BHWC, finite_B]


def _as_png(image: tuple[str, list[str], np.ndarray]) -> tuple[str, list[str], bytes]:
    image_id, tasks, pixels_HWC = image
    return image_id, tasks, encode_png(pixels_HWC)


def masked_positions(config: StageConfig, tokens: Tokens) -> Positions:
    """The positions that a task masks in an image."""

    def positions(task: str, image_id: str) -> np.ndarray:
        if task != MASKED:
            return mask_positions(task, tokens.grid)
        share, length = config.evaluate_llm.masked.mask_share, tokens.local_NL.shape[1]
        return np.flatnonzero(image_mask(length, share, config.seed, image_id))

    return positions


def map_sets(
    config: StageConfig, inputs: Inputs, source: Source, tokens: Tokens, positions: Positions
) -> Iterator[MapSet]:
    """The maps of a source: as predicted where there are predictions, else the clean ones."""
    rows, given = np.arange(len(tokens.image_id)), {source.task: tokens}
    if source.task == "restoration":
        settings, held_out = config.evaluate_llm.restoration, source.protocol == HELD_OUT
        rows = rows[: image_count(settings, config.job["tokenizer"], source.protocol)]
        given = {task: Tokens.read(inputs["tokens"], task) if held_out else tokens for task in settings.tasks}
    if "predictions" in inputs:
        yield from restored_maps(inputs["predictions"], given, rows, positions)
    elif source.protocol == HELD_OUT:
        yield from (MapSet(rows, tokens.local_NL[rows], shown, [task]) for task, shown in given.items())
    else:
        yield MapSet(rows, tokens.local_NL[rows], tokens, list(given))


def restored_maps(
    predictions: Path, given: dict[str, Tokens], rows: np.ndarray, positions: Positions
) -> Iterator[MapSet]:
    """The restored maps of each task; `predictions` is a file of evaluate_llm.

    `given` tokens stand where nothing is predicted: those of the clean image or, in held-out, of the corrupted one.
    """
    columns = ["task", "image_id", "positions", "predicted_codes"]
    table = read_parquet(predictions, columns=columns)
    for task, tokens in given.items():
        of_task = table.filter(pc.field("task") == task)
        steps_of: dict[str, list] = {}
        for image_id, *step in zip(*(of_task[name].to_pylist() for name in columns[1:]), strict=True):
            steps_of.setdefault(image_id, []).append(step)
        size = tokens.tokenizer["codebooks"]["local_size"]
        maps = []
        for row in rows:
            image_id = tokens.image_id[row]
            try:
                where = positions(task, image_id)
                maps.append(assemble(tokens.local_NL[row], where, steps_of.get(image_id, []), size))
            except ValueError as error:
                raise UserError(
                    f"{predictions} does not restore image {image_id} for task {task}: {error}",
                    "one code of the tokenizer for each masked position",
                    "delete the file and run evaluate_llm again",
                ) from None
        yield MapSet(rows, np.stack(maps), tokens, [task])


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive lists of up to `size` items."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
