"""From a CSV to a forecast, a chart and a table.

python forecast_one_file.py [BARS.csv]
"""

import sys

from kronos import KronosPredictor, read_bars

bars = read_bars(sys.argv[1] if len(sys.argv) > 1 else "sample:sp500")
print(bars.attrs["report"].layout, bars.attrs["report"].frequency, len(bars), "bars until", bars["timestamp"].iloc[-1])

predictor = KronosPredictor.from_pretrained("kronos-nano")
forecast = predictor.forecast(bars, horizon=24, num_samples=100, seed=0)

last = forecast.last_close
low, high = (forecast.quantile(level)["close"].iloc[-1] for level in (0.05, 0.95))
print(f"Close in 24 bars, now {last:,.2f}: nine times in ten between {low:,.2f} and {high:,.2f}")
cone = forecast.volatility().iloc[-1]
print(f"Volatility a year: {cone['expected']:.1%} ahead, {cone['context']:.1%} so far")
print(f"Loss that 95 % of the paths stay within: {forecast.value_at_risk(0.95):.1%}")

# What is touched on the way needs the highs and lows of whole paths, not quantiles of single bars.
chance, error = forecast.prob_touch(0.95 * last, by=24, error=True)
print(f"Chance to trade 5 % lower on the way: {chance:.0%} ± {100 * error:.0f}")
first = forecast.first_touch(take_profit=1.06 * last, stop_loss=0.97 * last)
print(f"6 % higher before 3 % lower: {first.loc['profit', 'chance']:.0%} ± {100 * first.loc['profit', 'error']:.0f}")
if not forecast.mirrored:  # kronos-nano gives no direction
    chance, error = forecast.prob_up(error=True).iloc[-1]
    print(f"Chance of a rise: {chance:.0%} ± {100 * error:.0f}")

for name in ("forecast.html", "forecast.csv"):
    print("Wrote", forecast.save(name))
