"""A batch of symbols, of unequal length, ranked by the chance of a rise."""

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
    close = forecast.median()["close"].iloc[-1]
    rows.append((forecast.prob_up().iloc[-1], symbol, close / forecast.last_close - 1, forecast.value_at_risk(0.95)))

print(f"{'symbol':8} {'P(up)':>6} {'median':>8} {'VaR 95%':>8}")
for chance, symbol, move, risk in sorted(rows, reverse=True):
    print(f"{symbol:8} {chance:6.0%} {move:+8.2%} {risk:8.2%}")
