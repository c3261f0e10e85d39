"""What columns are called: English and the usual short forms, then the languages that people's files are written in.

Names are as ``normal`` makes them: no case, spaces, signs, brackets or accents. Within a role the likeliest come first;
the first that is present is taken, so a name that two roles share stands where the rarer meaning is, at the end.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": (
        "timestamp", "timestamps", "datetime", "opentime", "unix", "unixtime", "unixtimestamp", "epoch",
        "tradetime", "gmttime", "utctime", "timeutc", "dateutc", "datetimeutc", "localtime", "date", "time",
        "tradedate", "tradingdate", "day", "dt", "ts", "t", "ds", "begin", "begins", "bar", "eob", "bob",
        "datetimestamp", "timeperiodstart", "windowstart", "starttime", "start", "candletime", "ticks",
        "日期", "时间", "交易日期", "交易时间", "日期时间", "交易日", "日期時間", "時間", "交易時間",
        "datum", "zeit", "datumzeit", "zeitstempel", "handelstag",
        "dateheure", "horodatage", "heure",
        "fecha", "fechahora", "hora",
        "data", "dataora", "datahora", "ora", "datapregao",
        "дата", "датавремя", "время",
        "日付", "日時", "日付け", "年月日", "取引日", "時刻",
        "날짜", "일자", "일시", "거래일", "거래일자", "시간",
        "index", "",
    ),
    "symbol": (
        "symbol", "ticker", "tic", "instrument", "tscode", "code", "stockcode", "股票代码", "代码", "证券代码",
        "合约代码", "kdcode", "asset", "pair", "uniqueid", "sym", "secid", "orderbookid", "contract",
        "股票代號", "證券代號", "代號", "代碼", "symbole", "simbolo", "ativo", "тикер", "инструмент",
        "銘柄コード", "コード", "종목코드", "종목",
    ),
    "open": (
        "open", "openprice", "priceopen", "o", "开盘", "开盘价", "今开", "1open", "first", "openingprice",
        "開盤", "開盤價", "開市價", "eroffnung", "eroffnungskurs", "eroeffnung", "erster", "anfang",
        "ouverture", "ouv", "premier", "coursdouverture", "apertura", "precioapertura", "prezzoapertura", "abertura",
        "precoabertura", "abe", "открытие", "откр", "ценаоткрытия", "始値", "寄付", "시가", "오픈", "시작가",
        "otwarcie",
    ),
    "high": (
        "high", "highprice", "pricehigh", "h", "最高", "最高价", "2high", "max", "dayhigh",
        "最高價", "hoch", "hochst", "hochstkurs", "tageshoch", "hoechst", "haut", "plushaut", "leplushaut",
        "alto", "maximo", "massimo", "maxima", "максимум", "макс", "максимальнаяцена", "ценамакс", "高値", "고가",
        "최고가", "najwyzszy",
    ),
    "low": (
        "low", "lowprice", "pricelow", "l", "最低", "最低价", "3low", "min", "daylow",
        "最低價", "tief", "tiefst", "tiefstkurs", "tagestief", "bas", "plusbas", "leplusbas",
        "bajo", "basso", "baixo", "minimo", "minima", "минимум", "мин", "минимальнаяцена", "ценамин",
        "安値", "저가", "최저가", "najnizszy",
    ),
    "close": (
        "close", "closeprice", "priceclose", "c", "收盘", "收盘价", "4close", "closelast", "closingprice",
        "收盤", "收盤價", "收市價", "schluss", "schlusskurs", "cloture", "clot", "fermeture", "coursdecloture",
        "cierre", "preciocierre", "chiusura", "prezzochiusura", "fechamento", "precofechamento", "fecho", "закрытие",
        "закр", "ценазакрытия", "終値", "종가", "zamkniecie", "last", "price", "最新价", "letzter", "zuletzt",
        "dernier", "ultimo",
        "последняя", "цена", "現在値", "현재가",
    ),
    "volume": (
        "stucke", "stuecke", "quantidade",  # beside a Volumen or Volume that is then the money
        "volume", "vol", "v", "成交量", "5volume", "6volume", "tradevolume", "totalvolume", "basevolume",
        "volumefrom", "volumetraded", "baseassetvolume", "成交股数", "shares", "realvolume", "tickvol", "tickvolume",
        "成交股數", "成交數量", "成交數", "volumen", "volumi", "quantita", "объем", "объемторгов", "колво",
        "出来高", "売買高", "거래량", "wolumen",
    ),
    "amount": (
        "amount", "quoteassetvolume", "quotevolume", "quotevol", "成交额", "成交金额", "money", "volumeto", "value",
        "dollarvolume", "tradedvalue", "totalturnover", "turnover", "成交金額", "成交額", "montant", "capitaux",
        "importe", "efectivo", "controvalore", "financeiro", "оборот", "売買代金", "거래대금", "volumen", "volume",
    ),
}  # fmt: skip
"""Role → names of its column after ``normal``, the likeliest first; the first that is present is taken."""

SPARE: Final = {
    "tick_volume": ("tickvol", "tickvolume"),
    "adjusted": ("adjclose", "adjustedclose", "調整後終値", "复权收盘价"),
}
"""Columns that are read only to judge others: tick counts beside an empty volume, adjusted closes."""

WHOLE_TIMES: Final = (
    "timestamp", "timestamps", "datetime", "opentime", "unix", "unixtime", "unixtimestamp", "epoch", "tradetime",
    "gmttime", "日期时间", "日期時間", "日時", "일시", "datumzeit", "dateheure", "fechahora", "dataora", "datahora",
)  # fmt: skip
"""Names of a column that holds a date and a clock in one."""

CLOCK_NAMES: Final = (
    "time", "时间", "clock", "timeofday", "hour", "交易时间", "時間", "交易時間", "zeit", "uhrzeit", "heure", "hora",
    "ora", "время", "時刻", "시간",
)  # fmt: skip
DATE_NAMES: Final = (
    "date", "日期", "交易日期", "tradedate", "day", "dtyyyymmdd", "tradingday", "tradingdate", "交易日", "datum",
    "fecha", "data", "дата", "日付", "날짜", "일자",
)  # fmt: skip
UTC_NAMES: Final = ("gmttime", "utctime", "timeutc", "dateutc", "datetimeutc")

BLANKS: Final = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "none", "NA", "N/A", "n/a", "-", "--", "#N/A")
"""Cells that hold nothing."""

UNITS: Final = {
    "k": 1e3, "tsd": 1e3, "тыс": 1e3, "千": 1e3, "천": 1e3, "万": 1e4, "萬": 1e4, "만": 1e4, "m": 1e6, "mio": 1e6,
    "mln": 1e6, "mn": 1e6, "млн": 1e6, "百万": 1e6, "亿": 1e8, "億": 1e8, "억": 1e8, "b": 1e9, "bn": 1e9, "mrd": 1e9,
    "mld": 1e9, "млрд": 1e9, "t": 1e12, "трлн": 1e12, "兆": 1e12, "조": 1e12, "": 1.0,
}  # fmt: skip
"""What stands behind a number, or in the brackets of a header → its factor."""

_HEADER_UNITS: Final = {
    **{unit: factor for unit, factor in UNITS.items() if unit not in ("", "t")},  # t is tonnes
    "000": 1e3, "'000": 1e3, "000s": 1e3, "thousand": 1e3, "thousands": 1e3,
    "mil": 1e6, "million": 1e6, "millions": 1e6, "百萬": 1e6, "billion": 1e9, "billions": 1e9,
}  # fmt: skip
_HEADER_UNIT: Final = re.compile(
    r"(?:in\s+)?(?:(?:[a-z]{3}|[a-z]{0,2}[$€£¥￥₩₽])\s*)??(?P<unit>"
    + "|".join(sorted(_HEADER_UNITS, key=len, reverse=True))
    + r")\.?\s*(?:股|手|元|円|원|주|株|张|張|shares?|lots?|usdt?|eur|cny|rmb|hkd|руб|[$€£¥￥₩₽])?\.?"
)

_ACCENTS: Final = re.compile("[\u0300-\u036f]")
_SIGNS: Final = re.compile(r"[\s_\-./<>$\"'’()\[\]:#·：（）]+")
_UNNAMED: Final = re.compile(r"unnamed: ?\d+")
_BRACKETS: Final = re.compile(r"[(（\[【][^)）\]】]*[)）\]】]")


def normal(name: object) -> str:
    """A column name without case, spaces, signs, brackets and accents: ``<Open Price>`` → ``openprice``."""
    text = str(name).strip().strip("\ufeff").casefold()
    if not text.isascii():  # accents of Latin and Cyrillic letters alone; Hangul and kana are put together again
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    return "" if _UNNAMED.fullmatch(text) else _SIGNS.sub("", text)


def without_unit(name: object) -> str:
    """``normal`` without what stands in brackets: ``收盘价(元)`` → ``收盘价``; a share in per cent stays one."""
    text = str(name)
    return normal(text if "%" in text else _BRACKETS.sub("", text))


def header_unit(name: object) -> tuple[str, float]:
    """The unit in the brackets of a header, and its factor: ``Volume (K)`` → 1,000; 1 where there is none."""
    brackets = _BRACKETS.findall(str(name))
    inside = brackets[-1][1:-1].strip() if brackets else ""
    match = _HEADER_UNIT.fullmatch(inside.casefold())
    return (inside, _HEADER_UNITS[match["unit"]]) if match else ("", 1.0)
