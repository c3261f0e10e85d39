"""Hostile files and requests: each is refused quickly, nothing stays on the disk, and the server goes on as before."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hostile import FILES, MB, csv
from serving import QUICK, Live, eventually

SECONDS = 5.0  # a second on a quiet machine; tests share theirs


@pytest.fixture(autouse=True)
def nothing_stays(live: Live) -> Iterator[None]:
    """Neither files nor processes."""
    files, processes = live.files(), len(live.family())
    yield
    assert live.files() == files
    eventually(lambda: len(live.family()) == processes)  # a reader that had to end is replaced


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file(live: Live, name: str) -> None:
    data = FILES[name]()
    assert len(data) < 20 * MB
    began = time.perf_counter()
    answer = live.client.post("/api/bars", files={"file": (name, data)})
    assert time.perf_counter() - began < SECONDS
    assert 400 <= answer.status_code < 500, answer.text
    assert len(answer.json()["error"]["message"]) < 2000
    assert str(live.data) not in answer.text


def raw(live: Live, method: str, path: str, body: bytes | Iterator[bytes], **headers: str) -> int:
    """The status of a request that a well-behaved client would not send."""
    connection = http.client.HTTPConnection(live.address.removeprefix("http://"), timeout=30)
    began = time.perf_counter()
    with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent; the answer is there
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        return connection.getresponse().status
    except ConnectionResetError:
        return 413
    finally:
        assert time.perf_counter() - began < SECONDS
        connection.close()


def part(name: str, value: str, filename: str | None = None) -> str:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--y\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{value}\r\n'


MULTIPART = "multipart/form-data; boundary=y"
JSON = "application/json"


def forms() -> dict[str, str]:
    file = part("file", "not bars", "a.csv")
    return {
        "no file": part("symbol", "A") + "--y--\r\n",
        "file as text": part("file", csv()) + "--y--\r\n",
        "two files": file + file + "--y--\r\n",
        "thousand fields": "".join(part(f"f{number}", "x") for number in range(1000)) + file + "--y--\r\n",
        "long field": part("symbol", "x" * MB) + file + "--y--\r\n",
        "cut": file[:-4],
        "no end": "--y\r\n" + "x" * 100_000,
        "no parts": "--y--\r\n",
        "escaping name": part("file", "not bars", "../../../../etc/cron.d/x.csv") + "--y--\r\n",
        "backslashes": part("file", "not bars", "..\\..\\windows\\x.csv") + "--y--\r\n",
        "long name": part("file", "not bars", "a" * 5000 + ".csv") + "--y--\r\n",
        "null in name": part("file", "not bars", "a\x00.csv") + "--y--\r\n",
        "unknown field": part("path", "/etc/passwd") + file + "--y--\r\n",
    }


@pytest.mark.parametrize("name", forms())
def test_a_hostile_form(live: Live, name: str) -> None:
    assert 400 <= raw(live, "POST", "/api/bars", forms()[name].encode(), Content_Type=MULTIPART) < 500


def a_hundred_megabytes() -> Iterator[bytes]:
    yield (part("file", "", "a.csv").rstrip() + "\r\n\r\n").encode()
    for _ in range(100):
        yield b"1," * (MB // 2)


def test_a_body_of_100_mb(live: Live) -> None:
    # announced: refused before any of it is read
    assert raw(live, "POST", "/api/bars", b"", Content_Type=MULTIPART, Content_Length=str(100 * MB)) == 413
    # not announced: cut off at the limit
    assert raw(live, "POST", "/api/bars", a_hundred_megabytes(), Content_Type=MULTIPART) == 413
    # where no file belongs
    assert raw(live, "POST", "/api/forecasts", b"x" * MB, Content_Type=JSON) == 413
    assert raw(live, "POST", "/api/forecasts", (b"x" * 9999 for _ in range(99)), Content_Type=JSON) == 413


def test_a_file_just_too_large(live: Live) -> None:
    data = csv().encode() + b"\n" * (20 * MB)
    answer = live.client.post("/api/bars", files={"file": ("large.csv", data)})
    assert answer.status_code == 413
    assert "20 MB" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 60_000,
        b'{"bars":' * 5000,
        b'{"seed": ' + b"9" * 5000 + b', "bars": "sample-sp500"}',
        b'{"horizon": 1e999, "bars": "sample-sp500"}',
        b'{"bars": "\\ud800"}',
        b'{"bars": "sample-sp500", "symbol": "\\u0000"}',
        b'{"bars": "../../../etc/passwd"}',
        b'{"bars": "sample-sp500\\n"}',
        b'{"bars": ["sample-sp500"]}',
        b'{"bars": "sample-sp500", "model": "/etc"}',
        b'{"bars": "sample-sp500", "calendar": "' + b"A" * 5000 + b'"}',
        b'{"bars": "sample-sp500", "cutoff": 99999999999999999999}',
        b'{"bars": "sample-sp500", "__proto__": {}}',
        b"\xff\xfe\x00",
        b"null",
        b'"x"',
    ],
)
def test_a_hostile_document(live: Live, body: bytes) -> None:
    assert 400 <= raw(live, "POST", "/api/forecasts", body, Content_Type=JSON) < 500


def test_hostile_addresses_and_headers(live: Live) -> None:
    for path in (
        "/api/forecasts?page=" + "9" * 400,
        "/api/forecasts?size=-1",
        "/api/forecasts?q=" + "x" * 5000,
        "/api/forecasts?status=drop%20table",
        "/api/bars/sample-sp500/candles?limit=1e9",
        "/api/bars/sample-sp500/candles?before=%00",
        "/api/bars/sample-sp500/candles?symbol=%ff",
        "/api/bars/" + "x" * 5000,
        "/api/forecasts/%27%20OR%201=1--",
    ):
        assert 400 <= raw(live, "GET", path, b"") < 500, path
    assert 400 <= raw(live, "GET", "/api/models", b"", X_Long="x" * 200_000) < 500
    assert 400 <= raw(live, "POST", "/api/bars", b"x", Content_Type="multipart/form-data") < 500
    assert 400 <= raw(live, "POST", "/api/bars", csv().encode(), Content_Type="text/csv") < 500
    assert 400 <= raw(live, "POST", "/api/bars", b"", Content_Type=MULTIPART, Content_Length="-5") < 500
    assert 400 <= raw(live, "BREW", "/api/bars", b"") < 500
    assert raw(live, "POST", "/api/forecasts", b"{}", Origin="http://[") == 403


def test_the_server_is_as_good_as_before(live: Live, own_server: Callable[..., Live]) -> None:
    answer = live.client.post("/api/bars", files={"file": ("good.csv", csv())})
    assert answer.status_code == 201
    found = live.result(bars=answer.json()["id"])
    assert live.client.delete(f"/api/bars/{answer.json()['id']}").status_code == 204
    assert live.client.delete(f"/api/forecasts/{found['id']}").status_code == 204


def test_what_is_accepted_is_inert(live: Live) -> None:
    """A script in a name is a name: in JSON, in the file's name, and in the page that is downloaded."""
    script = "<script>alert(1)<!--"
    text = "".join(f"{line},{script}\n" for line in csv().splitlines())
    answer = live.client.post("/api/bars", files={"file": (f"{script}.csv", text)}, data={"symbol": "<b>x</b>"})
    assert answer.status_code == 201, answer.text
    bars = answer.json()
    assert answer.headers["content-type"] == JSON
    job = live.client.post("/api/forecasts", json={**QUICK, "bars": bars["id"], "symbol": "<b>x</b>"}).json()
    assert live.end(job["id"])["status"] == "done"
    page = live.client.get(f"/api/forecasts/{job['id']}/download", params={"format": "html"})
    assert "attachment" in page.headers["content-disposition"]
    assert "<b>x</b>" not in page.text
    assert script not in page.text
    json.loads(live.client.get(f"/api/forecasts/{job['id']}/result").text)
    live.client.delete(f"/api/forecasts/{job['id']}")
    live.client.delete(f"/api/bars/{bars['id']}")
