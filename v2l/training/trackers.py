"""Where the values and sample grids of a training are shown while it goes on: TensorBoard, Weights & Biases (offline).

Neither is needed; both come with `pip install v2l[tracking]`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from v2l.errors import UserError

SCHEDULE = ("epoch", "adaptive_weight")  # values that are neither a loss, a learning rate nor usage


class Tracker(ABC):
    """One of them, writing into `folder`, which is made."""

    @abstractmethod
    def __init__(self, folder: Path): ...

    @abstractmethod
    def values(self, values: Mapping[str, float], step: int) -> None:
        """Show the values of the steps up to `step`, by their names in metrics.jsonl."""

    @abstractmethod
    def samples(self, grid_CHW: Tensor, epoch: int, step: int) -> None:
        """Show a grid of pictures, float of 0..1, at the end of an epoch."""


class TensorBoard(Tracker):
    """Events in `folder`/tensorboard."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def values(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(tag(name), value, step)

    def samples(self, grid_CHW: Tensor, epoch: int, step: int) -> None:
        self._writer.add_image("samples", grid_CHW, step)
        self._writer.flush()


class WeightsAndBiases(Tracker):
    """An offline run in `folder`/wandb, which `wandb sync` sends where its user wants it."""

    def __init__(self, folder: Path):
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project="v2l", name=folder.name, dir=str(folder), mode="offline")
        self._image = wandb.Image

    def values(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({tag(name): value for name, value in values.items()}, step=step)

    def samples(self, grid_CHW: Tensor, epoch: int, step: int) -> None:
        image = self._image(grid_CHW.permute(1, 2, 0).cpu().numpy(), caption=f"epoch {epoch}")
        self._run.log({"samples": image}, step=step)


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def trackers(names: str, folder: Path) -> list[Tracker]:
    """The trackers of a list with commas, writing into `folder`.

    Raises UserError for a name that is none of TRACKERS and for one that is not installed.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in TRACKERS]:
        raise UserError(
            f"resource `tracking` of train_tokenizer names {', '.join(unknown)}",
            f"any of {', '.join(TRACKERS)}, separated by commas",
            "mend it under set-resources in the profile",
        )
    made: list[Tracker] = []
    for name in wanted:
        try:
            made.append(TRACKERS[name](folder))
        except ImportError as error:
            raise UserError(
                f"resource `tracking` of train_tokenizer names {name}, which cannot be imported ({error})",
                "an installed tracker",
                f"run `pip install {name}`, or take it out of `tracking` in the profile",
            ) from None
    return made


def tag(name: str) -> str:
    """What a value of the metrics is called in a tracker: `codebook/share`, `loss/pixel`."""
    if "codes_" in name:
        return f"codebook/{name.replace('codes_', '')}"
    scheduled = name in SCHEDULE or name.endswith("learning_rate")
    return f"{'schedule' if scheduled else 'loss'}/{name}"
