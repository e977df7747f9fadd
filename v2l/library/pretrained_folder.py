"""A folder that holds one tokenizer, as Hugging Face libraries lay it out.

`config.json` (PretrainedSettings), `model.safetensors` (a whole weights file of stage train_tokenizer),
`vocabulary.json` (CodeVocabulary), `README.md` (model card) and, unless it is only named, the image-text encoder in
`encoder/`.
"""

import shutil
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from v2l.configuration.entry import USER_FILE, Entry
from v2l.configuration.model_entries import AnyEncoder, Encoder
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.library.code_vocabulary import CodeVocabulary
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.models.weights_file import WeightsFile, read_weights_file

CONFIG, WEIGHTS, VOCABULARY, ENCODER = "config.json", "model.safetensors", "vocabulary.json", "encoder"
EXPECTED = f"a folder that V2LTokenizer.save_pretrained wrote: {CONFIG} with `model_type` v2l_tokenizer, {WEIGHTS}, "
EXPECTED += VOCABULARY
AGAIN = "name such a folder, or make it anew: V2LTokenizer.from_experiment(...).save_pretrained(folder)"
T = TypeVar("T", bound=Entry)


class PretrainedSettings(Entry):
    """`config.json` of a pretrained folder."""

    model_type: Literal["v2l_tokenizer"] = "v2l_tokenizer"
    tokenizer: dict[str, Any] = Field(description="`VisionTokenizer.description` of the network.")
    fit: Literal["crop", "pad"] = Field(description="How pictures are made square, as in training.")
    encoder: dict[str, Any] | None = Field(
        description="Image-text encoder of the image features, as in `encoders` of an experiment; null: none is needed."
    )
    encoder_included: bool = Field(False, description="Whether the encoder's paths start in the folder.")
    templates: Literal["imagenet-80"] | list[str] = Field(description="Prompt templates of the words' embeddings.")


def read_settings(folder: Path) -> PretrainedSettings:
    """`config.json` of a folder, the encoder named by absolute paths. Raises UserError for a folder of another kind."""
    if not (folder / CONFIG).is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise UserError(f"{folder} has no {CONFIG} (it holds {held})", EXPECTED, AGAIN)
    data = _read_object(folder / CONFIG)
    if data.get("model_type") != "v2l_tokenizer":
        found = data.get("model_type", data.get("architectures", data.get("_class_name")))
        raise UserError(f"{folder} holds a model of another kind (`model_type` {found!r})", EXPECTED, AGAIN)
    settings = _validated(PretrainedSettings, data, folder / CONFIG)
    if settings.encoder and settings.encoder_included:
        paths = {key: str((folder / path).resolve()) for key, path in encoder_files(settings.encoder).items()}
        return settings.model_copy(update={"encoder": settings.encoder | paths, "encoder_included": False})
    return settings


def read_vocabulary(folder: Path) -> CodeVocabulary:
    """`vocabulary.json` of a folder. Raises UserError if it is missing or damaged."""
    return _validated(CodeVocabulary, _read_object(folder / VOCABULARY), folder / VOCABULARY)


def read_network(folder: Path, settings: PretrainedSettings) -> tuple[VisionTokenizer, WeightsFile]:
    """The network of a folder, frozen, and the file of its weights. Raises UserError if the two do not fit."""
    file = read_weights_file(folder / WEIGHTS)
    if "compact" in file.metadata or file.tokenizer != settings.tokenizer:
        what = "is a compact file" if "compact" in file.metadata else f"is of tokenizer {file.tokenizer['name']!r}"
        raise UserError(
            f"{folder / WEIGHTS} {what}, {CONFIG} describes tokenizer {settings.tokenizer.get('name')!r}",
            "the whole weights of the tokenizer that it describes",
            AGAIN,
        )
    return network_of(file), file


def network_of(file: WeightsFile) -> VisionTokenizer:
    """The network of a whole weights file, frozen, on the CPU. Raises UserError if its tensors are of another."""
    try:
        network = tokenizer_class(file.tokenizer["method"]).rebuild(file.tokenizer, file.tensors)
        network.load_state_dict(file.tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(
            f"{file.path} does not hold the network that it describes ({problem})", "its whole weights", AGAIN
        ) from None
    return network.eval().requires_grad_(False)


def write_json(path: Path, content: Entry) -> None:
    """Write `content` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(content.model_dump_json(indent=2) + "\n", encoding="utf-8")


def encoder_of(data: dict[str, Any]) -> Encoder:
    """The encoder of an entry as in `encoders` of an experiment. Raises UserError that names what is wrong."""
    adapter: TypeAdapter[Encoder] = TypeAdapter(AnyEncoder)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        problem = _problem(error)
        raise UserError(f"encoder: {problem}", "an entry as in `encoders` of an experiment", "mend it") from None


def encoder_files(data: dict[str, Any]) -> dict[str, str]:
    """Path by key, of the files and folders that the encoder of an entry is read from."""
    encoder = encoder_of(data)
    fields = type(encoder).model_fields
    paths = {key: getattr(encoder, key) for key, field in fields.items() if USER_FILE in field.metadata}
    model = str(getattr(encoder, "model", ""))
    return {key: path for key, path in paths.items() if path} | ({"model": model} if model.endswith(".json") else {})


def copy_encoder(folder: Path, settings: PretrainedSettings) -> None:
    """Copy the encoder's files into a folder and let its `config.json` name the copies.

    Raises UserError if one of them is not there.
    """
    if settings.encoder is None:
        return
    named = {}
    for key, path in encoder_files(settings.encoder).items():
        if not Path(path).exists():
            raise UserError(
                f"encoder key `{key}`: {path} does not exist",
                "the encoder's file",
                "run `snakemake fetch_assets`, or save with include_encoder=False, which names it alone",
            )
        named[key] = f"{ENCODER}/{key}{Path(path).suffix}"
        target = folder / named[key]
        if target.exists() and target.samefile(path):
            continue
        target.parent.mkdir(exist_ok=True)
        if Path(path).is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, target)
    update = {"encoder": settings.encoder | named, "encoder_included": True}
    write_json(folder / CONFIG, settings.model_copy(update=update))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        problem = _problem(error) if isinstance(error, ValidationError) else str(error.strerror)
        raise UserError(f"{path} cannot be read ({problem})", EXPECTED, AGAIN) from None


def _validated(kind: type[T], data: dict[str, Any], path: Path) -> T:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({_problem(error)})", EXPECTED, AGAIN) from None


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}" if key else str(first["msg"])
