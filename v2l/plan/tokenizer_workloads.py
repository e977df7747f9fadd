"""The plan of the tokenizers' stages: training, extraction, decoding, scores of images."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path

from v2l.configuration.runs import IMAGE_TASKS, Run
from v2l.llm.model_facts import BYTES
from v2l.models.quantizers import DISTANCES_AT_ONCE
from v2l.pipeline.required_files import decoded_files
from v2l.plan.experiment_sizes import ExperimentSizes
from v2l.plan.frozen_costs import score_flops
from v2l.plan.workload import Memory, Workload
from v2l.tasks.token_maps import image_count
from v2l.training.schedule import steps_on

OPTIMIZED, FROZEN = 16, 4  # bytes of a parameter: weight, gradient and Adam's two averages; weight alone
WORKING_MAPS = 4  # of the first level's size that a pass without gradients holds at once
PNG_BYTES = 1.8  # of a pixel


def training_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each tokenizer; imported weights cost their reading."""
    for name in sizes.used_tokenizers:
        yield _training(sizes, name) if sizes.is_trained(name) else _imported(sizes, name)


def decoding_once_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each file of decoded pictures that trainings ask for."""
    found = sizes.dataset(sizes.config.train_tokenizer.dataset)
    images = found.images()
    sides = {
        path: sizes.tokenizer(name).settings.network.image_size
        for name in filter(sizes.is_trained, sizes.used_tokenizers)
        for path in decoded_files(sizes.config, name)
    }
    for path, side in sides.items():
        read, written = images * found.file_bytes, 3 * side**2 * images
        name = Path(path).stem
        yield Workload("decode_images", name, images, "images", 0, None, read, written, decoded=images)


def training_steps(sizes: ExperimentSizes, name: str) -> int:
    """Steps of a tokenizer's training."""
    settings = sizes.tokenizer(name).settings
    return max(1, steps_on(settings, sizes.dataset(settings.dataset).images(settings.splits)))


def _training(sizes: ExperimentSizes, name: str) -> Workload:
    costs = sizes.tokenizer(name)
    settings, steps = costs.settings, training_steps(sizes, name)
    batch, micro = settings.global_batch_size, settings.micro_batch_size or settings.global_batch_size
    generator, critics = costs.generator(), costs.critics()
    step = ceil(batch / micro) * (generator.flops(micro) + critics.flops(micro))
    if settings.discriminator_step == "rerun" and settings.loss.adversarial:
        step += costs.forward_flops(batch)
    matches = 0.0
    if settings.projector_init == "match-moments":
        matches = 1 + settings.match_until * steps // settings.match_every
    memory = Memory(
        OPTIMIZED * costs.trained_parameters + FROZEN * costs.frozen_parameters + 8 * DISTANCES_AT_ONCE,
        generator.per_image.kept_bytes + critics.per_image.kept_bytes,
        micro,
        is_shared=settings.micro_batch_size is None,
    )
    read = 3 * settings.network.image_size**2 if settings.decoded_images else sizes.dataset(settings.dataset).file_bytes
    return Workload(
        "train_tokenizer",
        name,
        steps * batch,
        "images",
        steps * step + (matches * costs.match_flops(batch) if matches else 0),
        settings.precision,
        steps * batch * read,
        4.0 * costs.parameters,
        memory,
        0 if settings.decoded_images else steps * batch,
    )


def _imported(sizes: ExperimentSizes, name: str) -> Workload:
    size = 4.0 * sizes.tokenizer(name).parameters
    return Workload("train_tokenizer", f"{name}, imported", 1, "files", bytes_read=size, bytes_written=size)


