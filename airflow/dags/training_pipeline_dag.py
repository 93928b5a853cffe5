"""Airflow DAGs that train: by time, on new tables, or on a drift alert from outside."""

from datetime import timedelta

from movie_mlops.orchestration.dag_factory import DRIFT_ALERT, MOVIE_TABLES, make_dag

training = make_dag("training", longest=timedelta(hours=6), after=[MOVIE_TABLES, DRIFT_ALERT])

rating_training = make_dag("rating_training", longest=timedelta(hours=6), after=[MOVIE_TABLES])

neural_training = make_dag("neural_training", longest=timedelta(hours=12))

rollout = make_dag("rollout", longest=timedelta(minutes=30))
