"""The guard of a training: it warns or stops when the codebook has collapsed, or the discriminator has.

It judges windows of a set number of token positions for each code, so that usage means the same at every batch size,
codebook and rhythm of the log.
"""

import logging
import math
from typing import NamedTuple

from torch import Tensor

from v2l.configuration.tokenizer_training import Guard, TrainTokenizer
from v2l.errors import UserError
from v2l.training.ranks import Ranks
from v2l.training.window import Window

# What a message advises: keys of train_tokenizer with how to change them.
REMEDIES = {
    "codes": {
        "match_every": "match the projector more often",
        "match_until": "or for longer",
        "loss.quantizer": "raise it",
        "loss.codebook": "raise it against `loss.commitment`",
        "loss.estimator": "the other one",
        "projector_learning_rate": "another one",
        "learning_rate": "lower it",
    },
    "winning discriminator": {
        "loss.adversarial": "lower it",
        "loss.discriminator_start": "start later",
        "discriminator_learning_rate": "lower it",
        "network.discriminator_channels": "fewer",
    },
    "idle discriminator": {
        "loss.discriminator_start": "start earlier",
        "discriminator_learning_rate": "raise it",
        "network.discriminator_channels": "more",
    },
}


class Symptom(NamedTuple):
    """What a window says of one thing that is judged; `kind` names the remedies."""

    is_low: bool
    kind: str
    found: str
    expected: str


def codes_symptom(guard: Guard, codes: int, values: dict[str, float]) -> Symptom:
    """Whether a closed window's usage of `codes` codes is low."""
    share, perplexity, floor = values["codes_share"], values["codes_perplexity"], guard.min_perplexity_share * codes
    return Symptom(
        share < guard.min_codes_share or perplexity < floor,
        "codes",
        f"{share:.2%} of {codes:,} codes in use, perplexity {perplexity:.1f}",
        f"at least {guard.min_codes_share:.2%} (`guard.min_codes_share`) and perplexity {floor:.1f} "
        f"(`guard.min_perplexity_share` {guard.min_perplexity_share})",
    )


def discriminator_symptom(guard: Guard, values: dict[str, float]) -> Symptom:
    """Whether a closed window's discriminator wins completely, or tells nothing apart; not low before it starts."""
    loss, ceiling = values.get("discriminator", math.nan), 1 - guard.min_discriminator_gain
    idle = guard.min_discriminator_gain > 0 and loss > ceiling
    return Symptom(
        idle or loss < guard.min_discriminator_loss,
        "idle discriminator" if idle else "winning discriminator",
        f"discriminator loss {loss:.4g}, it {'tells nothing apart' if idle else 'wins completely'}",
        f"{guard.min_discriminator_loss} (`guard.min_discriminator_loss`) to {ceiling} (1 less "
        f"`guard.min_discriminator_gain`)",
    )


class LowWindows(NamedTuple):
    """Low windows in a row of one thing that is judged: how many, since which step, and whether that was told."""

    windows: int = 0
    since: int = 0
    told: bool = False


class TrainingGuard:
    """Watches training `name` of a tokenizer with `codes` codes for `steps` steps; part of its checkpoints.

    `reason` is why the run must end after the step under way, or None: on every rank, or on none.
    """

    def __init__(self, name: str, section: TrainTokenizer, codes: int, steps: int, ranks: Ranks | None = None):
        self.name, self.config, self.codes, self.steps = name, section.guard, codes, steps
        self.ranks = ranks or Ranks()
        self.reason: UserError | None = None
        after = self.config.after_share * steps
        self.judged_from = {"codebook": after, "discriminator": section.loss.discriminator_start + 1 + after}
        self.low = {thing: LowWindows() for thing in self.judged_from}
        self.window, self.first_step, self.judged = Window(codes), 0, 0
        self.positions = 0  # in the open window

    def count(self, counts_V: Tensor, positions: int) -> None:
        """Take in how often all ranks used each code in a step of so many token positions; nothing is read of it."""
        self.window.count(counts_V)
        self.positions += positions

    def add(self, losses: dict[str, float]) -> None:
        """Take in a step's losses."""
        self.window.add({name: loss for name, loss in losses.items() if name == "discriminator"})

    @property
    def is_full(self) -> bool:
        """Whether `judge` needs counts and losses of every step up to now."""
        return self.positions >= self.config.positions_per_code * self.codes

    def judge(self, step: int) -> dict[str, float]:
        """Judge the window if `step` fills it.

        Returns its usage, `guard_codes_share` and `guard_codes_perplexity`; nothing while it is open.
        """
        usage = {}
        if self.is_full:
            values = self.window.close()
            usage = {f"guard_{name}": values[name] for name in ("codes_share", "codes_perplexity")}
            if self.config.action != "off":
                self._judge("codebook", step, codes_symptom(self.config, self.codes, values))
                self._judge("discriminator", step, discriminator_symptom(self.config, values))
            self.first_step, self.positions = step + 1, 0
        if step + 1 == self.steps and not self.judged and self.config.action != "off" and self.ranks.first:
            logging.info("%s: too short for the guard, which judged no window", self.name)
        return usage

    def _judge(self, thing: str, step: int, symptom: Symptom) -> None:
        """Count a window that ends with `step`; warn, or stop, when it is one low window too many."""
        if self.first_step < self.judged_from[thing]:
            return
        self.judged += 1
        # One decision for all ranks, whose values could differ by rounding.
        if not self.ranks.any(symptom.is_low):
            self.low[thing] = LowWindows()
            return
        low = self.low[thing]
        low = LowWindows(low.windows + 1, low.since if low.windows else self.first_step, low.told)
        too_many = (
            low.windows >= self.config.windows and step + 1 - low.since >= self.config.patience_share * self.steps
        )
        if too_many and self.config.action == "stop" and step + 1 < self.steps:
            self.reason = self.reason or self._message(thing, step, symptom, low)
        elif too_many and not low.told:
            low = low._replace(told=True)
            if self.ranks.first:
                logging.warning("%s", self._message(thing, step, symptom, low))
        self.low[thing] = low

    def _message(self, thing: str, step: int, symptom: Symptom, low: LowWindows) -> UserError:
        where = f"tokenizers.{self.name}.train_tokenizer"
        advice = ", ".join(f"`{key}` ({how})" for key, how in REMEDIES[symptom.kind].items())
        return UserError(
            f"training of {self.name}: the {thing} has collapsed at step {step} of {self.steps}: {symptom.found}, the "
            f"last of {low.windows} low windows in a row since step {low.since}",
            symptom.expected,
            f"change what helps under `{where}` and train anew: {advice}; or let this run go on from its newest "
            f"checkpoint with `{where}.guard.action: warn`, or other limits",
        )

    def state_dict(self) -> dict:
        """The open window, and what was judged so far."""
        return {
            "window": self.window.state_dict(),
            "first_step": self.first_step,
            "judged": self.judged,
            "low": {thing: list(low) for thing, low in self.low.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.window.load_state_dict(state["window"])
        self.positions = int(state["window"]["counts"].sum())
        self.first_step, self.judged = state["first_step"], state["judged"]
        self.low = {thing: LowWindows(*low) for thing, low in state["low"].items()}
