"""The order of the files: those that take minutes come first, so that no worker is left with one at the end."""

from __future__ import annotations

import pytest

LONGEST = (
    *("test_examples.py", "test_ray.py", "test_gpu_script.py", "test_qrun.py", "test_simulate.py", "test_api_crash.py"),
    *("test_docs.py", "test_run.py", "test_wheel.py", "test_pipeline.py", "test_parallel.py", "test_cli_evaluate.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
