"""Weights of earlier trainings, in place of a training (`weights`) or at its beginning (`start_from`).

What a file may leave out (a frozen table of subword embeddings, a frozen language model) comes from the experiment,
once it is known to be what the weights were trained with. A table of embeddings is computed anew on each machine and
differs there in its last bits, so its rows are compared by direction; everything else must be equal.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from v2l.configuration.entry import Entry
from v2l.configuration.tokenizer_entries import TokenizerEntry
from v2l.configuration.tokenizer_training import Network, TrainTokenizer
from v2l.errors import UserError, few
from v2l.io.job_files import Inputs
from v2l.io.storage import hash_tensor, read_parquet, read_tensors
from v2l.models.convolutional import GLOBAL_TABLE, LOCAL_TABLE
from v2l.models.fitting import fitting, shape_text, shapes_of
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.vision_tokenizer import CodeWords, FinishedTokenizer, VisionTokenizer
from v2l.models.weights_file import WeightsFile, probe_rows, read_weights_file, vocabulary_identity

SIMILAR = 0.999  # least cosine of the same text's embedding on two machines
REMEDY = "name a file of this network, or set the network as it was trained (docs/import.md)"
# Keys of a network and of an entry that decide nothing once it is trained, that tensors show, and a path.
NOT_COMPARED = {
    *("discriminator_layers", "discriminator_channels", "cross_attention_init"),
    *("learned_codebook_size", "learned_codebook_channels", "language_model"),
    *("mask_share", "semantic_layers", "similarity_temperature", "distance_temperature"),
}


def import_weights(name: str, entry: TokenizerEntry, settings: TrainTokenizer, inputs: Inputs) -> FinishedTokenizer:
    """The tokenizer of the file `entry.weights`; inputs vocabulary and embedding.

    Raises UserError for a file that is no such file or of another tokenizer, vocabulary or encoder, with both values.
    """
    file = read_weights_file(Path(entry.weights or ""))
    require_method(file, name, entry)
    embedded, said = read_tensors(inputs["embedding"])
    vocabulary = read_parquet(inputs["vocabulary"], columns=["text"])
    kind = tokenizer_class(entry.method)
    if kind.shown_as == "subword":
        require_vocabulary(file, inputs["vocabulary"])
    local_VD = embedded["embedding_VD"][: vocabulary_identity(inputs["vocabulary"])["subwords"]].clone()
    chosen_VD = _chosen_table(file, local_VD.shape[1])
    codebook = {"local_VD": local_VD, "global_VD": chosen_VD, "subword_global_VD": chosen_VD}
    tokenizer = kind.create(name, entry, settings, codebook)
    require_settings(file, tokenizer, entry, {"global_tokens": tokenizer.global_tokens})
    _load(tokenizer, file, said.get("encoder"), ())
    if kind.chosen_parts:
        words = CodeWords.of_texts(_words(file, tokenizer), vocabulary)
    else:
        words = kind.words(entry, codebook, vocabulary)
    logging.info("%s: imported %d tensors from %s", name, len(file.tensors), file.path)
    line = file.line() | {"tensors": len(file.tensors)}
    return FinishedTokenizer(tokenizer.eval(), words, json.dumps(line) + "\n", file.training)


def start_from(tokenizer: VisionTokenizer, entry: TokenizerEntry, path: Path, inputs: Inputs) -> dict:
    """Give an untrained tokenizer the weights of a file, but no codes that pictures chose; inputs vocabulary, codebook.

    Returns what is known of the training that made them. Raises UserError as `import_weights` does.
    """
    file = read_weights_file(path)
    require_method(file, tokenizer.name, entry)
    if tokenizer.shown_as == "subword":
        require_vocabulary(file, inputs["vocabulary"])
    require_settings(file, tokenizer, entry, {})
    _load(tokenizer, file, read_tensors(inputs["codebook"])[1].get("encoder"), tokenizer.chosen_parts)
    logging.info("%s: training starts with the weights of %s", tokenizer.name, path)
    return file.line()


def require_method(file: WeightsFile, name: str, entry: TokenizerEntry) -> None:
    """Raise UserError unless a file's tokenizer is of the entry's method."""
    if file.tokenizer["method"] != entry.method:
        raise UserError(
            f"{file.path} holds a tokenizer of method {file.tokenizer['method']}, `tokenizers.{name}` is of method "
            f"{entry.method}",
            "one method",
            "name another file, or change `method`",
        )


def require_vocabulary(file: WeightsFile, vocabulary: Path) -> None:
    """Raise UserError unless the subwords that a file's codes stand for are those of this experiment's vocabulary."""
    found, expected = file.metadata["vocabulary"], vocabulary_identity(vocabulary)
    if (found.get("subwords"), found.get("sha256")) != (expected["subwords"], expected["sha256"]):
        raise UserError(
            f"{file.path} writes in {found.get('subwords')} subwords of language model {found.get('llm')} "
            f"(SHA-256 {str(found.get('sha256'))[:12]})",
            f"the vocabulary of this experiment: {expected['subwords']} subwords of {expected['llm']} "
            f"(SHA-256 {expected['sha256'][:12]})",
            "set `expand_vocabulary` as it was for the file, or train here",
        )


def require_settings(file: WeightsFile, tokenizer: VisionTokenizer, entry: TokenizerEntry, more: dict) -> None:
    """Raise UserError that lists every setting in which a file's network is not this one.

    `more` are values of its description that must be the same too.
    """
    geometry = tokenizer.geometry.model_dump(mode="json")
    wanted = {"geometry": geometry, "build": tokenizer.build} | more
    held = {key: file.tokenizer.get(key) for key in wanted}
    kinds: dict[str, type[Entry]] = {"network": Network, "entry": type(entry)}
    try:
        build = {
            key: kinds[key].model_validate(value).model_dump(mode="json") if key in kinds else value
            for key, value in file.tokenizer["build"].items()
        }
    except (ValidationError, AttributeError) as error:
        raise UserError(
            f"{file.path} was written by another version: its network is not known here "
            f"({' '.join(str(error).split())[:200]})",
            "a network of this version",
            "train it again with this version",
        ) from None
    found, expected = dict(_leaves(held | {"build": build})), dict(_leaves(wanted))
    differing = [
        f"{key}: {found.get(key)} in the file, {expected.get(key)} here"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key) and key.removeprefix("build.network.") not in geometry
    ]
    if differing:
        listing = "\n  ".join(differing)
        raise UserError(
            f"{file.path} is of another network than `tokenizers.{tokenizer.name}`:\n  {listing}\n",
            "the network that was trained",
            "set `train_tokenizer.network` and the tokenizer's keys as they were, or name another file",
        )


def require_table(file: WeightsFile, table_VD: Tensor, encoder: str | None) -> None:
    """Raise UserError unless the rows that a file holds of its table of subwords are those of `table_VD`."""
    whole = file.tensors.get(LOCAL_TABLE)
    found_RD = file.probes.get(LOCAL_TABLE) if whole is None else whole
    rows_R = probe_rows(len(table_VD)) if whole is None else torch.arange(len(table_VD))
    wanted_RD = table_VD[rows_R]
    if found_RD is None or found_RD.shape != wanted_RD.shape:
        problem = (
            f"{shape_text(None if found_RD is None else found_RD.shape)} in place of {shape_text(wanted_RD.shape)}"
        )
    else:
        cosine_R = F.cosine_similarity(found_RD.float(), wanted_RD.float(), dim=1)
        if bool((cosine_R >= SIMILAR).all()):
            return
        worst = int(cosine_R.nan_to_num(-1).argmin())
        problem = f"subword {int(rows_R[worst])} has cosine {cosine_R[worst]:.4f}"
    raise UserError(
        f"{file.path} was trained with embeddings of encoder {file.metadata['encoder']}, this experiment has "
        f"others, of encoder {encoder} ({problem})",
        f"a cosine of at least {SIMILAR} in each row",
        "set `encoder` and `embed_vocabulary` as they were for the file, or train here",
    )


def require_equal(file: WeightsFile, supplied: dict[str, Tensor], name: str) -> None:
    """Raise UserError unless the frozen tensors that a file was trained with are the experiment's `supplied` ones."""
    held = {key: tensor for key, tensor in file.tensors.items() if key in supplied}
    found = file.left_out | {key: hash_tensor(tensor) for key, tensor in held.items()}
    differing = [key for key, tensor in supplied.items() if found.get(key) != hash_tensor(tensor)]
    if differing:
        raise UserError(
            f"{file.path} was trained with another language model than `tokenizers.{name}.language_model`: "
            f"{len(differing)} of {len(supplied)} tensors differ ({few(differing)})",
            f"the model that it was trained with, then at {_language_model(file)}",
            f"set `tokenizers.{name}.language_model` to it, or train here",
        )


