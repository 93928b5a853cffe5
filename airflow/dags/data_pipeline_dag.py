"""Airflow DAGs of the data: collection makes the tables, features follow them."""

from datetime import timedelta

from movie_mlops.orchestration.dag_factory import MOVIE_TABLES, make_dag

data_collection = make_dag("data_collection", longest=timedelta(hours=6), makes=MOVIE_TABLES)

feature_engineering = make_dag(
    "feature_engineering", longest=timedelta(hours=1), after=[MOVIE_TABLES]
)
