"""The plan of the language models' stages: prompts of each task, adapters."""

from collections.abc import Iterator

from v2l.configuration.runs import Run
from v2l.plan.experiment_sizes import ExperimentSizes
from v2l.plan.language_models import LanguageModelShape
from v2l.plan.prompt_costs import Prompts
from v2l.plan.workload import Memory, Workload

# Bytes that a layer keeps of a token and channel in half precision (Korthikanti et al. 2022, without attention maps).
KEPT_BYTES = 34
TASKS = ("classification", "restoration", "masked", "captioning", "vqa")


def finetuning_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each adapter."""
    section, masked = sizes.config.finetune_llm, sizes.config.evaluate_llm.masked
    for name in masked.llms:
        shape = sizes.llm(name)
        for tokenizer in masked.tokenizers:
            grid, positions = _grid(sizes, tokenizer), sizes.tokenizer(tokenizer).positions
            length = sizes.prompts(name).masked_length(grid) - 1
            images = section.steps * section.batch_size
            flops = images * shape.adaptation(length, positions)
            flops += 2 * section.held_out_images * shape.forward(length, length, positions)
            kept = KEPT_BYTES * (2 if section.precision in ("float32", "tf32") else 1)
            per_image = kept * length * shape.config["num_hidden_layers"] * shape.config["hidden_size"]
            memory = Memory(shape.weight_bytes(section.precision), per_image, section.micro_batch_size)
            yield Workload(
                "finetune_llm",
                f"{name} on {tokenizer}",
                images,
                "images",
                flops,
                section.precision,
                shape.weight_bytes(section.precision),
                memory=memory,
                notes=shape_notes(name, shape),
            )


def evaluation_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each language model and task, over all tokenizers and protocols, then one for what needs no model."""
    for name in sizes.config.llms:
        for task in TASKS:
            runs = [run for run in sizes.runs if (run.source.task, run.source.predictor) == (task, name)]
            if runs:
                yield _evaluated(sizes, name, task, runs)
    others = [run for run in sizes.runs if run.source.is_predicted and run.source.baseline]
    if others:
        yield Workload("evaluate_llm", "predictors without a model", len(others), "files")


def _evaluated(sizes: ExperimentSizes, name: str, task: str, runs: list[Run]) -> Workload:
    shape = sizes.llm(name)
    asked: list[Prompts] = []
    for run in runs:
        asked += sizes.prompts(name).prompts(run, _grid(sizes, run.tokenizer), sizes.sample(task))
    count = sum(prompts.asked for prompts in asked)
    mean = sum(prompts.asked * prompts.length for prompts in asked) / count
    flops = sum(part.asked * shape.answer(part.length, part.cached, part.new) for part in asked)
    longest = max(part.length + part.new for part in asked)
    per_prompt = shape.cache_bytes(longest, shape.precision) + 4 * shape.vocabulary
    batch = getattr(sizes.config.evaluate_llm, task).batch_size
    return Workload(
        "evaluate_llm",
        f"{name}, {task}, {len(runs)} x {mean:.0f} tokens",
        count,
        "prompts",
        flops,
        shape.precision,
        len(runs) * shape.weight_bytes(shape.precision),
        4.0 * count * mean,
        Memory(shape.weight_bytes(shape.precision), per_prompt, batch, is_divisible=True),
        notes=shape_notes(name, shape),
        part=task,
    )


def shape_notes(name: str, shape: LanguageModelShape) -> tuple[str, ...]:
    """What to say of a model whose config.json is not there."""
    return (f"{name}: shape assumed, there is no config.json",) if shape.assumed else ()


def _grid(sizes: ExperimentSizes, tokenizer: str) -> tuple[int, int]:
    side = sizes.tokenizer(tokenizer).tokenizer.geometry.grid
    return side, side