def _load(tokenizer: VisionTokenizer, file: WeightsFile, encoder: str | None, kept: tuple[str, ...]) -> None:
    """Load a file's tensors; those of the experiment, checked, and those whose key begins as one of `kept` stay."""
    state, shapes = tokenizer.state_dict(), shapes_of(tokenizer)
    supplied = {key: tensor for key, tensor in state.items() if key.startswith(tokenizer.supplied_parts)}
    if (table_VD := supplied.pop(LOCAL_TABLE, None)) is not None:
        require_table(file, table_VD, encoder)
    require_equal(file, supplied, tokenizer.name)
    stays = (*tokenizer.supplied_parts, *kept)
    found = {key: tensor for key, tensor in file.tensors.items() if not key.startswith(stays)}
    expected = {key: shape for key, shape in shapes.items() if not key.startswith(stays)}
    integers = {key for key, tensor in state.items() if not tensor.is_floating_point()}
    tokenizer.load_state_dict(state | fitting(found, expected, file.path, REMEDY, integers))


def _chosen_table(file: WeightsFile, width: int) -> Tensor:
    """The file's global table; one row of zeros where it has none of this width, which `_load` then refuses."""
    found = file.tensors.get(GLOBAL_TABLE)
    return torch.zeros(1, width) if found is None or found.ndim != 2 or found.shape[1] != width else found.float()


def _words(file: WeightsFile, tokenizer: VisionTokenizer) -> list[str]:
    texts, shared_VD = file.metadata["words"], tokenizer.codebooks[1]
    codes = 0 if shared_VD is None else len(shared_VD)
    if len(texts) != codes:
        raise UserError(
            f"{file.path} has {len(texts)} words, its global codebook {codes} codes",
            "one word for each code",
            "get the file again",
        )
    return texts


def _language_model(file: WeightsFile) -> str:
    return str(file.tokenizer["build"].get("entry", {}).get("language_model"))


def _leaves(value: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of nested mappings, without those that are not compared."""
    for key, item in value.items():
        if key in NOT_COMPARED:
            continue
        if isinstance(item, dict):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
