"""The language model that a job of evaluate_llm asks."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from v2l.io.storage import parquet_facts
from v2l.llm.loading import load_llm
from v2l.llm.vocabulary import Words
from v2l.runtime import device
from v2l.stage import Paths, StageConfig


def load_predictor(config: StageConfig, inputs: Paths) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Words]:
    """Model, tokenizer and words of `job.predictor`. Raises UserError unless the tokens are of its vocabulary."""
    name = config.job["predictor"]
    model, tokenizer = load_llm(name, config.llms[name], device())
    words = Words(tokenizer)
    for key in ("tokens", "vocabulary"):
        words.require(name, parquet_facts(inputs[key])["vocabulary"], inputs[key])
    return model, tokenizer, words
