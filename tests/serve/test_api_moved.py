"""Addresses of the published web app."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from kronos.serve.moved import MOVED, moved


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", MOVED)
def test_they_name_ours(name: str, method: str) -> None:
    app = FastAPI()
    app.include_router(moved())
    answer = TestClient(app).request(method, f"/api/{name}")
    assert answer.status_code == 410
    assert MOVED[name] in answer.text
