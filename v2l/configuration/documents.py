"""Files that are made from the configuration classes: the JSON schema and the readable defaults.

`python -m v2l.configuration.documents` writes config/schema.json and config/defaults.yaml; a test keeps them in step.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from v2l.configuration.config import Config
from v2l.configuration.dataset_entries import DATASET_KINDS
from v2l.configuration.defaults_document import defaults_text
from v2l.configuration.deviations import deviations
from v2l.configuration.model_entries import ENCODER_KINDS
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS

SCHEMA, DEFAULTS = Path("config/schema.json"), Path("config/defaults.yaml")


def schema() -> dict[str, Any]:
    """The JSON schema of `Config`, with every class of registry entries that is known now."""
    entries = [*DATASET_KINDS.values(), *ENCODER_KINDS.values(), *TOKENIZER_METHODS.values()]
    classes: list[type[BaseModel]] = [Config, *dict.fromkeys(entries)]
    definitions = models_json_schema([(found, "validation") for found in classes])[1]["$defs"]
    return definitions.pop("Config") | {"$defs": definitions}


def schema_text() -> str:
    """The text of config/schema.json: descriptions also say what the paper and the released code have."""
    whole = schema()
    for key, said in deviations().items():
        *sections, last = key.split(".")
        model: Any = Config
        for section in sections:
            model = model.model_fields[section].annotation
        node = (whole if model is Config else whole["$defs"][model.__name__])["properties"][last]
        sentences = [f"{who}: {text}." for who, text in said.items()]
        node["description"] = " ".join([node.get("description", ""), *sentences]).strip()
    return json.dumps(whole, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    DEFAULTS.write_text(defaults_text())
