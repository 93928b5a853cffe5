"""Apache Kafka: the event log of many processes; one node of KRaft."""

import base64
import re
import shutil
import struct
import uuid
from importlib import util
from pathlib import Path
from types import MappingProxyType

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events import open_event_log
from movie_mlops.settings import field_key, load_settings
from movie_mlops.stack.asking import exchange, program
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import write_text
from movie_mlops.stack.processes import run_once

_PLACES = ("/opt/kafka", "/usr/local/kafka", "/usr/share/kafka")
_CONFIG = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
# the house makes its topics, and its setting says how long events are kept
auto.create.topics.enable=false
log.retention.ms={retention}
# one node
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# a consumer that was killed is missed after ten seconds instead of 45
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.heartbeat.interval.ms=2000
"""
_LOG = """\
Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout: {pattern: "[%d] %p %m (%c)%n"}
  Loggers:
    Root: {level: WARN, AppenderRef: [{ref: STDOUT}]}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
"""
_API_VERSIONS = 18
_NOBODY = -1


class Kafka(Engine):
    """One broker and controller in one process; `home` is where Apache Kafka lies."""

    name, title, port = "kafka", "Kafka", 9092
    more_ports = MappingProxyType({"kafka-controller": 9094})
    start_seconds = 90.0
    stop_seconds = 30.0

    def __init__(self, home: Path | None = None) -> None:
        self._home = home

    def missing(self) -> Missing | None:
        """The distribution, and Java."""
        if self._found() is None:
            where = f"{self._home} holds none" if self._home else f"none in {', '.join(_PLACES)}"
            text = (
                f"no Apache Kafka ({where}): unpack https://kafka.apache.org/downloads "
                "(4.0 or later) and set KAFKA_HOME"
            )
            return Missing(text)
        return program("java", "default-jre-headless")

    def version(self) -> str:
        """As the jars are called."""
        jars = (self._folder() / "libs").glob("kafka-clients-*.jar")
        found = (re.fullmatch(r"kafka-clients-(.+)", jar.stem) for jar in jars)
        return next((match[1] for match in found if match), "")

    def prepare(self, ground: Ground) -> None:
        """Configuration and a formatted folder of logs."""
        settings = ground.folder / "server.properties"
        days = load_settings(ground.home).event_retention_days
        text = _CONFIG.format(
            host=ground.host,
            port=ground.port(self.name),
            controller=ground.port("kafka-controller"),
            folder=ground.folder,
            retention=round(days * 86_400_000),
        )
        write_text(settings, text)
        write_text(ground.folder / "stack-log4j2.yaml", _LOG)
        if not (ground.folder / "data" / "meta.properties").exists():
            shutil.rmtree(ground.folder / "data", ignore_errors=True)  # half formatted
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            command = [str(self._folder() / "bin" / "kafka-storage.sh"), "format", "--standalone"]
            given = [f"--cluster-id={cluster}", f"--config={settings}"]
            run_once(ground, [*command, *given], self._environment(ground))

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The broker."""
        script = self._folder() / "bin" / "kafka-server-start.sh"
        command = (str(script), str(ground.folder / "server.properties"))
        return (Process("server", command, self._environment(ground)),)

    def check(self, ground: Ground) -> None:
        """It tells the versions of its protocol, which it does when it serves."""
        asked = struct.pack(">hhih", _API_VERSIONS, 0, 1, _NOBODY)
        said = struct.pack(">i", len(asked)) + asked
        heard = exchange(ground, self.name, said, lambda so_far: len(so_far) >= 10)
        _, correlation, error = struct.unpack(">iih", heard[:10])
        if (correlation, error) != (1, 0):
            message = f"Kafka answers error {error}"
            raise EngineUnavailableError(message)

    def after_start(self, ground: Ground) -> None:
        """The topics, as the house makes them when it opens the log."""
        if util.find_spec("confluent_kafka") is not None:
            open_event_log(ground.url(self.name, "kafka"), ground.home, 0).close()

    def environment(self, ground: Ground) -> dict[str, str]:
        """The event log."""
        return {field_key("events_url"): ground.url(self.name, "kafka")}

    def _environment(self, ground: Ground) -> dict[str, str]:
        return {
            "KAFKA_HEAP_OPTS": "-Xmx256m -Xms64m",
            "KAFKA_JVM_PERFORMANCE_OPTS": "-server -Djava.awt.headless=true",
            # the last word on both, in the folder it starts in
            "KAFKA_OPTS": "-XX:+UseSerialGC -Dlog4j2.configurationFile=stack-log4j2.yaml",
            "LOG_DIR": str(ground.folder / "logs"),
        }

    def _found(self) -> Path | None:
        places = [self._home] if self._home is not None else [Path(place) for place in _PLACES]
        starts = (place for place in places if (place / "bin" / "kafka-server-start.sh").is_file())
        return next(starts, None)

    def _folder(self) -> Path:
        found = self._found()
        if found is None:
            message = "no Apache Kafka: set KAFKA_HOME"
            raise EngineUnavailableError(message)
        return found.resolve()
