"""What a training run tells while it goes on: losses and codebook usage, progress, sample grids, TensorBoard."""

import logging
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from v2l.io.atomic import atomic_path
from v2l.io.json_records import write_json
from v2l.training.metrics_lines import MetricsLines
from v2l.training.progress_line import REPORT_SECONDS, progress_line, standing
from v2l.training.window import Window

SCHEDULE = ("epoch", "adaptive_weight")  # values that are neither a loss, a learning rate nor usage


class TrainingLog(MetricsLines):
    """Lines of metrics.jsonl, in `folder` while training goes on; grids and TensorBoard events in `shown`.

    Only the first rank writes. progress.json holds step, steps and images_per_second, for whoever waits.
    """

    window: Window
    shown_line = ""  # losses and usage of the last line

    def __init__(self, folder: Path, shown: Path, window: Window, steps: int, writes: bool):
        super().__init__(window)
        self.folder, self.shown, self.steps, self.writes = folder, shown, steps, writes
        self.started, self.seen, self.batch_size = time.monotonic(), 0, 0
        self.told = self.started
        self.board = None
        if writes and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(shown / "tensorboard"))

    def count(self, counts_V: Tensor, images: int) -> None:
        """Take in of one step how often each code was used, and its number of images."""
        self.window.count(counts_V)
        self.seen, self.batch_size = self.seen + images, images

    def close_window(self, step: int, epoch: int) -> None:
        """Write the line of the steps since the last."""
        values = {"step": step, "epoch": epoch} | self.window.close()
        self.append(values)
        self.shown_line = standing(values)
        if not self.writes:
            return
        with atomic_path(self.folder / "metrics.jsonl") as temporary:
            temporary.write_text(self.text)
        speed = self.seen / (time.monotonic() - self.started)
        progress = {"step": step + 1, "steps": self.steps, "images_per_second": round(speed, 3)}
        write_json(self.folder / "progress.json", progress, indent=None)
        if time.monotonic() - self.told >= REPORT_SECONDS:
            self.told = time.monotonic()
            logging.info("%s", progress_line(values | progress, self.batch_size))
        if self.board:
            del values["step"]
            for name, value in values.items():
                self.board.add_scalar(tag(name), value, step)

    def show(self, epoch: int, image_BCHW: Tensor, reconstruction_BCHW: Tensor) -> None:
        """Save originals above their reconstructions, both in [-1, 1], as epoch-<number>.png."""
        grid = make_grid(torch.cat([image_BCHW, reconstruction_BCHW]).clamp(-1, 1) / 2 + 0.5, nrow=len(image_BCHW))
        with atomic_path(self.shown / f"epoch-{epoch:04d}.png") as temporary:
            save_image(grid, temporary)
        if self.board:
            self.board.add_image("samples", grid, epoch)
            self.board.flush()


def tag(name: str) -> str:
    """What a value of the metrics is called on TensorBoard: `codebook/share`, `loss/pixel`."""
    if "codes_" in name:
        return f"codebook/{name.replace('codes_', '')}"
    scheduled = name in SCHEDULE or name.endswith("learning_rate")
    return f"{'schedule' if scheduled else 'loss'}/{name}"
