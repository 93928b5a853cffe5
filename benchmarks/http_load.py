r"""A load generator: raw keep-alive connections on one core, its own CPU counted apart.

    echo '{"requests": ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]}' |
        python benchmarks/http_load.py --port 8000 --connections 16 --seconds 5

Each connection sends its next request when the answer before is whole. Requests are taken in
turn; with `--once` each is sent once and the run ends with the last; with `--pause-ms` a connection
waits so long before its next request, as people do. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Run:
    """What all connections of one run share."""

    requests: list[bytes]
    until: float
    once: bool
    pause: float = 0.0
    next: int = 0
    open: int = 0
    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, now: float) -> bytes | None:
        """The next request; None when the run is over."""
        if now >= self.until or (self.once and self.next >= len(self.requests)):
            return None
        self.next += 1
        return self.requests[(self.next - 1) % len(self.requests)]

    def closed(self) -> None:
        """One connection less; the last one ends the run."""
        self.open -= 1
        if not self.open:
            self.done.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, run: Run) -> None:
        self._run, self._buffer, self._sent_at, self._waits = run, b"", 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = transport
        self._run.open += 1

    def send(self, now: float) -> None:
        """Send the next request, or close."""
        request = self._run.take(now)
        self._waits = request is not None
        if request is None:
            self._transport.close()
            return
        self._sent_at = now
        self._transport.write(request)

    def send_now(self) -> None:
        """Send the next request after a pause."""
        self.send(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        """Note the answer when it is whole, and send the next request."""
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            at = data.find(b"content-length: ", 0, end)
            length = int(data[at + 16 : data.find(b"\r", at)]) if at >= 0 else 0
            if len(data) >= end + 4 + length:
                now = time.perf_counter()
                self._buffer = b""
                self._run.times.append(now - self._sent_at)
                self._run.statuses[data[9:12].decode()] += 1
                if data.find(b"connection: close", 0, end) >= 0:
                    self._waits = False
                    self._transport.close()
                elif self._run.pause:
                    self._waits = False
                    asyncio.get_running_loop().call_later(self._run.pause, self.send_now)
                else:
                    self.send(now)
                return
        self._buffer = data

    def connection_lost(self, exc: Exception | None) -> None:
        """Count an answer that did not come."""
        del exc
        if self._waits:
            self._run.statuses["broken"] += 1
        self._run.closed()


async def load(port: int, connections: int, run: Run) -> float:
    """Send until the run is over; the seconds that it took."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: Connection(run), "127.0.0.1", port)
        opened.append(connection)
        await asyncio.sleep(0.002)  # as clients come: one by one, so that all workers get some
    start = time.perf_counter()
    run.until += start
    for connection in opened:
        connection.send(time.perf_counter())
    await run.done.wait()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--pause-ms", type=float, default=0.0)
    args = parser.parse_args()
    import uvloop

    requests = [each.encode() for each in json.load(sys.stdin)["requests"]]
    run = Run(requests, args.seconds, args.once, args.pause_ms / 1000)
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = uvloop.run(load(args.port, args.connections, run))
    after = resource.getrusage(resource.RUSAGE_SELF)
    times = sorted(run.times)
    figures = {
        "requests": len(times),
        "per_second": len(times) / seconds,
        **{
            f"p{percent}_ms": 1000 * times[min(int(len(times) * percent / 100), len(times) - 1)]
            for percent in (50, 95, 99)
            if times
        },
        "client_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "statuses": dict(run.statuses),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