def extraction_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each tokenizer: all samples and corruptions that its runs need."""
    config, section = sizes.config, sizes.config.extract_tokens
    for name in sizes.used_tokenizers:
        samples = {run.source.task for run in sizes.runs if run.tokenizer == name}
        if name in config.evaluate_llm.masked.tokenizers and config.evaluate_llm.masked.llms:
            samples.add("finetuning")
        costs, images, corrupted, read = sizes.tokenizer(name), 0, 0, 0.0
        for sample in samples:
            clean, kinds = sizes.sample(sample), config.samples[sample].corruptions
            images += clean * len(kinds)
            corrupted += clean * sum(kind != "none" for kind in kinds)
            read += clean * len(kinds) * sizes.dataset(config.samples[sample].dataset).file_bytes
        encoded = corrupted if costs.tokenizer.needs_features else 0
        flops = images * costs.encode_flops(section.batch_size) / section.batch_size
        flops += encoded * sizes.encoder.image_flops()
        written = images * 4.0 * (costs.positions + costs.tokenizer.global_tokens)
        memory = _inference_memory(sizes, name, section.batch_size)
        yield Workload(
            "extract_tokens", name, images, "images", flops, section.precision, read, written, memory, images
        )


def decoded_images(sizes: ExperimentSizes, run: Run) -> int:
    """Images of a run of a task that is scored by images."""
    config, task = sizes.config, run.source.task
    images = sizes.sample(task)
    if task == "restoration":
        limit = image_count(config.evaluate_llm.restoration, run.tokenizer, run.source.protocol)
        return min(images, limit or images) * len(config.evaluate_llm.restoration.tasks)
    return images


def decoding_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """A row for each tokenizer, and one for pictures that none made."""
    config, section = sizes.config, sizes.config.reconstruct_images
    by_tokenizer: dict[str, int] = {}
    for run in sizes.runs:
        if run.source.task in IMAGE_TASKS:
            by_tokenizer[run.tokenizer] = by_tokenizer.get(run.tokenizer, 0) + decoded_images(sizes, run)
    for name, images in by_tokenizer.items():
        if name not in config.tokenizers:
            training = sizes.dataset(config.train_tokenizer.dataset).images(config.train_tokenizer.splits)
            side = config.train_tokenizer.network.image_size
            written = images * PNG_BYTES * side**2
            yield Workload(
                "reconstruct_images", name, images, "images", bytes_written=written, decoded=training + images
            )
            continue
        costs = sizes.tokenizer(name)
        flops = images * costs.decode_flops(section.batch_size) / section.batch_size
        written = images * PNG_BYTES * costs.tokenizer.geometry.image_size**2
        read = images * 4.0 * (costs.positions + costs.tokenizer.global_tokens)
        memory = _inference_memory(sizes, name, section.batch_size)
        yield Workload("reconstruct_images", name, images, "images", flops, section.precision, read, written, memory)


def scoring_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """Rows of score_predictions: images against their originals, words and captions, answers."""
    config, section = sizes.config, sizes.config.score_predictions
    runs = [run for run in sizes.runs if run.source.task in IMAGE_TASKS]
    images = sum(decoded_images(sizes, run) for run in runs)
    side = config.train_tokenizer.network.image_size
    memory = Memory(0.2e9, 30e6, section.batch_size)
    flops = images * score_flops(section, side)
    read = images * PNG_BYTES * side**2
    yield Workload(
        "score_predictions", "images", images, "images", flops, "float32", read, memory=memory, decoded=2 * images
    )
    words = sum(run.source.task == "semantics" for run in sizes.runs) * sizes.sample("semantics")
    flops = 2.0 * words * 3 * sizes.subwords * sizes.encoder.width
    yield Workload("score_predictions", "words", words, "images", flops, "float32", memory=memory)


def _inference_memory(sizes: ExperimentSizes, name: str, batch: int) -> Memory:
    costs, network = sizes.tokenizer(name), sizes.tokenizer(name).settings.network
    maps = WORKING_MAPS * network.channels * network.image_size**2 * BYTES["float32"]
    return Memory(FROZEN * costs.parameters + 8 * DISTANCES_AT_ONCE, maps, batch)
