"""Headers, encodings and numbers of nine languages; words around a table are told, not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_files import daily

from kronos.bars import read_bars
from kronos.bars.reading.words import ALIASES, SPARE, normal
from kronos.errors import DataError

HEADERS = {
    "German": ("Datum;Eröffnung;Hoch;Tief;Schluss;Volumen", "cp1252"),
    "German, broker": ("Datum;Erster;Hoch;Tief;Schlußkurs;Stücke", "cp1252"),
    "French": ("Date;Ouverture;Plus haut;Plus bas;Clôture;Volume", "cp1252"),
    "French, investing": ("Date;Ouv.; Plus Haut;Plus Bas;Dernier;Vol.", "cp1252"),
    "Spanish": ("Fecha;Apertura;Máximo;Mínimo;Cierre;Volumen", "cp1252"),
    "Spanish, investing": ("Fecha;Apertura;Máximo;Mínimo;Último;Vol.", "cp1252"),
    "Italian": ("Data;Apertura;Massimo;Minimo;Chiusura;Volume", "cp1252"),
    "Portuguese": ("Data;Abertura;Máxima;Mínima;Fechamento;Volume", "cp1252"),
    "Russian": ("Дата;Открытие;Максимум;Минимум;Закрытие;Объём", "cp1251"),
    "Russian, investing": ("Дата;Откр.;Макс.;Мин.;Цена;Объём", "cp1251"),
    "Japanese": ("日付;始値;高値;安値;終値;出来高", "cp932"),
    "Japanese, EUC": ("日付;始値;高値;安値;終値;出来高", "euc-jp"),
    "Korean": ("날짜;시가;고가;저가;종가;거래량", "euc-kr"),
    "simplified": ("日期;开盘价(元);最高价(元);最低价(元);收盘价(元);成交量(股)", "gb18030"),
    "traditional": ("日期;開盤價;最高價;最低價;收盤價;成交股數", "big5"),
    "Polish": ("Data;Otwarcie;Najwyższy;Najniższy;Zamknięcie;Wolumen", "utf-8"),
}


def body(mark: str = ",", rows: int = 40) -> tuple[pd.DataFrame, list[list[str]]]:
    """Bars, and their cells as text."""
    bars = daily().head(rows).copy()
    for name in ("open", "high", "low", "close"):
        bars[name] = bars[name].round(2)
    stamps = bars["timestamp"].dt.strftime("%Y-%m-%d").tolist()
    values = bars[["open", "high", "low", "close"]].map("{:.2f}".format).to_numpy().tolist()
    return bars, [
        [stamp, *(cell.replace(".", mark) for cell in row), str(int(volume))]
        for stamp, row, volume in zip(stamps, values, bars["volume"])
    ]


def read(folder: Path, header: str, rows: list[list[str]], encoding: str = "utf-8", **options: object) -> pd.DataFrame:
    """What is read from a file of these cells."""
    path = folder / "a.csv"
    path.write_bytes("\n".join([header, *map(";".join, rows), ""]).encode(encoding))
    return read_bars(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(HEADERS))
@pytest.mark.parametrize("own", [True, False])
def test_headers_of_languages_and_their_encodings(name: str, own: bool, tmp_path: Path) -> None:
    header, encoding = HEADERS[name]
    bars, rows = body()
    found = read(tmp_path, header, rows, encoding if own else "utf-8")
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(found[column], bars[column])
    if own and encoding != "utf-8" and not header.isascii():
        assert f"encoding {encoding}" in found.attrs["report"].notes


@pytest.mark.parametrize("encoding", ["cp1251", "big5", "cp932", "euc-kr", "gb18030"])
def test_other_columns_in_other_orders(encoding: str, tmp_path: Path) -> None:
    header = next(header for header, written in HEADERS.values() if written == encoding)
    bars, rows = body()
    names = header.split(";")
    order = [3, 0, 4, 1, 2]
    found = read(tmp_path, ";".join(names[k] for k in order), [[row[k] for k in order] for row in rows], encoding)
    np.testing.assert_allclose(found["close"], bars["close"])
    np.testing.assert_allclose(found["low"], bars["low"])


def test_names_are_written_as_they_are_looked_up() -> None:
    for aliases in (*ALIASES.values(), *SPARE.values()):
        for alias in aliases:
            assert normal(alias) == alias


def test_pieces_beside_money(tmp_path: Path) -> None:
    bars, rows = body()
    rows = [[*row[:5], "7777777", row[5]] for row in rows]
    for header in (
        "Datum;Erster;Hoch;Tief;Schlusskurs;Volumen;Stuecke",
        "Data;Abertura;Máximo;Mínimo;Fechamento;Volume;Quantidade",
    ):
        found = read(tmp_path, header, rows)
        np.testing.assert_allclose(found["volume"], bars["volume"])
        assert (found["amount"] == 7777777).all()


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.2k", "3.5M", "2B", "1.5T"], [1.2e3, 3.5e6, 2e9, 1.5e12]),
        (["985.30K", "1,210.5M", "7", "12"], [985300, 1210.5e6, 7, 12]),
        (["1,2 Mio", "3 Mrd.", "900 Tsd.", "5"], [1.2e6, 3e9, 9e5, 5]),
        (["1,2 млн", "3 млрд", "900 тыс.", "5"], [1.2e6, 3e9, 9e5, 5]),
        (["1.2万", "3亿", "500", "1.5萬"], [12000, 3e8, 500, 15000]),
        (["1.2만", "3억", "500", "7"], [12000, 3e8, 500, 7]),
        (["2,412083e+06", "1,1E+05", "3e+02", "7,5"], [2412083, 110000, 300, 7.5]),
        (["1'234'567", "12'345", "999", "0"], [1234567, 12345, 999, 0]),
        (["1’234’567", "12’345", "999", "0"], [1234567, 12345, 999, 0]),
        (["1 234 567", "12 345", "999", "0"], [1234567, 12345, 999, 0]),
        (["$1,234,567", "$12,345.5", "$9", "$0"], [1234567, 12345.5, 9, 0]),
        (["R$ 5", "HK$6", "₩7", "8 руб."], [5, 6, 7, 8]),
        (["5 CHF", "6円", "7 zł", "8元"], [5, 6, 7, 8]),
    ],
)
def test_numbers_as_people_write_them(cells: list[str], values: list[float], tmp_path: Path) -> None:
    _, rows = body("," if any("," in cell and "." not in cell and "$" not in cell for cell in cells) else ".", 4)
    found = read(tmp_path, "date;open;high;low;close;volume", [[*row[:5], cell] for row, cell in zip(rows, cells)])
    np.testing.assert_allclose(found["volume"], values)


def test_swiss_prices_and_percent_columns(tmp_path: Path) -> None:
    bars, rows = body(".")
    swiss = [[row[0], *(f"CHF {cell[0]}'{cell[1:]}" for cell in row[1:5]), row[5], "-0.52%"] for row in rows]
    found = read(tmp_path, "Datum;Eröffnung;Hoch;Tief;Schluss;Volumen;Veränderung %", swiss)
    np.testing.assert_allclose(found["close"], [float(row[4]) for row in rows])
    assert found.attrs["report"].left_out == ("Veränderung %",)
    assert len(bars) == len(found)


def test_a_share_is_no_price(tmp_path: Path) -> None:
    _, rows = body()
    with pytest.raises(DataError, match="no column for close"):
        read(tmp_path, "date;open;high;low;Close (%);volume", rows)


# -- around the table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_lines_around_the_table_are_told(encoding: str, tmp_path: Path) -> None:
    bars, rows = body()
    header = "600000 浦发银行 日线 前复权\n\n日期;开盘;最高;最低;收盘;成交量"
    found = read(tmp_path, header, [*rows, ["数据来源:通达信"]], encoding)
    assert len(found) == len(bars)
    notes = found.attrs["report"].notes
    assert "1 line above the table left out: '600000 浦发银行 日线 前复权'" in notes
    assert "1 line below the table left out: '数据来源:通达信'" in notes


@pytest.mark.parametrize(
    "tail",
    [["Source: my broker"], ["Source: my broker", "", "", "", "", ""], ["# as of 2024-05-06", "in EUR"], ["* Quelle"]],
)
def test_source_lines(tail: list[str], tmp_path: Path) -> None:
    bars, rows = body()
    found = read(tmp_path, "date;open;high;low;close;volume", [*rows, tail])
    assert len(found) == len(bars)
    assert any("below the table" in note for note in found.attrs["report"].notes)


@pytest.mark.parametrize("tail", [["2018-05-06", "10"], ["6 Jan 20"], ["Jan 6"], ["2018-05-06", "", "", "", "", ""]])
def test_a_cut_or_empty_last_row_is_no_source(tail: list[str], tmp_path: Path) -> None:
    _, rows = body()
    with pytest.raises(DataError, match=f"row {len(rows) + 2}"):
        read(tmp_path, "date;open;high;low;close;volume", [*rows, tail])
