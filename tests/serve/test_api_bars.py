"""Bars over HTTP: samples, the user's folder, uploads; looking at them and their candles."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from serving import Live

from kronos.bars import inspect_bars, sample_bars

WRONG: list[dict[str, str]] = [
    {"dayfirst": "maybe"},
    {"decimal": ";"},
    {"epoch": "h"},
    {"on_defect": "ignore"},
    {"columns": "close"},
    {"columns": '{"close": [1]}'},
    {"colour": "red"},
    {"timezone": "Moon/Sea"},
]


def upload(live: Live, data: bytes | str, name: str = "bars.csv", **fields: str) -> httpx.Response:
    return live.client.post("/api/bars", files={"file": (name, data)}, data=fields)


def accepted(live: Live, data: bytes | str, name: str = "bars.csv", **fields: str) -> dict[str, Any]:
    answer = upload(live, data, name, **fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/bars/{found['id']}"
    return found


def table(rows: int = 120) -> pd.DataFrame:
    return sample_bars("sp500").tail(rows).drop(columns="symbol").reset_index(drop=True)


def test_the_list_has_samples_the_folder_and_uploads(live: Live) -> None:
    own = accepted(live, table().to_csv(index=False))
    items = {item["id"]: item for item in live.get("/api/bars")["items"]}
    assert {"sample-sp500", "sample-nasdaq", "sample-eurusd", own["id"]} <= items.keys()
    folder = {item["name"] for item in items.values() if item["source"] == "folder"}
    assert folder == {"plain.csv", "two.parquet"}
    assert items[own["id"]]["rows"] == 120
    assert str(live.data) not in str(items)


def test_the_report_is_the_librarys_own(live: Live) -> None:
    found = live.get("/api/bars/sample-eurusd")
    own = inspect_bars("sample:eurusd").to_dict()
    for key in ("layout", "rows", "first", "last", "frequency", "timezone", "calendar", "symbol", "warnings"):
        assert found["report"][key] == own[key]
    assert "source" not in found["report"]  # a path
    assert len(found["preview"]) == 10
    assert found["preview"][0]["timestamp"] == own["first"]
    assert found["preview"][-1]["timestamp"] == own["last"]


def test_candles_page_backwards(live: Live) -> None:
    bars = sample_bars("sp500")
    page = live.get("/api/bars/sample-sp500/candles", limit=100)
    assert page["total"] == len(bars)
    assert page["close"] == bars["close"].tail(100).tolist()
    assert page["frequency"] == "1d"
    before = live.get("/api/bars/sample-sp500/candles", limit=50, before=page["timestamp"][0])
    assert before["close"] == bars["close"].iloc[-150:-100].tolist()
    first = live.get("/api/bars/sample-sp500/candles", before="1990-01-01")
    assert first["close"] == []


def test_several_symbols_need_a_choice(live: Live) -> None:
    two = next(item["id"] for item in live.get("/api/bars")["items"] if item["name"] == "two.parquet")
    assert live.get(f"/api/bars/{two}")["symbols"] == ["AAA", "BBB"]
    answer = live.client.get(f"/api/bars/{two}/candles")
    assert answer.status_code == 422
    assert "AAA, BBB" in answer.json()["error"]["message"]
    assert live.get(f"/api/bars/{two}/candles", symbol="BBB")["total"] == 300
    assert live.get(f"/api/bars/{two}", symbol="AAA")["report"]["rows"] == 300
    assert "CCC" in live.client.get(f"/api/bars/{two}", params={"symbol": "CCC"}).json()["error"]["message"]
    assert "choose one" in live.refused(422, bars=two)
    assert live.result(bars=two, symbol="BBB")["input"]["symbol"] == "BBB"


@pytest.mark.parametrize("form", ["csv", "parquet", "feather", "csv.gz"])
def test_uploads_of_every_form(live: Live, form: str) -> None:
    bars, out = table(), io.BytesIO()
    if form == "parquet":
        bars.to_parquet(out, index=False)
    elif form == "feather":
        bars.to_feather(out)
    else:
        bars.to_csv(out, index=False, compression="gzip" if form.endswith("gz") else None)
    found = accepted(live, out.getvalue(), f"mine.{form}")
    candles = live.get(f"/api/bars/{found['id']}/candles")
    np.testing.assert_allclose(candles["close"], bars["close"])
    assert live.result(bars=found["id"])["history"]["close"][-1] == bars["close"].iloc[-1]
    assert live.client.delete(f"/api/bars/{found['id']}").status_code == 204
    assert live.client.get(f"/api/bars/{found['id']}").status_code == 404


def test_an_upload_whose_text_arrow_reads(own_server: Callable[..., Live]) -> None:
    """Arrow's threads and memory fit in what the reader of uploads may have, also in its first file."""
    out = io.BytesIO()
    sample_bars("sp500").tail(80).to_parquet(out)
    assert accepted(own_server(), out.getvalue(), "mine.parquet")["rows"] == 80


