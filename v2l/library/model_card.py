"""The model card of a pretrained folder, from what its weights say of themselves."""

from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.io.provenance import KEY
from v2l.library.pretrained_folder import PretrainedSettings

MEANING = {
    "global": "Global codes stand for words of a language model.",
    "local": "Local codes stand for words of a language model.",
    None: "Its codes stand for no words.",
}


def model_card(settings: PretrainedSettings, metadata: dict[str, Any]) -> ModelCard:
    """The card of a tokenizer with these settings; `metadata` are those of its weights file."""
    described = settings.tokenizer
    method = described["method"]
    data = ModelCardData(library_name="v2l", tags=["image-tokenizer", "v2l", method])
    return ModelCard.from_template(
        data,
        template_str=files("v2l.library").joinpath("model_card.md").read_text(encoding="utf-8"),
        **{key: described[key] for key in ("geometry", "codebooks", "global_tokens", "note")},
        label=TOKENIZER_METHODS[method].labels[method],
        meaning=MEANING[described["worded_ids"]],
        fit=settings.fit,
        encoder=metadata["encoder"] if settings.encoder else None,
        made=made(metadata),
    )


def made(metadata: dict[str, Any]) -> dict[str, str]:
    """What is known of a training, by its name in the card."""
    record, training = metadata[KEY], metadata["training"]
    datasets = ", ".join(record.get("config", {}).get("datasets", {}))
    found = {
        "commit": record.get("commit"),
        "pictures": datasets,
        "language model": metadata["vocabulary"]["llm"],
        "encoder": metadata["encoder"],
        **{key: training.get(key) for key in ("seed", "steps", "images", "command", "machine", "hours")},
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}
