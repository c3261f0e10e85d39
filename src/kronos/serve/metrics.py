"""Counts for Prometheus, in a registry of the server's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=registry)
        self.requests = counter("kronos_requests", "Answers by method and status.", ("method", "status"))
        self.latency = seconds("kronos_request_seconds", "Time to the first byte.")
        self.forecasts = counter("kronos_forecasts", "Forecasts by how they ended.", ("status",))
        self.forecast_seconds = seconds("kronos_forecast_seconds", "Time a forecast ran.")
        self.batch = seconds("kronos_batch_size", "Forecasts in a batch.", buckets=(1, 2, 4, 8, 16, 32))
        self.refused = counter("kronos_refused", "Forecasts refused because the queue was full.")
        self.queued = gauge("kronos_queued", "Forecasts that wait.")
        self.running = gauge("kronos_running", "Forecasts that run.")
        self.open_streams = 0
        self.streams = gauge("kronos_streams", "Open event streams.")
        self.models = gauge("kronos_model_bytes", "Memory of loaded models.")
        self.starts = gauge("kronos_forecaster_starts", "Times the forecaster was started.")

    @contextmanager
    def stream(self) -> Iterator[None]:
        """An event stream is open inside."""
        self.open_streams += 1
        self.streams.set(self.open_streams)
        try:
            yield
        finally:
            self.open_streams -= 1
            self.streams.set(self.open_streams)

    def ended(self, status: str, started: float | None) -> None:
        """A forecast is over; ``started`` is when it began to run, by the monotonic clock, None if it never did."""
        self.forecasts.labels(status).inc()
        if started is not None:
            self.forecast_seconds.observe(time.monotonic() - started)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
