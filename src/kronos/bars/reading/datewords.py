"""Dates with the words of other languages: weekdays cut off, months and times of day in English.

Only what the plain reading of dates cannot take comes here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_WEEKDAYS: Final = (
    r"(?:星期|周|週|礼拜|禮拜)[一二三四五六日天]",
    r"[月火水木金土日]曜日?",
    r"[월화수목금토일]요일",
    r"[（(][一二三四五六日天月火水木金土월화수목금토일][）)]",
    r"(?<=[\d\s,，])[一二三四五六](?=[\s,，]|$)|(?<=[\s,，])[日天月火水木金土월화수목금토일](?=[\s,，]|$)",
    # Monday to Sunday in English, German, French, Spanish, Italian, Portuguese and Russian, whole or short
    r"\b(?:mon|tue|tues|wed|weds|thu|thur|thurs|fri|sat|sun)(?:day|sday|nesday|rsday|urday)?\b\.?",
    r"\b(?:mo|di|mi|do|fr|sa|so)\b\.?|\b(?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag)\b",
    # only in front: 12 mar 2024 is a day of March
    r"^\s*(?:lun|mar|mer|jeu|ven|sam|dim)(?:di|credi|redi|edi|anche)?\b\.?",
    r"^\s*(?:lun|mar|mié|mie|jue|vie|sáb|sab|dom)(?:es|tes|rcoles|ércoles|ves|rnes|ado|ingo)?\b\.?",
    r"\b(?:luned|marted|mercoled|gioved|venerd)[iì]\b|\b(?:gio|sabato|domenica)\b\.?",
    r"\b(?:segunda|terça|terca|quarta|quinta|sexta)(?:-feira)?\b|\b(?:seg|ter|qua|qui|sex)\b\.?",
    r"\b(?:пн|вт|ср|чт|пт|сб|вс)\b\.?|\b(?:понедельник|вторник|среда|четверг|пятница|суббота|воскресенье)\b",
)
_MONTHS: Final = {
    "jan": "jän|janv|janvier|januar|jänner|ene|enero|gen|gennaio|janeiro|янв|января|январь",
    "feb": "fév|févr|fevr|février|februar|febrero|febbraio|fev|fevereiro|фев|февр|февраля|февраль",
    "mar": "mär|mrz|märz|maerz|mars|marzo|março|marco|мар|марта|март",
    "apr": "avr|avril|abr|abril|aprile|апр|апреля|апрель",
    "may": "mai|mayo|mag|maggio|maio|мая|май",
    "jun": "juin|juni|junio|giu|giugno|junho|июн|июня|июнь",
    "jul": "juil|juillet|juli|julio|lug|luglio|julho|июл|июля|июль",
    "aug": "août|aout|agosto|ago|авг|августа|август",
    "sep": "sept|septembre|septiembre|set|settembre|setembro|сен|сент|сентября|сентябрь",
    "oct": "okt|oktober|octobre|octubre|ott|ottobre|out|outubro|окт|октября|октябрь",
    "nov": "novembre|noviembre|novembro|ноя|нояб|ноября|ноябрь",
    "dec": "dez|dezember|déc|décembre|decembre|dic|diciembre|dicembre|dezembro|дек|декабря|декабрь",
}
_SHORT: Final = {word: month for month, words in _MONTHS.items() for word in words.split("|")}
_MONTH: Final = re.compile(rf"\b(?:{'|'.join(sorted(_SHORT, key=len, reverse=True))})\b\.?", re.IGNORECASE)
_WEEKDAY: Final = re.compile("|".join(_WEEKDAYS), re.IGNORECASE)
_SPELLED: Final = (
    (re.compile(r"\s*(?:年|년)\s*"), "-"),
    (re.compile(r"\s*(?:月|월)\s*(?=\d)"), "-"),
    (re.compile(r"(?<=\d)\s*(?:日|일|г\.?)"), " "),
    (re.compile(r"(?<=\d)\s*(?:时|時|시|点|點|h)\s*(?=\d)"), ":"),
    (re.compile(r"(?<=\d)\s*(?:分|분)\s*(?=\d)"), ":"),
    (re.compile(r"(?<=\d)\s*(?:时|時|시|点|點)(?!\d)"), ":00"),
    (re.compile(r"(?<=\d)\s*(?:分|분|秒|초)"), ""),
    (re.compile(r"\bde\b|\bum\b|\bà\b|(?<=\d)(?:er|st|nd|rd|th)\b", re.IGNORECASE), " "),
    (re.compile(r"[\s,，]+$|^[\s,，]+"), ""),
    (re.compile(r"\s{2,}"), " "),
)
_HALVES: Final = re.compile(r"(上午|下午|午前|午後|오전|오후)\s*(\d{1,2}:\d{2}(?::\d{2})?)")
_AFTERNOON: Final = ("下午", "午後", "오후")


def in_plain_words(text: Any) -> Any:
    """The cells of a column of dates without weekdays, with English months and with plain signs between numbers."""
    codes = pc.dictionary_encode(text)  # days repeat in intraday bars, and each is rewritten once
    plain = [_rewritten(cell) for cell in codes.dictionary.to_pylist()]
    return pc.take(pa.array(plain, type=pa.string()), codes.indices)


def _rewritten(cell: str) -> str:
    cell = _WEEKDAY.sub(" ", cell)
    cell = _MONTH.sub(lambda found: _SHORT[found[0].rstrip(".").lower()], cell)
    for pattern, plain in _SPELLED:
        cell = pattern.sub(plain, cell)
    half = _HALVES.search(cell)
    return _HALVES.sub(rf"\2 {'PM' if half[1] in _AFTERNOON else 'AM'}", cell).strip() if half else cell.strip()
