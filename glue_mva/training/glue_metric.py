"""The GLUE metric as an `evaluate.Metric`, inside the package: `evaluate.load("glue")` would need the Hub."""

import datasets
import evaluate
import numpy as np

from glue_mva.tasks import get_task
from glue_mva.training import metrics


class GlueMetric(evaluate.Metric):
    """`evaluate.Metric` of one task: `GlueMetric("mrpc").compute(predictions=..., references=...)`.

    Predictions are class numbers, or predicted targets of a regression; results are fractions, as in the official
    metric.
    """

    def __init__(self, task: str) -> None:
        self.task = get_task(task)
        super().__init__(config_name=self.task.name, keep_in_memory=True)

    def _build_data_dir(self) -> str:
        """The folder for predictions, which evaluate would make; here they stay in memory."""
        return ""

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float32" if self.task.is_regression else "int64")
        return evaluate.MetricInfo(
            description=f"Metrics of the GLUE task {self.task.title}: {', '.join(self.task.metrics)}.",
            citation="Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform.",
            features=datasets.Features({"predictions": kind, "references": kind}),
        )

    def from_outputs(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics of a model's outputs: logits (rows, classes), or predicted targets (rows,). Not a number where any
        output is not finite, so that a diverged model never wins."""
        if not np.isfinite(outputs).all():
            return dict.fromkeys(self.task.metrics, float("nan"))
        return self.compute(predictions=metrics.to_predictions(self.task, outputs), references=labels) or {}

    def _compute(self, *, predictions, references):
        return metrics.compute(self.task, predictions, references)
