"""From forecasts to portfolios: Qlib's data format, data sets, signals, TopkDropout with costs, and the report.

The only room that knows Qlib. Nothing of inference is imported: whatever samples paths follows
:class:`~kronos.backtesting.signals.PathSampler` and is passed in.
"""
