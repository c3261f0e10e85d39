"""The quick start of the published implementation; only the import differs.

With a network, take the published weights: `NeoQuasar/Kronos-Tokenizer-base` and `NeoQuasar/Kronos-small`.
"""

import sys

from kronos import Kronos, KronosPredictor, KronosTokenizer
from kronos.bars import sample_bars

tokenizer_name, model_name = sys.argv[1:3] if len(sys.argv) > 2 else ("kronos-nano", "kronos-nano")
tokenizer = KronosTokenizer.from_pretrained(tokenizer_name)
model = Kronos.from_pretrained(model_name)
predictor = KronosPredictor(model, tokenizer, max_context=512)

df = sample_bars("sp500").rename(columns={"timestamp": "timestamps"})
lookback, pred_len = 400, 120

x_df = df.loc[: lookback - 1, ["open", "high", "low", "close", "volume", "amount"]]
x_timestamp = df.loc[: lookback - 1, "timestamps"]
y_timestamp = df.loc[lookback : lookback + pred_len - 1, "timestamps"]

pred_df = predictor.predict(
    df=x_df,
    x_timestamp=x_timestamp,
    y_timestamp=y_timestamp,
    pred_len=pred_len,
    T=1.0,
    top_p=0.9,
    sample_count=1,
)
print(pred_df.head())
