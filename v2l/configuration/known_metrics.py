"""What a name in column `metric` stands for."""

from v2l.configuration.metrics import IMAGE_METRICS, SET_METRICS, TEXT_METRICS, Metric
from v2l.configuration.registry import Registry


def known_metrics() -> Registry[Metric]:
    """Every metric by name, those of extensions too."""
    return Registry("metric", TEXT_METRICS | SET_METRICS | dict(IMAGE_METRICS))


def metric(name: str) -> Metric:
    """The metric of a column. Raises UserError with the nearest known name."""
    return known_metrics()[name]
