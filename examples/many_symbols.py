"""A batch of symbols, of unequal length, ranked by the volatility ahead, with positions of equal risk."""

from kronos import KronosPredictor
from kronos.bars import sample_bars

tables = {
    "SP500": sample_bars("sp500"),
    "NASDAQ": sample_bars("nasdaq").tail(300),  # a shorter history is no trouble
    "EURUSD": sample_bars("eurusd").tail(700),  # nor is another bar size
}
predictor = KronosPredictor.from_pretrained("kronos-nano")
rows = []
for symbol, forecast in predictor.forecast_many(tables, horizon=12, num_samples=50, seed=0):
    ahead = forecast.volatility().iloc[-1]  # a year's, so that bars of a day and of an hour compare
    low, high = (forecast.quantile(level)["close"].iloc[-1] / forecast.last_close - 1 for level in (0.05, 0.95))
    touch = forecast.prob_touch(0.98 * forecast.last_close, by=12)
    rows.append((ahead["expected"], ahead["context"], symbol, low, high, touch))

print(f"{'symbol':8} {'vol ahead':>9} {'so far':>7} {'90 % of the closes':>19} {'touches -2 %':>13} {'weight':>7}")
total = sum(1 / row[0] for row in rows)
for expected, context, symbol, low, high, touch in sorted(rows, reverse=True):
    band, weight = f"{low:+.2%} … {high:+.2%}", 1 / expected / total  # half the volatility, twice the position
    print(f"{symbol:8} {expected:9.1%} {context:7.1%} {band:>19} {touch:13.0%} {weight:7.0%}")
