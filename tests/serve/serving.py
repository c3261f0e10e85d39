"""A real server in a process of its own, on a free loopback port, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

COMMAND = [sys.executable, "-c", "import sys; from kronos.cli import main; sys.exit(main())", "serve"]
START_SECONDS = 120.0
QUICK = {"bars": "sample-sp500", "model": "local-tiny", "horizon": 3, "num_samples": 4}
"""A forecast of a few milliseconds."""


class Live:
    """A running ``kronos serve``.

    Args:
        data: its data folder.
        words: more words for the command line.
    """

    def __init__(self, data: Path, *words: str) -> None:
        self.data = data
        self.temporary = data.parent / f"{data.name}.tmp"
        self.temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        self.log = (data.parent / f"{data.name}.log").open("w+b")
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--data-dir", str(data), *words],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("Serving on http://"), self.errors()
        self.address = line.split()[-1].rstrip("/")
        self.client = httpx.Client(base_url=self.address, timeout=120)

    def ready(self) -> Live:
        """Wait until forecasts can be made."""
        until = time.monotonic() + START_SECONDS
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < until, self.errors()
            assert self.process.poll() is None, self.errors()
            time.sleep(0.05)
        return self

    def errors(self) -> str:
        """What the server has logged."""
        self.log.flush()
        return Path(self.log.name).read_text(errors="replace")

    def files(self) -> set[str]:
        """Every file that the server keeps, but for its history."""
        kept = files_of(self.data) | files_of(self.temporary)
        return {name for name in kept if not name.startswith("history.sqlite")}

    def family(self) -> list[psutil.Process]:
        """The server's process and those it works with."""
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def stop(self, how: int = signal.SIGTERM, within: float = 60) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()

    # -- asking -------------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a successful answer."""
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def submit(self, **asked: Any) -> dict[str, Any]:
        """A forecast that was accepted."""
        answer = self.client.post("/api/forecasts", json={**QUICK, **asked})
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        assert answer.headers["location"] == f"/api/forecasts/{found['id']}"
        return found

    def result(self, **asked: Any) -> dict[str, Any]:
        """The document of a forecast that is waited for."""
        answer = self.client.post("/api/forecasts", params={"wait": True}, json={**QUICK, **asked})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refused(self, status: int, **asked: Any) -> str:
        """The message with which a forecast is refused, at once or when it is computed."""
        answer = self.client.post("/api/forecasts", params={"wait": True}, json={**QUICK, **asked})
        assert answer.status_code == status, answer.text
        return str(answer.json()["error"]["message"])

    def end(self, id: str, within: float = 60) -> dict[str, Any]:
        """A forecast, once it is over."""
        until = time.monotonic() + within
        while (found := self.get(f"/api/forecasts/{id}"))["status"] in ("queued", "running"):
            assert time.monotonic() < until, found
            time.sleep(0.02)
        return dict(found)

    def metric(self, name: str) -> float:
        """One number of /metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line.removeprefix(name) for line in lines if line.startswith(f"{name} ")))

    def events(self, id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, data) of every event of a forecast."""
        with self.client.stream("GET", f"/api/forecasts/{id}/events") as answer:
            assert answer.status_code == 200
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


def eventually(true: Callable[[], object], within: float = 20) -> None:
    """Wait until something is so; fail where it does not come."""
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def files_of(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
