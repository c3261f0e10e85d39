"""Runs the server until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

from kronos.errors import ConfigError
from kronos.serve.settings import Settings


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the forecasts that were accepted.

    A second signal interrupts them, a third waits for nothing.

    Args:
        on_ready: told the address once requests are answered.

    Raises:
        ConfigError: the address or the data folder is in use.
    """
    import uvicorn

    from kronos.serve.app import create_app
    from kronos.serve.services import Services

    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host

    parts = Services.build(settings)

    class Server(uvicorn.Server):
        interrupted = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            later = asyncio.get_running_loop().call_soon_threadsafe  # a signal comes in the middle of anything
            if not self.should_exit:
                later(parts.desk.close)
                super().handle_exit(sig, frame)
            elif not self.interrupted:  # streams and waiting callers hear of it, so their connections end too
                self.interrupted = True
                later(parts.desk.interrupt)
            else:
                self.force_exit = True

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready(f"http://{host}:{port}/")

    config = uvicorn.Config(
        create_app(parts),
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=int(settings.limits.drain) + 5,
    )
    server = Server(config)
    asyncio.run(server.serve(sockets=[listener]))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({error.strerror}). Another server may use it; choose another --port."
        ) from error
    return listener
