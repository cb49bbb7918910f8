"""A SeaweedFS of the test's own: an object store that speaks S3, on loopback."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

from obstore.exceptions import BaseError
from obstore.store import S3Store
from processes import free_port
from waiting import wait_for

KEY, SECRET = "longwick", "not-so-secret"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
SERVERS = ("s3", "filer", "master", "volume", "admin")


class S3:
    """The server, with one bucket; enter it to start it. It may be stopped and started again, and has what it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        ports: set[int] = set()
        while len(ports) < 2 * len(SERVERS):
            ports.add(free_port())
        self._ports = {f"{server}.port{kind}": ports.pop() for server in SERVERS for kind in ("", ".grpc")}
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        program = Path(sys.executable).parent / "weed"
        assert program.exists(), "SeaweedFS is missing: make setup-dev"
        options = ["-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false", "-webdav=false"]
        options += [
            "-master.telemetry=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-filer.localSocket=filer.sock",
        ]
        options += [f"-{name}={port}" for name, port in self._ports.items()]
        env = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "S3_BUCKET": "bucket", **CREDENTIALS}
        with (self._folder / "weed.log").open("a") as log:
            self.process = subprocess.Popen(
                [program, "-logtostderr", "mini", *options], cwd=self._folder, env=env, stdout=log, stderr=log
            )
        wait_for(self._has_its_bucket, 30.0, "an object store")

    def _has_its_bucket(self) -> bool:
        assert self.process.poll() is None, (self._folder / "weed.log").read_text()[-2000:]
        options = {"endpoint": self.endpoint, "region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET}
        bucket = S3Store("bucket", config=options, client_options={"allow_http": True}, retry_config={"max_retries": 0})  # type: ignore[arg-type]
        try:
            bucket.list_with_delimiter()
        except BaseError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def url(self, prefix: str, endpoint: str = "") -> str:
        """The setting for a place in its bucket, by way of another address if there is one."""
        place = re.sub(r"[^a-z0-9]+", "-", prefix.lower())
        return f"s3://bucket/{place}?endpoint={endpoint or self.endpoint}&region=us-east-1"
