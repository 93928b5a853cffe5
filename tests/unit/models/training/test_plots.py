"""Pictures are drawn without a screen."""

from pathlib import Path

import numpy as np

from movie_mlops.domain.versions import Interval
from movie_mlops.models.training.evaluation import EvaluationReport
from movie_mlops.models.training.plots import plot_algorithms


def test_pictures_of_two_algorithms(tmp_path: Path) -> None:
    figure = Interval(0.1, 0.08, 0.12)
    metrics = dict.fromkeys(("ndcg@10", "hit_rate@10", "recall@20", "mrr"), figure)
    beyond = {"coverage@10": 0.3, "popularity_bias@10": 1.5}
    report = EvaluationReport("test", 100, 50, metrics, beyond, {"ndcg@10": np.zeros(100)})
    curve = {count: Interval(0.01, 0.0, 0.02) for count in range(1, 21)}
    paths = plot_algorithms({"one": report, "two": report}, tmp_path / "plots", curve)
    assert [path.name for path in paths] == ["metrics.png", "beyond_accuracy.png", "newcomers.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert len(plot_algorithms({"one": report}, tmp_path / "plots")) == 2
