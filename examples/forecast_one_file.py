"""From a CSV to a forecast, a chart and a table.

python forecast_one_file.py [BARS.csv]
"""

import sys

from kronos import KronosPredictor, read_bars

bars = read_bars(sys.argv[1] if len(sys.argv) > 1 else "sample:sp500")
print(bars.attrs["report"].layout, bars.attrs["report"].frequency, len(bars), "bars until", bars["timestamp"].iloc[-1])

predictor = KronosPredictor.from_pretrained("kronos-nano")
forecast = predictor.forecast(bars, horizon=24, num_samples=100, seed=0)

low, middle, high = (forecast.quantile([level])["close"].to_numpy()[-1] for level in (0.05, 0.5, 0.95))
print(f"Close in 24 bars: {middle:,.2f}, nine times in ten between {low:,.2f} and {high:,.2f}")
chance, error = forecast.prob_up(error=True).iloc[-1]
print(f"Chance of a rise: {chance:.0%} ± {100 * error:.0f}")
print(f"Loss that 95 % of the paths stay within: {forecast.value_at_risk(0.95):.1%}")

# Barriers need whole paths, not quantiles of single bars.
lows = forecast.samples[:, :, forecast.columns.index("low")]
print(f"Chance to trade 5 % lower on the way: {(lows.min(axis=1) < 0.95 * forecast.last_close).mean():.0%}")

for name in ("forecast.html", "forecast.csv"):
    print("Wrote", forecast.save(name))
