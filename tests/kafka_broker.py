"""A real Kafka broker for tests: KRaft, one node, free ports of loopback, files in a folder."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "kafka"
_HEAP = "-Xmx256m -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_CONFIG = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/logs
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
log.index.size.max.bytes=65536
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=100
log.initial.task.delay.ms=500
"""


def find_kafka() -> tuple[Path | None, str]:
    """Where an Apache Kafka distribution lies, or why no broker can be started."""
    home = Path(os.environ.get("KAFKA_HOME") or _BESIDE)
    if not (home / "bin" / "kafka-server-start.sh").is_file():
        return None, "no Kafka broker: KAFKA_HOME names no Apache Kafka, none lies beside either"
    if shutil.which("java") is None:
        return None, "no Kafka broker: it needs Java 17 or later on the PATH"
    return home, ""


class Broker:
    """A broker whose process may be stopped, killed and started again on the same files."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self.port, controller = one.getsockname()[1], other.getsockname()[1]
        self._settings = folder / "server.properties"
        self._settings.write_text(
            _CONFIG.format(port=self.port, controller=controller, folder=folder)
        )
        self._environment = {**os.environ, "KAFKA_HEAP_OPTS": _HEAP, "LOG_DIR": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        cluster = "MkU3OEVBNTcwNTJENDM2Qk"
        self._run(
            "kafka-storage.sh", "format", "--standalone", "-t", cluster, "-c", str(self._settings)
        )

    @property
    def servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._home / "bin" / "kafka-server-start.sh", self._settings],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        deadline = time.monotonic() + 60
        while True:
            try:
                admin.list_topics(timeout=1)
            except KafkaException:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._said()) from None
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as an operator does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        threads = psutil.Process(self._process.pid).threads()
        states = [Path(f"/proc/{self._process.pid}/task/{each.id}/stat") for each in threads]
        deadline = time.monotonic() + 10
        while any(_state(path) not in "TtX" for path in states):
            assert time.monotonic() < deadline, "the broker does not stop"
            time.sleep(0.005)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def _run(self, script: str, *arguments: str) -> None:
        ran = subprocess.run(
            [self._home / "bin" / script, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def _said(self) -> str:
        return (self._folder / "broker.log").read_text(errors="replace")[-3000:]


def _state(path: Path) -> str:
    try:
        return path.read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return "X"


def brokers(folder: Path) -> Iterator[Broker]:
    """For a fixture: a started broker, or a skip that names what is missing."""
    home, missing = find_kafka()
    if home is None:
        pytest.skip(missing)
    broker = Broker(home, folder)
    broker.start()
    yield broker
    broker.kill()  # its files are the test's: no use to close them in order
