"""Prices alone: volume and amount are read as 0, and the forecast's volumes mean nothing."""

from kronos import KronosPredictor, read_bars
from kronos.bars import sample_bars

prices = sample_bars("sp500")[["timestamp", "open", "high", "low", "close"]]
bars = read_bars(prices)
print("volume known:", bool(bars["volume"].any()))

forecast = KronosPredictor.from_pretrained("kronos-nano").forecast(bars, horizon=12, num_samples=50)
print(forecast.quantile([0.1, 0.5, 0.9])["close"].unstack().round(2))
