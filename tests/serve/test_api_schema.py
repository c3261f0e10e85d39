"""Whatever the OpenAPI document allows, and much that it does not, is answered without a server error."""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_the_settings_are_those_of_the_document(live: Live) -> None:
    asked = live.get("/api/openapi.json")["components"]["schemas"]["ForecastRequest"]["properties"]
    found = live.get("/api/settings")
    assert (found["most_path_bars"], found["most_upload_bytes"]) == (100_000, 20 * 2**20)
    for setting in found["settings"]:
        field = asked[setting["name"]]
        assert field.get("default") == setting["default"]
        kinds = field.get("anyOf", [field])
        assert (len(kinds) == 2) == setting["optional"]
        limits = [kinds[0].get(name) for name in ("minimum", "maximum", "exclusiveMinimum")]
        assert limits == [setting[name] for name in ("low", "high", "above")]


NEW_SETTING = """
import asyncio, json, sys, dataclasses
import kronos.spec

@dataclasses.dataclass(frozen=True, kw_only=True)
class Wider(kronos.spec.ForecastSpec):
    patience: int = dataclasses.field(default=3, metadata={"help": "How long to wait.", "low": 1, "high": 9})

kronos.spec.ForecastSpec = Wider
if sys.argv[1] == "mcp":
    from pathlib import Path
    from kronos.serve.mcp import Tools, build
    tools = asyncio.run(build(Tools(Path("."), "kronos-nano", None)).list_tools())
    schema = next(tool for tool in tools if tool.name == "forecast").input_schema
else:
    from fastapi import FastAPI
    from kronos.serve import routes
    from kronos.serve.schemas import ForecastRequest, offered
    assert offered()[-1].name == "patience"
    assert kronos.spec.spec_of(ForecastRequest(bars="x", patience=7).parameters()).patience == 7
    app = FastAPI()
    app.include_router(routes.forecasts)
    schema = app.openapi()["components"]["schemas"]["ForecastRequest"]
print(json.dumps(schema["properties"]["patience"]))
"""


@pytest.mark.parametrize("surface", ["rest", "mcp"])
def test_a_new_field_of_the_spec_appears_by_itself(surface: str) -> None:
    pytest.importorskip("mcp")
    run = subprocess.run([sys.executable, "-c", NEW_SETTING, surface], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    field = json.loads(run.stdout)
    shown = {name: field[name] for name in ("type", "default", "minimum", "maximum", "description")}
    assert shown == {"type": "integer", "default": 3, "minimum": 1, "maximum": 9, "description": "How long to wait."}
