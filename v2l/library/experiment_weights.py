"""A tokenizer of an experiment of this repository, as `V2LTokenizer` holds it."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from v2l.configuration.config import Config
from v2l.configuration.experiment import load_experiment
from v2l.configuration.imported_weights import has_checkpoint, how_to_make
from v2l.configuration.variants import variant_settings
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.provenance import KEY
from v2l.io.storage import parquet_metadata, read_parquet, write_parquet, write_tensors
from v2l.library.code_vocabulary import CodeVocabulary
from v2l.library.pretrained_folder import PretrainedSettings, encoder_files, network_of
from v2l.llm.tokenizer_files import load_tokenizer
from v2l.llm.vocabulary import Vocabulary
from v2l.models.own_weights import import_weights
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.models.weights_file import read_weights_file
from v2l.runtime import device

Held = tuple[VisionTokenizer, PretrainedSettings, CodeVocabulary, dict[str, Any]]


def of_experiment(name: str, experiment: str) -> Held:
    """Network, settings, vocabulary and the metadata of the weights of `tokenizers.<name>`.

    Raises UserError for an unknown experiment or tokenizer, and if neither results nor `weights` are there.
    """
    config = load_experiment({"experiment": experiment})
    entry = config.tokenizers.get(name)
    if entry is None:
        known = ", ".join(config.tokenizers)
        raise UserError(f"experiment {experiment} has no tokenizer {name!r}", f"one of {known}", "name one of them")
    results = Path("results", experiment)
    made = results / "train_tokenizer" / f"{name}.safetensors"
    if made.is_file():
        vocabulary = results / "expand_vocabulary" / "vocabulary.parquet"
        file = read_weights_file(made)
        words = read_parquet(made.with_name(f"{name}.words.parquet"), columns=["text"])["text"].to_pylist()
        network, metadata = network_of(file), file.metadata
        return network, _settings(config, network), _vocabulary(network, words, vocabulary), metadata
    if entry.weights is None or has_checkpoint(entry):
        raise UserError(
            f"{made} is not there",
            "a tokenizer that the pipeline made, or `weights` in its entry",
            how_to_make(made),
        )
    with tempfile.TemporaryDirectory() as folder:
        inputs = _subwords(config, Path(folder))
        settings = variant_settings(config.train_tokenizer, entry)
        finished = import_weights(name, entry, settings, inputs)
        vocabulary_of = _vocabulary(finished.tokenizer, finished.words.texts, inputs["vocabulary"])
    file = read_weights_file(Path(entry.weights))
    own = {key: file.metadata[key] for key in ("vocabulary", "encoder", "words", KEY)}
    network = finished.tokenizer.requires_grad_(False)
    return network, _settings(config, network), vocabulary_of, own | {"training": finished.training}


def _subwords(config: Config, folder: Path) -> Inputs:
    """Vocabulary and embeddings of the language model's subwords alone, as an import reads them; in `folder`."""
    section = config.expand_vocabulary
    path = Path(config.llms[section.llm].path)
    if not path.exists():
        raise UserError(
            f"`llms.{section.llm}.path`: {path} does not exist",
            "the model's folder",
            f"run `snakemake fetch_assets --config experiment={config.experiment}`",
        )
    words = Vocabulary(load_tokenizer(path))
    pairs, said = words.chosen(section.llm, section.reserved, section.max_subwords)
    texts = [text for _, text in pairs]
    columns = {"kind": ["subword"] * len(pairs), "token_ids": [[number] for number, _ in pairs], "text": texts}
    write_parquet(folder / "vocabulary.parquet", pa.table(columns), {}, {"vocabulary": said})
    encoder = load_encoder(config.encoders[config.encoder], device())
    templates = prompt_templates(config.embed_vocabulary.templates)
    embedding_VD = embed_texts(encoder, texts, templates, config.embed_vocabulary.batch_size)
    write_tensors(folder / "embedding.safetensors", {"embedding_VD": embedding_VD}, {}, {"encoder": config.encoder})
    return Inputs({"vocabulary": folder / "vocabulary.parquet", "embedding": folder / "embedding.safetensors"})


def _settings(config: Config, network: VisionTokenizer) -> PretrainedSettings:
    encoder = config.encoders[config.encoder].model_dump(mode="json")
    absolute = {key: str(Path(path).resolve()) for key, path in encoder_files(encoder).items()}
    return PretrainedSettings(
        tokenizer=network.description,
        fit=config.datasets[config.train_tokenizer.dataset].fit,
        encoder=encoder | absolute if network.needs_features else None,
        templates=config.embed_vocabulary.templates,
    )


def _vocabulary(network: VisionTokenizer, words: list[str], path: Path) -> CodeVocabulary:
    """What the network's codes are called; `path` is the vocabulary of stage expand_vocabulary."""
    said = parquet_metadata(path)["vocabulary"]
    table = read_parquet(path, columns=["token_ids", "text"], filters=[("kind", "==", "subword")])
    shown = network.local_size if network.shown_as == "subword" else 0
    return CodeVocabulary(
        language_model={key: said[key] for key in ("llm", "size", "sha256")},
        words=words,
        subwords=table["text"].to_pylist()[:shown],
        subword_ids=[ids[0] for ids in table["token_ids"].to_pylist()][:shown],
    )