def test_reading_options_decide_and_are_checked(live: Live) -> None:
    days = pd.date_range("2024-01-01", periods=12)
    text = "date,open,high,low,close\n" + "".join(f"{day:%d/%m/%Y},1,2,1,2\n" for day in days)
    refusal = upload(live, text)
    assert refusal.status_code == 422
    assert "dayfirst" in refusal.json()["error"]["message"]
    found = accepted(live, text, dayfirst="true", symbol="ABC", timezone="Asia/Shanghai")
    assert found["symbols"] == ["ABC"]
    assert found["report"]["first"] == "2024-01-01T00:00:00+08:00"
    for fields in WRONG:
        assert upload(live, text, **fields).status_code == 422


def test_rows_that_run_newest_first(live: Live) -> None:
    bars = table()
    text = bars[::-1].to_csv(index=False)
    assert "newest first" in upload(live, text, newest_first="false").json()["error"]["message"]
    for fields in ({}, {"newest_first": "true"}):
        found = accepted(live, text, **fields)
        assert found["report"]["first"] == bars["timestamp"].iloc[0].isoformat()
        assert "rows run newest first: reversed" in found["report"]["notes"]
    assert upload(live, text, newest_first="perhaps").status_code == 422


def test_workbooks_and_json_are_taken(live: Live) -> None:
    bars = table()
    book = io.BytesIO()
    bars.assign(timestamp=bars["timestamp"].dt.tz_localize(None)).to_excel(book, index=False)
    texts = (book.getvalue(), bars.to_json(orient="records", date_format="iso"))
    for content in texts:
        assert accepted(live, content)["report"]["rows"] == len(bars)


def test_defective_rows_are_left_out_on_request(live: Live) -> None:
    bars = table()
    bars.loc[7, "high"] = 1.0
    text = bars.to_csv(index=False)
    assert "on_defect: drop" in upload(live, text).json()["error"]["message"]
    found = accepted(live, text, on_defect="drop")
    assert found["rows"] == 119
    assert found["report"]["defects"][0]["count"] == 1


def test_columns_can_be_named(live: Live) -> None:
    text = table().to_csv(index=False).replace("close", "Kurs").replace("open", "Beginn")
    assert upload(live, text).status_code == 422
    named = json.dumps({"open": "Beginn", "close": 4})
    assert accepted(live, text, columns=named)["rows"] == 120


def test_a_refusal_names_the_file_as_its_owner_does(live: Live) -> None:
    bars = table()
    bars.loc[7, "high"] = 1.0
    before = live.files()
    answer = upload(live, bars.to_csv(index=False), "my own prices.csv")
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message.startswith("my own prices.csv")
    assert "9" in message  # the line in the file
    assert live.files() == before


def test_only_uploads_are_deleted(live: Live) -> None:
    for id in ("sample-sp500", next(i["id"] for i in live.get("/api/bars")["items"] if i["name"] == "plain.csv")):
        assert live.client.delete(f"/api/bars/{id}").status_code == 409
    assert (live.data / "bars" / "plain.csv").exists()


def test_links_out_of_the_folder_and_hidden_files_are_not_listed(live: Live) -> None:
    folder = live.data / "bars"
    secret = live.data.parent / "secret.csv"
    table().to_csv(secret, index=False)
    (folder / "link.csv").symlink_to(secret)
    (folder / "away").symlink_to(live.data.parent)
    table().to_csv(folder / ".hidden.csv", index=False)
    (folder / "loop.csv").symlink_to("loop.csv")
    names = {item["name"] for item in live.get("/api/bars")["items"] if item["source"] == "folder"}
    for name in ("link.csv", "away", ".hidden.csv", "loop.csv"):
        (folder / name).unlink()
    assert names == {"plain.csv", "two.parquet"}


def test_bars_that_are_gone(live: Live) -> None:
    path = live.data / "bars" / "brief.csv"
    table().to_csv(path, index=False)
    id = next(item["id"] for item in live.get("/api/bars")["items"] if item["name"] == "brief.csv")
    assert live.get(f"/api/bars/{id}")["rows"] == 120
    path.unlink()
    assert live.client.get(f"/api/bars/{id}").status_code == 404


def test_a_file_that_changes_is_read_again(live: Live) -> None:
    path = live.data / "bars" / "growing.csv"
    table(100).to_csv(path, index=False)
    id = next(item["id"] for item in live.get("/api/bars")["items"] if item["name"] == "growing.csv")
    assert live.get(f"/api/bars/{id}/candles")["total"] == 100
    table(110).to_csv(path, index=False)
    assert live.get(f"/api/bars/{id}/candles")["total"] == 110
    assert live.get(f"/api/bars/{id}")["rows"] == 110
    path.unlink()
