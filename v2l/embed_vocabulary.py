"""Stage embed_vocabulary: the text embedding of every vocabulary entry (paper section 3.2)."""

import logging
from functools import partial

from v2l.configuration.slices import StageConfig
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import parquet_metadata, read_parquet, write_tensors
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.runtime import device


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `embedding_VD`, float32, a row for each vocabulary row: the mean over the templates of unit text features.

    The mean is not normalised again (released). Metadata: `vocabulary` of the input, `encoder`.
    """
    settings = config.embed_vocabulary
    encoder = load_encoder(config.encoders[config.encoder], device())
    texts = read_parquet(inputs["vocabulary"], columns=["text"])["text"].to_pylist()
    templates = prompt_templates(settings.templates)
    record = provenance(config, inputs)
    share = partial(sharded_tables, config, record, inputs, outputs)
    embedding_VD = embed_texts(encoder, texts, templates, settings.batch_size, share)
    metadata = {"vocabulary": parquet_metadata(inputs["vocabulary"])["vocabulary"], "encoder": config.encoder}
    write_tensors(outputs["embedding"], {"embedding_VD": embedding_VD}, record, metadata)
    logging.info(
        "embedded %d entries with %d templates, %d channels", *embedding_VD.shape[:1], len(templates), encoder.dimension
    )


if __name__ == "__main__":
    run_stage(run)
