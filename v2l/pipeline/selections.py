"""Which tables, figures, runs and data sets an experiment has."""

from v2l.configuration.config import Config
from v2l.configuration.runs import Run
from v2l.figures.figures import FIGURES
from v2l.tables.tables import TABLES


def tables(config: Config) -> list[str]:
    """The tables of an experiment: those that have rows."""
    return [name for name, table in TABLES.items() if table.runs(config)]


def figures(config: Config) -> list[str]:
    """The figures of an experiment: those that have something to show."""
    return [name for name, figure in FIGURES.items() if figure.runs(config) or figure.trainings(config)]


def shown_runs(config: Config) -> list[Run]:
    """Every run that a table or a figure shows, once."""
    shown = [table.runs for table in TABLES.values()] + [figure.runs for figure in FIGURES.values()]
    return list(dict.fromkeys(run for runs in shown for run in runs(config)))


def used_datasets(config: Config) -> list[str]:
    """Data sets that the experiment's stages and samples select, each once."""
    names = {config.filter_vocabulary.dataset, config.train_tokenizer.dataset}
    return sorted(names | {sample.dataset for sample in config.samples.values()})
