"""Sizes that several stages need: pictures, vocabulary, codebooks, networks of an experiment."""

from functools import cached_property
from pathlib import Path

from v2l.configuration.config import Config
from v2l.configuration.imported_weights import is_imported
from v2l.configuration.runs import Run
from v2l.configuration.variants import variant_settings
from v2l.encoders.prompt_templates import PromptTemplate, prompt_templates
from v2l.io.storage import parquet_metadata, tensor_metadata
from v2l.io.yaml_files import read_mapping
from v2l.pipeline.selections import shown_runs
from v2l.plan.dataset_sizes import DatasetSize, dataset_size, sample_images
from v2l.plan.frozen_costs import EncoderCosts
from v2l.plan.language_models import LanguageModelShape
from v2l.plan.prompt_costs import PromptCosts
from v2l.plan.tokenizer_costs import CodebookSizes, TokenizerCosts, untrained

PAPER_CODEBOOK = 11_908  # entries of the released global codebook


class ExperimentSizes:
    """An experiment's configuration with everything that its plan counts, computed once."""

    def __init__(self, config: Config, root: Path = Path()):
        self.config, self.root = config, root
        self.results = root / "results" / config.experiment
        self._tokenizers: dict[str, TokenizerCosts] = {}
        self._prompts: dict[str, PromptCosts] = {}

    @cached_property
    def runs(self) -> list[Run]:
        """Everything that tables and figures show, each once."""
        return shown_runs(self.config)

    def dataset(self, name: str) -> DatasetSize:
        """Pictures of a data set."""
        return dataset_size(self.config, name, self.results)

    def sample(self, name: str) -> int:
        """Pictures of a sample, in one corruption."""
        return sample_images(self.config, name, self.results)

    @cached_property
    def subwords(self) -> int:
        """Subwords of the vocabulary; all ids of the model where it is not expanded yet."""
        section, made = self.config.expand_vocabulary, self.results / "expand_vocabulary" / "vocabulary.parquet"
        if made.exists():
            return parquet_metadata(made)["vocabulary"]["subwords"]
        there = self.llm(section.llm).vocabulary
        return min(section.max_subwords or there, there)

    @cached_property
    def codebooks(self) -> CodebookSizes:
        """Sizes of the codebooks; the released one's where they are not filtered yet."""
        made = self.results / "filter_vocabulary" / "codebook.safetensors"
        shared = min(PAPER_CODEBOOK, 3 * self.subwords)
        if made.exists():
            shared = tensor_metadata(made)["codebooks"]["global_size"]
        return CodebookSizes(self.subwords, shared, self.encoder.width)

    @cached_property
    def templates(self) -> list[PromptTemplate]:
        """The prompt templates of an entry."""
        return prompt_templates(self.config.embed_vocabulary.templates)

    @cached_property
    def encoder(self) -> EncoderCosts:
        """The image-text encoder."""
        return EncoderCosts(self.config.encoders[self.config.encoder])

    def llm(self, name: str) -> LanguageModelShape:
        """A language model of the registry."""
        return LanguageModelShape.of(name, self.config.llms[name])

    def prompts(self, llm: str) -> PromptCosts:
        """Prompts for a language model."""
        return self._prompts.setdefault(llm, PromptCosts(self.config, self.config.llms[llm]))

    def tokenizer(self, name: str) -> TokenizerCosts:
        """A tokenizer's network."""
        if name not in self._tokenizers:
            entry = self.config.tokenizers[name]
            settings = variant_settings(self.config.train_tokenizer, entry)
            network = untrained(name, entry, settings, self.codebooks)
            self._tokenizers[name] = TokenizerCosts(network, settings, self.encoder.width)
        return self._tokenizers[name]

    @cached_property
    def used_tokenizers(self) -> list[str]:
        """Tokenizers that are trained, imported or shown."""
        named = [*self.config.train_tokenizer.tokenizers, *(run.tokenizer for run in self.runs)]
        return [name for name in dict.fromkeys(named) if name in self.config.tokenizers]

    def is_trained(self, name: str) -> bool:
        """Whether this experiment trains the tokenizer."""
        return not is_imported(self.config.tokenizers[name])

    def asset_bytes(self) -> dict[str, int]:
        """Downloads of the experiment with their sizes."""
        known = read_mapping(self.root / "config" / "assets.lock", "a mapping of asset names to entries")
        return {name: known[name].get("size", 0) for name in self.config.fetch_assets.assets if name in known}
