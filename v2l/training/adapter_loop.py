"""Fine-tuning of an adapter: batches in their order, and held-out images measured before and after."""

import math
from pathlib import Path

import numpy as np

from v2l.errors import check_finite
from v2l.training.adapter_tuner import AdapterTuner
from v2l.training.batch_order import BatchOrder
from v2l.training.loop import Loop
from v2l.training.metrics_lines import MetricsLines
from v2l.training.window import Means

REMEDY = "lower `finetune_llm.learning_rate`, or use precision float32"


def tune(
    tuner: AdapterTuner,
    local_NL: np.ndarray,
    held_out_NL: np.ndarray,
    held_out_masked_NL: np.ndarray,
    seed: int,
    folder: Path,
    name: str,
) -> MetricsLines:
    """All steps that no checkpoint of `folder` holds, on the maps `local_NL`; the lines of the metrics file.

    Of held-out maps, if there are any, the codes at `held_out_masked_NL` are predicted.
    """
    section, lines = tuner.section, MetricsLines(Means())
    loop = Loop(name, folder, section.steps, section.checkpoint_every, {"tuner": tuner, "log": lines})
    if len(held_out_NL) and loop.first_step == 0:
        before = tuner.measure(held_out_NL, held_out_masked_NL)
        before |= frequencies(local_NL, held_out_NL[held_out_masked_NL], len(tuner.ids_V))
        lines.append({"step": 0} | before)

    def advance(step: int, places: list[int]) -> None:
        values = tuner.step(step, local_NL[np.array(places) % len(local_NL)], seed)
        check_finite(f"fine-tuning of {name}", step, values, REMEDY)
        lines.window.add(values)
        if (step + 1) % section.log_every == 0 or step + 1 == section.steps:
            lines.append({"step": step + 1} | lines.window.close())

    loop.run(BatchOrder(seed, len(local_NL), section.batch_size, loop.first_step, section.steps), advance)
    if len(held_out_NL):
        lines.append({"step": section.steps} | tuner.measure(held_out_NL, held_out_masked_NL))
    return lines


def frequencies(training_NL: np.ndarray, target_N: np.ndarray, codes: int) -> dict[str, float]:
    """What the training images' code frequencies (plus one) alone would reach on held-out tokens, and pure chance."""
    count_V = np.bincount(training_NL.ravel(), minlength=codes) + 1
    share_V = count_V / count_V.sum()
    return {
        "frequency_loss": float(-np.log(share_V[target_N]).mean()),
        "frequency_accuracy": float((target_N == count_V.argmax()).mean()),
        "chance_loss": math.log(codes),
    }
