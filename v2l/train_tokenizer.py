"""Stage train_tokenizer: train one tokenizer variant on a data set (paper section 3.3).

Only steps and seeds decide the result: a run that was interrupted goes on from its newest checkpoint and ends in the
same weights as one that was not. SIGTERM and SIGUSR2 interrupt it: all ranks leave after the step under way, with a
checkpoint, and exit with status 75. Several ranks (see `v2l.training.ranks`) share each batch.
"""

import logging
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from v2l.configuration.imported_weights import has_checkpoint, imported_files, is_imported
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.data.token_table import WORDS_SCHEMA
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.records import write_beside
from v2l.io.storage import parquet_metadata, read_parquet, read_tensors, tensor_metadata, write_parquet
from v2l.models.discriminator import Discriminator
from v2l.models.imports import import_tokenizer
from v2l.models.losses import PerceptualLoss
from v2l.models.lpips_network import load_lpips
from v2l.models.own_weights import import_weights, start_from
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.vision_tokenizer import CodeWords, FinishedTokenizer, VisionTokenizer
from v2l.models.weights_file import weights_metadata
from v2l.pipeline.record import provenance
from v2l.pipeline.run_folder import run_folder
from v2l.pipeline.stage import run_stage
from v2l.runtime import device, rng
from v2l.training.compilation import keep_compiled
from v2l.training.log import TrainingLog
from v2l.training.ranks import Ranks
from v2l.training.schedule import steps_on
from v2l.training.stopped_run import require_changes
from v2l.training.tokenizer_loop import train
from v2l.training.trainer import Trainer
from v2l.training.training_images import TrainingImages
from v2l.training.window import Window


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """inputs manifest, features, codebook, vocabulary; job tokenizer, work, logs -> weights, words, metrics.

    Words: `token_table.WORDS_SCHEMA`, the texts of the codes that a language model reads. Metrics: a JSON line every
    `log_every` steps and at the end of each epoch. Checkpoints stand in a folder of `job.work` named by the hash of
    configuration and inputs, so that a changed run never continues an old one; the folder goes when the weights are
    written. Sample grids and what the machine setting `tracking`
    asks for (`v2l.training.trackers`) stand in `job.logs`. Raises UserError for a split without images,
    inputs that do not fit together, a batch larger than the data or not divisible by the ranks, a loss that is not
    finite, and (`train_tokenizer.guard`) a codebook or a discriminator that has collapsed.

    A tokenizer with a `checkpoint` is imported instead: inputs vocabulary, and codebook if its words are needed; one
    with `weights` too: inputs vocabulary and embedding. Input start_from: the file that training starts with, if any;
    decoded: the images as stage decode_images has them, if they are not to be decoded here.
    """
    entry = config.tokenizers[config.job["tokenizer"]]
    if is_imported(entry):
        name, settings = config.job["tokenizer"], config.train_tokenizer
        if has_checkpoint(entry):
            imported = import_tokenizer(name, entry, settings, inputs)
        else:
            imported = import_weights(name, entry, settings, inputs)
        record = provenance(config, inputs.with_files(imported_files(entry)))
        write(outputs, imported, record, inputs)
        return
    ranks = Ranks.connect()
    with run_folder(config, provenance(config, inputs)) as folder:
        tokenizer, log, training = trained(config, inputs, folder, ranks)
        if ranks.first:
            words = tokenizer_class(entry.method).words(
                entry, read_tensors(inputs["codebook"])[0], read_parquet(inputs["vocabulary"])
            )
            record = provenance(config, inputs.with_files(imported_files(entry)))
            write(outputs, FinishedTokenizer(tokenizer, words, log.text, training), record, inputs)
            shutil.rmtree(folder, ignore_errors=True)
    ranks.close()


def write(outputs: Outputs, finished: FinishedTokenizer, record: dict, inputs: Inputs) -> None:
    """All outputs of the stage."""
    tokenizer, words, metrics, training = finished
    codes = inputs.get("embedding") or inputs.get("codebook")
    encoder = tensor_metadata(codes).get("encoder") if codes else None
    metadata = weights_metadata(tokenizer, words, inputs["vocabulary"], encoder, training)
    tokenizer.save(outputs["weights"], record, metadata)
    write_words(outputs["words"], words, record, parquet_metadata(inputs["vocabulary"])["vocabulary"])
    with atomic_path(outputs["metrics"]) as temporary:
        temporary.write_text(metrics)
    write_beside(outputs["metrics"], record)


