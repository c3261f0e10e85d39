"""Judges any forecaster: metrics, baselines, rolling evaluation, intervals and a verdict in words.

Nothing of inference is imported here: a forecaster is whatever follows
:class:`~kronos.protocol.Forecaster`.
"""
