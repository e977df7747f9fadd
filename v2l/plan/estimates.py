"""How long a machine takes for a workload, what it holds in memory, and what it lacks."""

from math import ceil
from typing import NamedTuple

from v2l.configuration.cards import Card, Machine
from v2l.llm.model_facts import BYTES
from v2l.plan.efficiencies import Efficiencies
from v2l.plan.workload import Memory, Workload

HOUR = 3600
ONE_PROCESS = ("expand_vocabulary", "finetune_llm")  # more cards do not shorten them
USABLE = 0.92  # of a card's memory: the driver, the context and gaps have the rest
DECODED = 160  # JPEG files of 500 x 375 px that a CPU core decodes and resizes in a second (measured on one core)


class Estimate(NamedTuple):
    """Hours of one card together, and hours until the machine is done; None for what nobody can tell.

    `memory` in bytes of a job, over `cards` of them. Where it does not fit `fits` is false. `instead`: the precision
    that the card computes in where it lacks the configured one.
    """

    card_hours: float | None
    wall_hours: float | None
    memory: float | None
    cards: int
    fits: bool
    instead: str
    remarks: tuple[str, ...]


class Estimator(NamedTuple):
    """What estimates are made from besides workloads and machines."""

    efficiencies: Efficiencies
    cores_per_card: int

    def estimate(self, work: Workload, machine: Machine) -> Estimate:
        """The estimate of one row. Cards share a stage's work evenly: its jobs, shards or ranks."""
        card, remarks = machine.card, list(work.notes)
        decoding = work.decoded / (DECODED * self.cores_per_card * machine.number)
        if work.precision is None:
            wall = decoding / HOUR if work.decoded else None
            return Estimate(None, wall, None, 0, True, "", tuple(remarks))
        precision = card.precision_for(work.precision)
        instead = precision if precision != work.precision else ""
        if instead:
            remarks.append(f"{machine.name} has no {work.precision}: computed in {precision}")
        share = self.efficiencies.share(work.stage, precision, work.part)
        remarks += [share.note] if share.note else []
        seconds = work.flops / (card.peaks[precision] * 1e12 * share.value)
        memory, cards, problem = _held(work, machine, BYTES[precision] / BYTES[work.precision])
        remarks += [problem] if problem else []
        fits = not problem and cards <= machine.number
        if cards > machine.number:
            remarks.append(f"{work.what.partition(',')[0]}: a job needs {cards} {machine.name}")
        at_once = cards if work.stage in ONE_PROCESS else max(machine.number, cards)
        wall = max(seconds * cards / at_once, decoding)
        return Estimate(seconds * cards / HOUR, wall / HOUR, memory, cards, fits, instead, tuple(remarks))


def _held(work: Workload, machine: Machine, growth: float) -> tuple[float | None, int, str]:
    """Bytes of a job, the cards that hold them, and what to change where they cannot.

    `growth`: how many times as large a number is in the precision that is taken instead.
    """
    if work.memory is None:
        return None, 1, ""
    fixed = work.memory.fixed * (1 if work.memory.is_shared else growth)  # training's weights are float32, whichever
    memory = work.memory._replace(fixed=fixed, per_item=work.memory.per_item * growth)
    held = memory.fixed + memory.per_item * _at_once(memory, machine.number)
    if (usable := _usable(machine.card)) is None or held <= usable:
        return held, 1, ""
    if memory.is_divisible:
        return held, ceil(held / usable), ""
    most = int((usable - memory.fixed) // memory.per_item) if memory.per_item else 0
    key = "train_tokenizer.micro_batch_size" if work.stage == "train_tokenizer" else f"the batch of {work.stage}"
    if work.stage == "finetune_llm":
        key = "finetune_llm.micro_batch_size"
    what = f"{work.stage}, {work.what.partition(',')[0]} on {machine}"
    if most < 1:
        return held, 1, f"{what}: {held / 1e9:.0f} GB do not fit one card"
    return held, 1, f"{what}: {held / 1e9:.0f} GB do not fit; set {key} to at most {most}"


def _at_once(memory: Memory, cards: int) -> int:
    items = 1 if memory.items is None else memory.items
    return ceil(items / cards) if memory.is_shared else items


def _usable(card: Card) -> float | None:
    return None if card.memory_gb is None else USABLE * card.memory_gb * 1e9
