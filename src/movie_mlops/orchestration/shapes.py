"""The shape of every pipeline: steps in order and schedule. Imports nothing of the house."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """One pipeline as data; `every_hours` is None where nothing schedules it.

    `then` is the pipeline that follows in the same process when this one succeeded.
    """

    name: str
    description: str
    steps: tuple[str, ...]
    every_hours: float | None = None
    then: str | None = None


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "data_collection",
            "Fetch the source, check and store its tables, simulate people, take a snapshot.",
            ("collect", "process", "simulate", "snapshot"),
        ),
        Shape(
            "feature_engineering",
            "Build the feature views and bring them into the online store.",
            ("build_features", "materialize_features"),
            every_hours=24,
        ),
        Shape(
            "training",
            "Fit, evaluate and register the recommender.",
            (
                "prepare_training_data",
                "train_movie_model",
                "evaluate_trained_model",
                "register_model_to_mlflow",
            ),
            every_hours=24,
            then="rollout",
        ),
        Shape(
            "neural_training",
            "Fit, evaluate and register the network of the PyTorch API; needs the extra `torch`.",
            (
                "prepare_training_data",
                "train_movie_model",
                "evaluate_trained_model",
                "register_model_to_mlflow",
            ),
            then="rollout",
        ),
        Shape(
            "rating_training",
            "Fit, evaluate and register the rating predictor.",
            (
                "prepare_rating_data",
                "train_rating_model",
                "evaluate_rating_model",
                "register_rating_model",
            ),
            every_hours=24,
            then="rollout",
        ),
        Shape(
            "drift_detection",
            "Compare what people do and are answered with what the champion learnt; say so.",
            ("compare", "report", "publish"),
            every_hours=6,
        ),
        Shape(
            "batch_prediction",
            "Make lists for all users: a table, and what is served when no model answers.",
            ("freeze_histories", "predict_lists", "publish_lists"),
            every_hours=24,
        ),
        Shape(
            "rollout",
            "Make the challengers that passed their gate champions.",
            ("roll_out_recommender", "roll_out_predictor", "roll_out_neural_recommender"),
        ),
    )
}
