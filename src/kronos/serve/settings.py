"""What a server is told at its start, and where it keeps things."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from kronos.errors import ConfigError

MB = 2**20
UPLOAD_BYTES = 20 * MB  # that a file of bars may have
FEWEST_TOKEN_CHARACTERS = 16

COUNTS = CollectorRegistry()
"""All that is told to Prometheus; each count stands in the file that counts."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True)
class ServerSettings:
    """A server's settings.

    Args:
        data_dir: the folder of everything that is kept: ``bars`` and ``models`` are the user's to fill; uploads,
            results and the history are the server's.
        host, port: where to listen; port 0 takes a free one.
        token: what callers must show. Needed where the address is not a loopback one.
        max_queue: forecasts that may wait.
        allowed_hosts: further names under which the server may be addressed.
        memory_budget: bytes of loaded models; None: half of this machine's memory.
        model, tokenizer: one more model, wherever it lies, and its tokenizer, where it is not the one that belongs to
            it.

    Raises:
        ConfigError: an address beyond this machine without a token, a token that can be guessed, numbers out of range,
            or a tokenizer without a model.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 7070
    token: str | None = None
    max_queue: int = 32
    allowed_hosts: tuple[str, ...] = ()
    memory_budget: int | None = None
    model: str | None = None
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_queue <= 10_000:
            raise ConfigError(f"max_queue is {self.max_queue}; it must be from 1 to 10,000.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; it must be from 0 to 65535.")
        if self.token is not None and len(self.token) < FEWEST_TOKEN_CHARACTERS:
            raise ConfigError(f"The token has {len(self.token)} characters; use {FEWEST_TOKEN_CHARACTERS} or more.")
        if self.tokenizer is not None and self.model is None:
            raise ConfigError(f"--tokenizer {self.tokenizer} belongs to a model: name it with --model.")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, so callers must show a token: give --token, "
                "or set KRONOS_TOKEN."
            )

    @property
    def budget(self) -> int:
        """Bytes that loaded models may take together."""
        if self.memory_budget is not None:
            return self.memory_budget
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, ValueError, OSError):  # not a POSIX system
            return 4 * 2**30

    def make_folders(self) -> None:
        """Make what is missing; only the owner may look inside the server's folders.

        Raises:
            ConfigError: the data folder cannot be made or written.
        """
        try:
            for name, mode in (("bars", 0o777), ("models", 0o777), ("uploads", 0o700), ("results", 0o700)):
                (self.data_dir / name).mkdir(mode, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The data folder '{self.data_dir}' cannot be used: {error.strerror}.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def digest_of_name(name: str) -> str:
    """Stands for the name of a file or folder in an address; stored with forecasts, so it stays what it is."""
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).hexdigest()
