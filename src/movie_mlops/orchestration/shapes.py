"""The shape of every pipeline: steps in order and schedule. Imports nothing of the house."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """One pipeline as data; `every_hours` is None where nothing schedules it.

    `then` is the pipeline that follows in the same process, or the same run of the DAG, when this
    one succeeded. `dag_id` is its name in Airflow.
    """

    name: str
    dag_id: str
    description: str
    steps: tuple[str, ...]
    every_hours: float | None = None
    then: str | None = None


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "data_collection",
            "movie_data_collection",
            "Fetch the source, check and store its tables, simulate people, take a snapshot.",
            ("collect", "process", "simulate", "snapshot"),
        ),
        Shape(
            "feature_engineering",
            "movie_feature_engineering",
            "Build the feature views and bring them into the online store.",
            ("build_features", "materialize_features"),
            every_hours=24,
        ),
        Shape(
            "training",
            "movie_training_pipeline",
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
            "movie_neural_training",
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
            "movie_rating_training",
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
            "movie_drift_detection",
            "Compare what people do and are answered with what the champion learnt; say so.",
            ("compare", "report", "publish"),
            every_hours=6,
        ),
        Shape(
            "batch_prediction",
            "movie_batch_prediction",
            "Make lists for all users: a table, and what is served when no model answers.",
            ("freeze_histories", "predict_lists", "publish_lists"),
            every_hours=24,
        ),
        Shape(
            "rollout",
            "movie_rollout",
            "Make the challengers that passed their gate champions.",
            ("roll_out_recommender", "roll_out_predictor", "roll_out_neural_recommender"),
        ),
    )
}


def steps_of_run(name: str) -> tuple[tuple[str, str], ...]:
    """Pipeline and step of all that a submitted run does, in order: its own, then its follower's.

    Raises:
        KeyError: no shape has this name.
    """
    shape = SHAPES[name]
    own = tuple((name, step) for step in shape.steps)
    return own + (steps_of_run(shape.then) if shape.then else ())
