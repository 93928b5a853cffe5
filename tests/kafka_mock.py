"""librdkafka's mock cluster, for errors that a real broker gives only by accident."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

PRODUCE, OFFSET_COMMIT = 0, 8
"""Numbers of Kafka's requests."""


class MockCluster:
    """One broker in memory that answers with the errors it is told."""

    def __init__(self, topics: dict[str, int]) -> None:
        folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
        self._lib = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
        for name in ("rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        reason = ctypes.create_string_buffer(512)
        self._client = ctypes.c_void_p(self._lib.rd_kafka_new(0, None, reason, 512))
        self._cluster = ctypes.c_void_p(self._lib.rd_kafka_mock_cluster_new(self._client, 1))
        for topic, partitions in topics.items():
            self._lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    @property
    def servers(self) -> str:
        """The address for clients."""
        address: bytes = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()

    def answer(self, request: int, errors: Sequence[int]) -> None:
        """Let the next requests of this number fail, one after the other."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), codes
        )

    def close(self) -> None:
        """Stop it."""
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)


@contextmanager
def mocked(topics: dict[str, int]) -> Iterator[MockCluster]:
    """A mock cluster that is stopped afterwards."""
    cluster = MockCluster(topics)
    try:
        yield cluster
    finally:
        cluster.close()
