"""From forecasts to portfolios: Qlib's data format, data sets, signals, TopkDropout with costs, and the report.

The only room that knows Qlib. Nothing of inference is imported: signals come from any
:class:`~kronos.protocol.Forecaster`.
"""
