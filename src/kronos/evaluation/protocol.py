"""Moved to :mod:`kronos.protocol`; the names stay importable here."""

from kronos.protocol import *  # noqa: F403
