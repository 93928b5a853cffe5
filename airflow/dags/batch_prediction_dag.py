"""Airflow DAG of the nightly lists for all users."""

from datetime import timedelta

from movie_mlops.orchestration.dag_factory import make_dag

batch_prediction = make_dag("batch_prediction", longest=timedelta(hours=2))
