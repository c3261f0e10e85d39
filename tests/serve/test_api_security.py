"""Who may ask: tokens, names, other web pages; and what no answer may carry."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serving import QUICK, Live

from kronos.cli import main
from kronos.errors import ConfigError
from kronos.serve.errors import without_paths
from kronos.serve.settings import ServerSettings, is_loopback

TOKEN = "correct horse battery staple"


def test_every_answer_has_the_headers(live: Live) -> None:
    for path in ("/", "/api/models", "/healthz", "/metrics", "/nothing", "/api/forecasts/nothing"):
        headers = live.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe-eval" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "server" not in headers
    assert live.client.get("/api/models").headers["cache-control"] == "no-store"


def test_the_studio_is_served_from_here(live: Live) -> None:
    page = live.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    script = live.client.get("/static/plotly.min.js")
    assert script.status_code == 200
    assert len(script.content) > 1_000_000


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", ""])
def test_foreign_names_are_not_answered(live: Live, host: str) -> None:
    answer = live.client.get("/api/models", headers={"Host": host})
    assert answer.status_code == 421


def test_own_names_are_answered(live: Live) -> None:
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert live.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_other_pages_change_nothing(live: Live) -> None:
    address = live.address.removeprefix("http://")
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another port is another page
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert live.client.post("/api/forecasts", json=QUICK, headers=headers).status_code == 403
        assert live.client.delete("/api/forecasts/x", headers=headers).status_code == 403
    own = {"Origin": f"http://{address}", "Sec-Fetch-Site": "same-origin"}
    assert live.client.post("/api/forecasts", json=QUICK, headers=own).status_code == 202


def test_no_cors(live: Live) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = live.client.options("/api/forecasts", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2fsettings.py",
        "/static//etc/passwd",
        "/static/..\\settings.py",
        "/../../../../etc/passwd",
        "/api/bars/..%2f..%2fetc%2fpasswd",
        "/api/bars/%2e%2e/candles",
        "/api/models/..%2f..%2fetc",
        "/api/forecasts/..%2fhistory.sqlite/result",
        "/api/forecasts/%2e%2e%2fhistory/download?format=json",
        "/api/forecasts/%00/result",
    ],
)
def test_no_path_leads_out(live: Live, path: str) -> None:
    # http.client sends the path as it is written
    connection = http.client.HTTPConnection(live.address.removeprefix("http://"), timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (400, 404, 405, 422), body
    assert b"root:" not in body
    assert b"from __future__" not in body
    assert b"SQLite" not in body


def test_errors_carry_no_paths_and_no_traces(live: Live) -> None:
    asked = [
        live.client.get("/api/bars/nope"),
        live.client.get("/api/bars/sample-sp500/candles", params={"before": "not a time"}),
        live.client.post("/api/forecasts", content=b"{", headers={"content-type": "application/json"}),
        live.client.post("/api/forecasts", json={"bars": "sample-sp500", "model": "../x"}),
        live.client.post("/api/bars", files={"file": ("x.parquet", b"PAR1 nonsense PAR1")}),
        live.client.post("/api/bars", content=b"x", headers={"content-type": "multipart/form-data; boundary=y"}),
        live.client.put("/api/bars"),
    ]
    for answer in asked:
        assert 400 <= answer.status_code < 500
        error = answer.json()["error"]
        assert set(error) == {"code", "message"}
        for secret in (str(live.data), "Traceback", "site-packages", ".py"):
            assert secret not in error["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/bars/a.csv: no such file", "a.csv: no such file"),
        ("open or close, and/or volume", "open or close, and/or volume"),
        ("C:\\Users\\ann\\b.csv is damaged", "b.csv is damaged"),
        ("write 31/12/2024 or 24/7", "write 31/12/2024 or 24/7"),
        ("'/srv/x/model.safetensors' lacks", "'model.safetensors' lacks"),
        ("~/.kronos/models/m/config.json", "config.json"),
    ],
)
def test_paths_are_taken_out_of_messages(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_known_paths_are_taken_out_whatever_they_are_called() -> None:
    model = Path("/srv/my data/models/model")
    assert without_paths(f"'{model}/model/model.safetensors' lacks", [(model, "local-model")]) == (
        "'local-model/model/model.safetensors' lacks"
    )
    bars = Path("/srv/my data/upload-1.parquet")
    assert without_paths(f"{bars}: upload-1.parquet is empty", [(bars, "a.csv")]) == "a.csv: a.csv is empty"


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_another_address_needs_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        assert main(["serve", "--host", host, "--data-dir", str(tmp_path)]) == 1
        assert "--token" in capsys.readouterr().err
        ServerSettings(tmp_path, host=host, token=TOKEN)
    with pytest.raises(ConfigError, match="16"):
        ServerSettings(tmp_path, token="short")
    assert is_loopback("127.8.8.8")
    assert is_loopback("::1")


def test_a_token_guards_everything_but_the_page(
    own_server: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRONOS_TOKEN", TOKEN)
    live = own_server()
    for path in ("/api/models", "/api/bars", "/api/forecasts", "/metrics", "/api/openapi.json"):
        answer = live.client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for wrong in ("x", TOKEN[:-1], TOKEN + "x", "é"):
            shown = {"Authorization": f"Bearer {wrong}".encode()}
            assert live.client.get(path, headers=shown).status_code == 401
        assert live.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for path in ("/", "/healthz", "/readyz", "/static/plotly.min.js"):
        assert live.client.get(path).status_code == 200

    browser = httpx.Client(base_url=live.address)
    assert browser.post("/api/session", json={"token": "wrong"}).status_code == 401
    assert browser.get("/api/models").status_code == 401
    opened = browser.post("/api/session", json={"token": TOKEN})
    assert opened.status_code == 204
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert browser.get("/api/models").status_code == 200
    assert browser.delete("/api/session").status_code == 204
    assert browser.get("/api/models").status_code == 401
    assert browser.get("/api/models", headers={"Cookie": "kronos_session="}).status_code == 401
    assert browser.get("/api/models", headers={"Cookie": 'kronos_session="; x=1'}).status_code == 401
    browser.close()


def test_two_servers_do_not_share_a_folder(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--data-dir", str(live.data)]) == 1
    assert "another kronos serve" in capsys.readouterr().err


def test_a_taken_port_is_named(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = live.address.rpartition(":")[2]
    assert main(["serve", "--port", port, "--data-dir", str(tmp_path)]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err
