"""The plan of the stages before any tokenizer: downloads, manifests, vocabulary, features, codebook."""

from collections.abc import Iterator

from v2l.pipeline.selections import used_datasets
from v2l.plan.experiment_sizes import ExperimentSizes
from v2l.plan.language_workloads import shape_notes
from v2l.plan.workload import Memory, Workload

CACHED_PROMPT = 5  # tokens of "a photo of" and the mark of a text's beginning


def vocabulary_workloads(sizes: ExperimentSizes) -> Iterator[Workload]:
    """Rows of fetch_assets to filter_vocabulary, in the order of the stages."""
    config = sizes.config
    assets = sizes.asset_bytes()
    yield Workload("fetch_assets", "downloads", len(assets), "assets", bytes_written=sum(assets.values()))
    datasets = {name: sizes.dataset(name) for name in used_datasets(config)}
    for name, found in datasets.items():
        notes = (f"{name}: size assumed, it is not indexed yet",) if found.assumed else ()
        images = found.images()
        read = images * found.file_bytes
        yield Workload("index_images", name, images, "images", bytes_read=read, decoded=images, notes=notes)
    yield _expand(sizes)
    yield _embed_vocabulary(sizes)
    encoder, entry = sizes.encoder, config.encoders[config.encoder]
    precision = getattr(entry, "precision", "float32")
    notes = () if encoder.known else (f"encoder {config.encoder}: an extension's network, its FLOPs are not known",)
    per_image = encoder.image_flops()
    memory = Memory(4 * encoder.parameters, 20e6, config.embed_images.batch_size)
    for name, found in datasets.items():
        images = found.images()
        yield Workload(
            "embed_images",
            name,
            images,
            "images",
            images * per_image,
            precision,
            images * found.file_bytes,
            4.0 * images * encoder.width,
            memory,
            images,
            notes,
        )
    yield _filter(sizes)


def _expand(sizes: ExperimentSizes) -> Workload:
    name = sizes.config.expand_vocabulary.llm
    shape = sizes.llm(name)
    batch = sizes.config.expand_vocabulary.batch_size
    memory = Memory(
        shape.weight_bytes(shape.precision),
        shape.cache_bytes(CACHED_PROMPT + 2, shape.precision),
        batch,
        is_divisible=True,
    )
    notes = shape_notes(name, shape)
    flops = 2 * sizes.subwords * shape.forward(1, CACHED_PROMPT + 1)
    read = shape.weight_bytes(shape.precision)
    return Workload(
        "expand_vocabulary", name, sizes.subwords, "subwords", flops, shape.precision, read, memory=memory, notes=notes
    )


def _embed_vocabulary(sizes: ExperimentSizes) -> Workload:
    encoder, entries = sizes.encoder, 3 * sizes.subwords
    precision = getattr(encoder.entry, "precision", "float32")
    memory = Memory(4 * encoder.parameters, 4e6, sizes.config.embed_vocabulary.batch_size)
    return Workload(
        "embed_vocabulary",
        f"{entries:,} entries, {len(sizes.templates)} templates",
        entries * len(sizes.templates),
        "texts",
        entries * sum(map(encoder.prompt_flops, sizes.templates)),
        precision,
        bytes_written=4.0 * entries * encoder.width,
        memory=memory,
    )


def _filter(sizes: ExperimentSizes) -> Workload:
    section = sizes.config.filter_vocabulary
    images, entries, width = (
        sizes.dataset(section.dataset).images([section.split]),
        3 * sizes.subwords,
        sizes.encoder.width,
    )
    memory = Memory(4.0 * entries * width, 8.0 * entries, section.batch_size)
    return Workload(
        "filter_vocabulary",
        section.dataset,
        images,
        "images",
        2.0 * images * width * (entries + sizes.subwords),
        "float32",
        4.0 * images * width,
        4.0 * width * (sizes.subwords + sizes.codebooks.shared),
        memory,
    )
