"""The loop of every training: steps in their order, checkpoints, and a clean stop when a signal asks for it."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from v2l.errors import INTERRUPTED, UserError
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.training.ranks import Ranks
from v2l.training.stop_signal import StopSignal

Loaded = TypeVar("Loaded")


class Resumable(Protocol):
    """A part of a training whose state the checkpoints hold."""

    def state_dict(self) -> dict:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""


class Loop:
    """The steps of training `name`, with the state of its `parts` in `folder` every `checkpoint_every` of them.

    The parts continue from the newest checkpoint there; of an interrupted run everything up to it counts.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        steps: int,
        checkpoint_every: int,
        parts: Mapping[str, Resumable],
        ranks: Ranks | None = None,
    ):
        self.name, self.folder, self.steps, self.checkpoint_every = name, folder, steps, checkpoint_every
        self.parts, self.ranks, self.first_step = parts, ranks or Ranks(), 0
        self.shown = ""  # behind the progress bar
        self._reason: UserError | None = None
        if state := newest_checkpoint(folder):
            self.first_step = state["step"]
            for key, part in parts.items():
                part.load_state_dict(state[key])
            logging.info("%s: resumed before step %d of %d", name, self.first_step, steps)

    def stop(self, reason: UserError) -> None:
        """End after the step under way, which must not be the last, with a checkpoint, and raise `reason`.

        Every rank must ask at the same step.
        """
        self._reason = reason

    def run(
        self,
        batches: Iterable[Loaded],
        advance: Callable[[int, Loaded], None],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`advance(step, batch)` for each step from `first_step` on, of which `batches` has one each.

        `settle()` comes before every checkpoint: what the parts still wait for; if it raises, none is written.
        SIGTERM and SIGUSR2, on any rank, end the process after the step under way, with a checkpoint and exit status
        INTERRUPTED.
        """
        silent = None if self.ranks.first else True
        with StopSignal() as stop:
            progress = tqdm(batches, self.name, self.steps, initial=self.first_step, disable=silent)
            for step, batch in enumerate(progress, start=self.first_step):
                advance(step, batch)
                progress.set_postfix_str(self.shown, refresh=False)
                interrupted = self.ranks.any(stop.received)
                ends = interrupted or self._reason is not None
                if ((step + 1) % self.checkpoint_every == 0 or ends) and step + 1 < self.steps:
                    settle()
                    if self.ranks.first:
                        state = {key: part.state_dict() for key, part in self.parts.items()}
                        save_checkpoint(self.folder, step + 1, state | {"step": step + 1})
                    if ends:
                        self.ranks.wait()
                    # First: after an interruption SLURM would start again what nobody wants to go on.
                    if self._reason:
                        raise self._reason
                    if interrupted:
                        logging.warning(
                            "%s: interrupted; a checkpoint holds everything before step %d", self.name, step + 1
                        )
                        raise SystemExit(INTERRUPTED)
