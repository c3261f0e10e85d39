"""Whatever the OpenAPI document allows, and much that it does not, is answered without a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from serving import Live

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

openapi = pytest.importorskip("schemathesis.specs.openapi.checks")

CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi.response_schema_conformance,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
]
BOUNDED = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


@pytest.fixture(scope="module")
def known(live: Live) -> Iterator[dict[str, list[str]]]:
    """Ids that exist, which chance would not find."""
    job = live.submit()
    live.end(job["id"])
    yield {
        "/api/models": ["local-tiny"],
        "/api/bars": ["sample-sp500", "sample-eurusd"],
        "/api/forecasts": [job["id"]],
    }
    for item in live.get("/api/bars")["items"]:
        if item["source"] == "upload":
            live.client.delete(f"/api/bars/{item['id']}")


def try_all(live: Live, known: dict[str, list[str]], examples: int) -> None:
    """Requests of every operation."""
    schema = schemathesis.openapi.from_url(f"{live.address}/api/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:
        try_operation(operation, known, examples)


def try_operation(operation: Any, known: dict[str, list[str]], examples: int) -> None:
    """Requests of one operation."""

    @hypothesis.settings(BOUNDED, max_examples=examples)
    @hypothesis.given(data=st.data())
    def try_one(data: st.DataObject) -> None:
        try_case(data.draw(operation.as_strategy()), known, data)

    try_one()


def try_case(case: Any, known: dict[str, list[str]], data: st.DataObject) -> None:
    """Send one request; ids are real ones half of the time."""
    if case.path_parameters and data.draw(st.booleans(), "a real id"):
        place = next(ids for start, ids in known.items() if case.path.startswith(start))
        case.path_parameters["id"] = data.draw(st.sampled_from(place), "id")
    if isinstance(case.body, dict) and case.path == "/api/forecasts" and data.draw(st.booleans(), "real bars"):
        case.body["bars"], case.body["model"] = "sample-sp500", "local-tiny"
    if isinstance(case.query, dict):
        case.query.pop("wait", None)  # the queue is tested elsewhere; here nobody waits for it
    response = case.call(timeout=60)
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and response.content:
        error = response.json()["error"]
        assert set(error) == {"code", "message"}
        assert "Traceback" not in error["message"]
    case.validate_response(response, checks=CHECKS)


@pytest.mark.slow
def test_no_server_error(live: Live, known: dict[str, list[str]]) -> None:
    try_all(live, known, examples=15)


@pytest.mark.soak
def test_no_server_error_in_many(live: Live, known: dict[str, list[str]]) -> None:
    try_all(live, known, examples=400)


def test_the_document_names_every_limit(live: Live) -> None:
    schema = live.get("/api/openapi.json")
    asked = schema["components"]["schemas"]["ForecastRequest"]["properties"]
    assert (asked["horizon"]["minimum"], asked["horizon"]["maximum"]) == (1, 512)
    assert (asked["num_samples"]["minimum"], asked["num_samples"]["maximum"]) == (1, 1000)
    assert all("description" in field for field in asked.values())
    operations = [one for path in schema["paths"].values() for one in path.values()]
    assert all(one["summary"] and one.get("description") for one in operations)
    assert all("4XX" in one["responses"] for one in operations)
