"""What an experiment evaluates: runs, tables, figures, and what these are made of."""

from v2l.configuration.config import Config
from v2l.configuration.protocols import HELD_OUT, PAPER, run_name

TABLES = (
    *("table1_classification", "table2_semantics", "table3_reconstruction", "table4_restoration"),
    "table5_captioning_vqa",
)
FIGURES = ("global_tokens", "reconstruction", "restoration", "masked", "captioning_vqa")
TEXT_TASKS = ("captioning", "vqa")
WITHOUT_TOKENS = {("classification", "clip-prototype"), ("vqa", "majority-vote")}
WORDLESS = ("v2l-local", "vqgan")  # methods whose tokens stand for no words


def task_runs(config: Config, task: str) -> list[tuple[str, str]]:
    """(tokenizer, run) of every run of a task but restoration; only language models differ by protocol.

    A predictor that reads no tokens runs once.
    """
    section = getattr(config.evaluate_llm, task)
    protocols = section.protocols if task == "classification" else [PAPER]
    names = [run_name(llm, protocol) for protocol in protocols for llm in section.llms]
    runs = [(tokenizer, name) for tokenizer in section.tokenizers for name in names]
    for baseline in section.baselines:
        tokenizers = section.tokenizers[:1] if (task, baseline) in WITHOUT_TOKENS else section.tokenizers
        runs += [(tokenizer, baseline) for tokenizer in tokenizers]
    return runs


def restorations(config: Config, predictors: list[str] | None = None) -> list[tuple[str, str]]:
    """(tokenizer, run) of every restoration, or of those by `predictors`: each protocol of each tokenizer."""
    section = config.evaluate_llm.restoration
    predictors = [*section.llms, *section.baselines] if predictors is None else predictors
    return [
        (tokenizer, run_name(name, protocol))
        for protocol in section.protocols
        for tokenizer in section.tokenizers
        for name in predictors
        if protocol != HELD_OUT or tokenizer in (section.held_out.tokenizers or section.tokenizers)
    ]


def masked_sources(config: Config, tokenizer: str) -> list[str]:
    """`<tokenizer>/<source>` of a tokenizer's images in masked restoration, in the order of figure 8."""
    predictors = [name for of, name in task_runs(config, "masked") if of == tokenizer]
    return [f"{tokenizer}/masked.{name}" for name in ("corrupted-input", *predictors, "tokenizer-oracle")]


def reconstructed(config: Config) -> list[str]:
    """Tokenizers of table 3; v2l-subword differs from v2l in its words alone and stands in tables 1 and 2."""
    return [name for name in config.train_tokenizer.tokenizers if config.tokenizers[name].method != "v2l-subword"]


def tables(config: Config) -> list[str]:
    """The tables of an experiment: table 5 only if it answers in text."""
    return [table for table in TABLES if score_sources(config, table)]


def figures(config: Config) -> list[str]:
    """The figures of an experiment: masked restoration and answers in text only if there are some."""
    shown = {"masked": config.evaluate_llm.masked.tokenizers, "captioning_vqa": shown_answers(config)}
    return [figure for figure in FIGURES if shown.get(figure, True)]


def score_sources(config: Config, table: str) -> list[str]:
    """`<tokenizer>/<source>` of every score that a table is made of."""
    trained = config.train_tokenizer.tokenizers
    if table == "table1_classification":
        return [f"{tokenizer}/classification.{name}" for tokenizer, name in task_runs(config, "classification")]
    if table == "table2_semantics":
        return [f"{name}/semantics" for name in trained if config.tokenizers[name].method not in WORDLESS]
    if table == "table3_reconstruction":
        return [f"{name}/reconstruction" for name in reconstructed(config)] + ["pixels/mean-image"]
    if table == "table5_captioning_vqa":
        return [f"{tokenizer}/{task}.{name}" for task in TEXT_TASKS for tokenizer, name in task_runs(config, task)]
    masked = [source for name in config.evaluate_llm.masked.tokenizers for source in masked_sources(config, name)]
    runs = [*restorations(config), *restorations(config, ["tokenizer-oracle"])]
    return [*(f"{tokenizer}/restoration.{name}" for tokenizer, name in runs), "pixels/corrupted-input", *masked]


def used_datasets(config: Config) -> list[str]:
    """Data sets that the experiment's stages and samples select, each once."""
    names = {config.filter_vocabulary.dataset, config.train_tokenizer.dataset}
    return sorted(names | {sample.dataset for sample in config.samples.values()})


def shown_sources(config: Config) -> dict[str, list[str]]:
    """`<tokenizer>/<source>` of the images in each figure; restorations by the first tokenizer and protocol."""
    section = config.evaluate_llm.restoration
    shown, protocol = section.tokenizers[0], section.protocols[0]
    predictors = [*section.llms, *section.baselines, "tokenizer-oracle"]
    restored = [f"{shown}/restoration.{run_name(name, protocol)}" for name in predictors]
    return {
        "reconstruction": [f"{name}/reconstruction" for name in reconstructed(config)],
        "restoration": ["pixels/corrupted-input", *restored],
        "masked": [
            source for name in config.evaluate_llm.masked.tokenizers[:1] for source in masked_sources(config, name)
        ],
    }


def shown_answers(config: Config) -> list[tuple[str, str]]:
    """(data set, `<tokenizer>/<predictor>/<task>`) of the answers that a figure shows: the first of each task."""
    runs = [(task, *task_runs(config, task)[:1]) for task in TEXT_TASKS]
    return [(config.samples[task].dataset, "/".join([*run[0], task])) for task, *run in runs if run]
