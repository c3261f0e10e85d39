"""Addresses of the published web app."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from kronos.serve.errors import ApiError
from kronos.serve.moved import MOVED, moved


@pytest.mark.parametrize("name", MOVED)
def test_they_name_ours(name: str) -> None:
    app = FastAPI()
    app.include_router(moved)
    with pytest.raises(ApiError, match=r"here (GET|POST) /api/") as found:
        TestClient(app).request("POST" if name in ("load-data", "predict", "load-model") else "GET", f"/api/{name}")
    assert found.value.status == 410