def write_words(path: Path, words: CodeWords, record: dict, vocabulary: dict) -> None:
    """The texts of a tokenizer's codes; metadata `vocabulary` names the language model whose words they are."""
    table = pa.table([range(len(words.texts)), *words], WORDS_SCHEMA)
    write_parquet(path, table, record, {"vocabulary": vocabulary})


def trained(
    config: StageConfig, inputs: Inputs, folder: Path, ranks: Ranks
) -> tuple[VisionTokenizer, TrainingLog, dict]:
    """The tokenizer after all steps, of which `folder` may hold a checkpoint, its log, and how it was trained."""
    name, section = config.job["tokenizer"], config.train_tokenizer
    require_changes(folder, section.guard)
    entry = config.tokenizers[name]
    manifest = Manifest.read(inputs["manifest"])
    rows = training_rows(manifest, section, ranks)
    feature_ND, codebook = training_inputs(manifest, inputs)
    steps = steps_on(section, len(rows))

    torch.manual_seed(int(rng(config.seed, "train_tokenizer").integers(2**63)))
    tokenizer = tokenizer_class(entry.method).create(name, entry, section, codebook)
    started_from = [start_from(tokenizer, entry, path, inputs) for path in imported_files(entry).get("start_from", [])]
    tokenizer.to(device())
    tokenizer.require_subwords(parquet_metadata(inputs["vocabulary"])["vocabulary"]["subwords"])
    discriminator = Discriminator(section.network).to(device()) if section.loss.adversarial else None
    perceptual = None
    if section.loss.perceptual:
        network = load_lpips("vgg", Path(section.loss.perceptual_weights))
        perceptual = PerceptualLoss(network, section.loss.perceptual_dropout).to(device())
    if section.compile:
        keep_compiled(Path(config.job["work"]) / "compiled")
    trainer = Trainer(section, tokenizer, discriminator, perceptual, steps, ranks, matches=not started_from)
    copy = inputs.get("decoded")
    images = TrainingImages(manifest, rows, tokenizer.geometry, section.augmentation, config.seed, copy)
    tracking = config.machine.get("tracking", "")
    log = TrainingLog(folder, Path(config.job["logs"]), Window(tokenizer.local_size), steps, ranks.first, tracking)
    started = time.monotonic()
    train(trainer, images, feature_ND[rows], config.seed, folder, log)
    logging.info(
        "%s: %d steps on %d images in %.0f s; last line %s",
        *(name, steps, len(rows), time.monotonic() - started, log.lines[-1]),
    )
    training = {"seed": config.seed, "steps": steps, "images": steps * section.global_batch_size}
    return trainer.result, log, training | ({"start_from": started_from[0]} if started_from else {})


def training_rows(manifest: Manifest, section: TrainTokenizer, ranks: Ranks) -> np.ndarray:
    """Rows of the training split, enough of them for a batch that the ranks can share."""
    rows = manifest.split_rows(section.splits, "train_tokenizer.splits")
    if section.global_batch_size > len(rows):
        raise UserError(
            f"train_tokenizer.global_batch_size is {section.global_batch_size}, with {len(rows)} training images",
            f"at most {len(rows)}",
            "lower it or train on more images",
        )
    if section.global_batch_size % ranks.size:
        raise UserError(
            f"train_tokenizer.global_batch_size is {section.global_batch_size}, with {ranks.size} ranks",
            "a multiple of the ranks",
            "train on another number of ranks, or change the batch",
        )
    return rows


def training_inputs(manifest: Manifest, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """Image features and codebooks, once they are known to fit the manifest and each other."""
    feature_ND = load_features(inputs["features"], manifest)
    codebook = read_tensors(inputs["codebook"])[0]
    widths = {"features": feature_ND.shape[1]} | {key: codebook[key].shape[1] for key in ("local_VD", "global_VD")}
    if len(set(widths.values())) > 1:
        raise UserError(
            f"{inputs['features']} and {inputs['codebook']} differ in width ({widths})",
            "features and codebooks of one encoder",
            "run embed_vocabulary, embed_images and filter_vocabulary again with the same `encoder`",
        )
    return feature_ND.float(), codebook


if __name__ == "__main__":
    run_stage(run)
