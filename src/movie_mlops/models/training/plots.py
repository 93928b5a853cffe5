"""Pictures of an evaluation, saved beside its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.versions import Interval
from movie_mlops.models.algorithms.base import RatingPredictions
from movie_mlops.models.training.evaluation import EvaluationReport

_METRICS = ("ndcg@10", "hit_rate@10", "recall@20", "mrr")
_INK = "#1f4e79"


def plot_algorithms(
    reports: Mapping[str, EvaluationReport], folder: Path, newcomers: Mapping[int, Interval] = {}
) -> tuple[Path, ...]:
    """Write `metrics.png`, `beyond_accuracy.png` and, when given, `newcomers.png`; return them.

    The first shows each figure with its 95 % interval, algorithm by algorithm; the second how
    much of the catalogue is shown and how popular it is; the third the gain over popularity for
    histories of 1, 2, ... films.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_plot_metrics(reports, folder), _plot_beyond(reports, folder)]
    if newcomers:
        paths.append(_plot_newcomers(newcomers, folder))
    return tuple(paths)


def _figure(columns: int) -> tuple[Any, Sequence[Any]]:
    # matplotlib takes half a second and draws only here; Agg needs no screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4 * columns, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _plot_metrics(reports: Mapping[str, EvaluationReport], folder: Path) -> Path:
    figure, axes = _figure(len(_METRICS))
    names = list(reports)
    for axis, metric in zip(axes, _METRICS, strict=True):
        figures = [reports[name].metrics[metric] for name in names]
        values = [figure.value for figure in figures]
        below = [max(figure.value - figure.low, 0) for figure in figures]
        above = [max(figure.high - figure.value, 0) for figure in figures]
        axis.barh(names, values, xerr=[below, above], color=_INK, ecolor="#999999", capsize=3)
        axis.set_title(metric)
        axis.invert_yaxis()
        if axis is not axes[0]:
            axis.set_yticklabels([])
    users = next(iter(reports.values())).users if reports else 0
    figure.suptitle(f"{users:,} people, full ranking, 95 % intervals")
    return _save(figure, folder / "metrics.png")


def _plot_beyond(reports: Mapping[str, EvaluationReport], folder: Path) -> Path:
    figure, axes = _figure(1)
    for name, found in reports.items():
        beyond = found.beyond
        place = (beyond.get("coverage@10", 0), beyond.get("popularity_bias@10", 0))
        axes[0].scatter(*place, color=_INK)
        axes[0].annotate(name, place, xytext=(4, 4), textcoords="offset points")
    axes[0].set_xlabel("share of the catalogue shown")
    axes[0].set_ylabel("popularity of what is shown")
    axes[0].margins(0.3)
    return _save(figure, folder / "beyond_accuracy.png")


def _plot_newcomers(newcomers: Mapping[int, Interval], folder: Path) -> Path:
    figure, axes = _figure(1)
    clicks = sorted(newcomers)
    axes[0].fill_between(
        clicks,
        [newcomers[count].low for count in clicks],
        [newcomers[count].high for count in clicks],
        color=_INK,
        alpha=0.2,
    )
    axes[0].plot(clicks, [newcomers[count].value for count in clicks], color=_INK)
    axes[0].axhline(0, color="#999999", linewidth=1)
    axes[0].set_xlabel("films watched so far")
    axes[0].set_ylabel("NDCG@10 minus popularity's")
    return _save(figure, folder / "newcomers.png")


def plot_rating(
    predictions: RatingPredictions,
    ratings: NDArray[np.float64],
    segments: Sequence[Mapping[str, Any]],
    folder: Path,
) -> Path:
    """Predicted against real ratings, how wide and how right the intervals are, and where."""
    figure, (left, middle, right) = _figure(3)
    left.hexbin(predictions.rating, ratings, gridsize=40, mincnt=1, cmap="viridis", bins="log")
    left.plot([1, 10], [1, 10], linewidth=1, color="black")
    left.set(title="Held-out films", xlabel="predicted rating", ylabel="real rating")
    order = np.argsort(predictions.high - predictions.low)
    groups = np.array_split(order, 10)
    covered = (ratings >= predictions.low) & (ratings <= predictions.high)
    widths = [(predictions.high - predictions.low)[group].mean() for group in groups]
    middle.plot(widths, [covered[group].mean() for group in groups], marker="o")
    middle.set(title="Coverage by width of interval", xlabel="mean width", ylabel="covered")
    middle.set_ylim(0.5, 1.0)
    names = [str(one["segment"]) for one in segments]
    right.barh(names, [one["covered"] for one in segments], color=_INK)
    right.axvline(covered.mean(), color="#999999", linewidth=1)
    right.set(title="Coverage by segment", xlabel="covered", xlim=(0.5, 1.0))
    right.invert_yaxis()
    folder.mkdir(parents=True, exist_ok=True)
    return _save(figure, folder / "rating.png")
