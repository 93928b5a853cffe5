"""The one list of engines that the stack knows."""

from pathlib import Path

from movie_mlops.stack.airflow import Airflow
from movie_mlops.stack.base import Engine
from movie_mlops.stack.exporters import PostgreSQLExporter, RedisExporter
from movie_mlops.stack.feast import Feast, FeastUi
from movie_mlops.stack.grafana import Grafana
from movie_mlops.stack.kafka import Kafka
from movie_mlops.stack.mlflow import Mlflow
from movie_mlops.stack.postgresql import PostgreSQL
from movie_mlops.stack.prometheus import Alertmanager, Prometheus
from movie_mlops.stack.redis import Redis
from movie_mlops.stack.torch import Torch


def all_engines(kafka_home: Path | None) -> tuple[Engine, ...]:
    """Every engine, in the order in which they are shown; Kafka lies in `kafka_home`."""
    return (
        PostgreSQL(),
        Redis(),
        Kafka(kafka_home),
        Mlflow(),
        Feast(),
        FeastUi(),
        Airflow(),
        Torch(),
        Prometheus(),
        PostgreSQLExporter(),
        RedisExporter(),
        Alertmanager(),
        Grafana(),
    )
