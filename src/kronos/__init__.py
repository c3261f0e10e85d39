"""Kronos."""
