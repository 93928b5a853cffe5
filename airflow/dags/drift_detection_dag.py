"""Airflow DAG of the drift check.

What it finds is an event of the house, and the house's loop decides about training (cool-down,
attempts). It emits no asset `drift_alert`: one drift would train twice.
"""

from datetime import timedelta

from movie_mlops.orchestration.dag_factory import make_dag

drift_detection = make_dag("drift_detection", longest=timedelta(hours=1))
