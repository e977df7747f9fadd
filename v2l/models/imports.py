"""Published checkpoints as tokenizers: the authors' V2L and taming-transformers' VQ-GAN.

What is loaded is exactly the network's keys at the network's shapes, in float32; else nothing is.
"""

import json
import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from v2l.configuration.imported_weights import codebook_files, imported_files
from v2l.configuration.tokenizer_entries import CODEBOOK_FILES, V2LEntry, VQGANEntry
from v2l.configuration.tokenizer_training import Network, TrainTokenizer
from v2l.configuration.variants import merge
from v2l.errors import UserError, few
from v2l.io.job_files import Inputs
from v2l.io.pickles import read_checkpoint, read_tensor, read_texts
from v2l.io.state_dicts import is_state
from v2l.io.storage import hash_tensor, parquet_metadata, read_parquet, read_tensors
from v2l.models.convolutional import GLOBAL_TABLE, LOCAL_TABLE
from v2l.models.fitting import fitting, shape_text, shapes_of
from v2l.models.taming import taming_network
from v2l.models.v2l import V2LTokenizer
from v2l.models.vision_tokenizer import CodeWords, FinishedTokenizer
from v2l.models.vqgan import VQGANTokenizer

REMEDY = "set the network's size as the checkpoint's authors did (docs/import.md), or get the file again"
PUBLISHED_WIDTH = 768  # of the authors' codebooks: said of a key when none of the file's tables tells
# What a checkpoint may hold beside the network that encodes and decodes, and why it is left out.
LEFT_OUT = {
    "v2l": {
        "discriminator": "training only",
        "perceptual_loss": "training only",
        "global_encoder": "image features come from the experiment's `encoder`",
    },
    "vqgan": {"loss": "training only"},
}


def import_tokenizer(
    name: str, entry: V2LEntry | VQGANEntry, settings: TrainTokenizer, inputs: Inputs
) -> FinishedTokenizer:
    """The tokenizer of `entry.checkpoint`; inputs vocabulary, and codebook for `v2l` without `entry.codebooks`.

    Raises UserError, listing every wrong key, for a checkpoint that is not the network's, and for codebooks or words
    that are not the checkpoint's.
    """
    path = imported_files(entry)["checkpoint"][0]
    content = read_checkpoint(path)
    state, left_out = network_state(content, LEFT_OUT["vqgan" if isinstance(entry, VQGANEntry) else "v2l"], path)
    tokenizer: V2LTokenizer | VQGANTokenizer
    if isinstance(entry, VQGANEntry):
        tokenizer, words = import_vqgan(name, entry, state), CodeWords([], [])
    else:
        tokenizer = import_v2l(name, entry, settings, state)
        tokenizer.require_subwords(parquet_metadata(inputs["vocabulary"])["vocabulary"]["subwords"])
        words = imported_words(entry, tokenizer, inputs)
    logging.info("%s: imported %d tensors from %s", name, len(state), path)
    epoch = content.get("epoch")
    line = {
        "imported": str(path),
        "epoch": epoch if isinstance(epoch, int) else None,
        "tensors": len(state),
        "left_out": left_out,
        "network": tokenizer.network.model_dump(mode="json"),
    }
    return FinishedTokenizer(tokenizer.eval(), words, json.dumps(line) + "\n", {"epoch": line["epoch"]})


def import_v2l(name: str, entry: V2LEntry, settings: TrainTokenizer, state: dict[str, Tensor]) -> V2LTokenizer:
    """The network of `settings` with both codebooks of the checkpoint, and without residual as released."""
    network = settings.network.model_copy(update={"cross_attention_residual": False})
    has_global = entry.method == "v2l"
    if has_global:
        logging.info("%s: the cross-attention has no residual, as in the released network", name)
    width = _width(state)
    table = torch.zeros(1, width)
    with torch.device("meta"):
        shapes = shapes_of(
            V2LTokenizer(name, entry.method, network, settings.global_tokens, table, table if has_global else None)
        )
    tables = {key: (None, width) for key in (LOCAL_TABLE, GLOBAL_TABLE) if key in shapes}
    state = fitting(state, shapes | tables, entry.checkpoint, REMEDY)
    codebooks = state[LOCAL_TABLE], state.get(GLOBAL_TABLE)
    tokenizer = V2LTokenizer(name, entry.method, network, settings.global_tokens, *codebooks)
    tokenizer.load_state_dict(state)
    return tokenizer


def import_vqgan(name: str, entry: VQGANEntry, state: dict[str, Tensor]) -> VQGANTokenizer:
    """The network of `entry.checkpoint_config`; keys of `network` that the entry itself sets go before."""
    values = taming_network(imported_files(entry)["checkpoint_config"][0])
    network = Network.model_validate(merge(values, entry.train_tokenizer.get("network", {})))
    with torch.device("meta"):
        shapes = shapes_of(VQGANTokenizer(name, network))
    state = fitting(state, shapes, entry.checkpoint, REMEDY)
    tokenizer = VQGANTokenizer(name, network)
    tokenizer.load_state_dict(state)
    return tokenizer


def network_state(content: dict, left_out: dict[str, str], path: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The weights of a checkpoint without the parts `left_out`, of which the numbers of tensors are given.

    The prefix of data-parallel training (`module.`) goes if every key has it.
    """
    state = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), None)
    if not state or not all(isinstance(key, str) for key in state):
        raise UserError(
            f"{path} has no weights; its entries: {', '.join(map(str, content)) or 'none'}",
            "a dict with `model` or `state_dict`, in which names stand for tensors",
            "name the checkpoint as its authors published it",
        )
    if len(sets := [str(key) for key, value in content.items() if is_state(value)]) > 1:
        raise UserError(
            f"{path} has {len(sets)} sets of weights: {few(sets)}",
            "one network's weights",
            "save the one that is meant in a file of its own",
        )
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    parts = Counter(part for key in state if (part := key.split(".", 1)[0]) in left_out)
    for part, number in sorted(parts.items()):
        logging.info("left out: %d tensors of %s.* (%s)", number, part, left_out[part])
    return {key: value for key, value in state.items() if key.split(".", 1)[0] not in left_out}, dict(parts)


def imported_words(entry: V2LEntry, tokenizer: V2LTokenizer, inputs: Inputs) -> CodeWords:
    """What the global codes stand for, once the codebooks are known to be the checkpoint's."""
    if entry.codebooks:
        return _published_words(entry, tokenizer, read_parquet(inputs["vocabulary"], columns=["text"]))
    global_VD = tokenizer.codebooks[1]
    if global_VD is None:
        return CodeWords([], [])
    codebook = read_tensors(inputs["codebook"])[0]
    if hash_tensor(codebook["global_VD"]) != hash_tensor(global_VD):
        raise UserError(
            f"the global codebook of {entry.checkpoint}, {shape_text(global_VD.shape)}, is not that of "
            f"{inputs['codebook']}, {shape_text(codebook['global_VD'].shape)}, so its codes' words are not known",
            "one codebook",
            f"set `tokenizers.{tokenizer.name}.codebooks` to the folder with {', '.join(CODEBOOK_FILES)}",
        )
    return V2LTokenizer.words(entry, codebook, read_parquet(inputs["vocabulary"]))


def _published_words(entry: V2LEntry, tokenizer: V2LTokenizer, vocabulary: pa.Table) -> CodeWords:
    paths = codebook_files(entry)
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise UserError(f"these do not exist: {', '.join(absent)}", "the authors' codebooks", "put them there")
    local_VD, global_VD = tokenizer.codebooks
    tables = {LOCAL_TABLE: local_VD} | ({} if global_VD is None else {GLOBAL_TABLE: global_VD})
    for path, (key, table_VD) in zip(paths, tables.items(), strict=False):
        found_VD = read_tensor(path)
        if not torch.equal(found_VD.float(), table_VD):
            raise UserError(
                f"{path}, {shape_text(found_VD.shape)}, does not equal `{key}` of {entry.checkpoint}, "
                f"{shape_text(table_VD.shape)}",
                "the codebooks that the checkpoint was trained with",
                f"name their folder in `tokenizers.{tokenizer.name}.codebooks`",
            )
    if global_VD is None:
        return CodeWords([], [])
    texts, codes = read_texts(paths[2]), len(global_VD)
    if len(texts) != codes:
        raise UserError(
            f"{paths[2]} has {len(texts)} words, the global codebook {codes} codes",
            "one word for each code",
            "take all codebook files from one place",
        )
    return CodeWords.of_texts(texts, vocabulary)


def _width(state: dict[str, Tensor]) -> int:
    """Width of the codes: as the first of the keys that hold it tells."""
    for key, axis in ((LOCAL_TABLE, 1), (GLOBAL_TABLE, 1), ("codebook_projection.weight", 0)):
        if isinstance(tensor := state.get(key), Tensor) and tensor.ndim == 2:
            return tensor.shape[axis]
    return PUBLISHED_WIDTH
