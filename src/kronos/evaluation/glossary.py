"""What a report shows of each task, and what every name in it means."""

from __future__ import annotations

from typing import NamedTuple

from kronos.evaluation.touches import MULTIPLES


class Column(NamedTuple):
    """A column of a task's table."""

    title: str
    key: str  # in the figures; one that holds an interval shows it
    digits: int
    meaning: str


COLUMNS: dict[str, list[Column]] = {
    "price": [
        Column("CRPS / yardstick", "crps_ratio", 3,
               "distance of the sampled closes from what came, over that of the yardstick; below 1 is better"),
        Column("CRPS [σ]", "crps", 3,
               "distance of the sampled closes from what came, in typical moves of one bar; lower is better"),
        Column("MAE [σ]", "mae", 3, "distance of the median from what came, in typical moves of one bar"),
        Column("MASE", "mase", 2, "distance of the median from what came, over the usual change from bar to bar"),
        Column("energy [σ]", "energy", 3, "as CRPS, for open, high, low and close together"),
        Column("covers 50 %", "coverage_50", 3, "share of what came inside the 50 % interval; it should be .500"),
        Column("80 %", "coverage_80", 3, "the same of the 80 % interval"),
        Column("90 %", "coverage_90", 3, "the same of the 90 % interval"),
        Column("width 90 % [σ]", "width_90", 2,
               "width of the 90 % interval, in typical moves of one bar; narrow is good where it covers 90 %"),
        Column("PIT KS", "pit_ks", 3,
               "largest distance between where truths fall among the paths and an even spread; 0 is calibrated"),
        Column("price IC", "price_ic", 3, "correlation of the mean path with what came, along the bars of a window"),
        Column("price RankIC", "price_rank_ic", 3, "the same of their ranks"),
        Column("first gap [σ]", "first_open_gap", 3,
               "usual distance of the first forecast open from the last close, in typical moves of one bar"),
        Column("invalid", "invalid_bars", 4,
               "share of sampled bars that no market could print, such as a high below the close"),
        Column("nats / bar", "nats_per_bar", 3,
               "surprise at the true bars, in nats; only for models that state likelihoods, not across tokenizers"),
        Column("fallbacks", "fallbacks", 3,
               "share of windows on which GARCH could not be fitted and EWMA took its place"),
    ],
    "return": [
        Column("IC per date", "ic", 3, "correlation across symbols of forecast and true return, mean over dates"),
        Column("t (Newey–West)", "ic_t", 2,
               "the mean over its error, where neighbouring dates depend on each other; 2 is about p .05"),
        Column("RankIC per date", "rank_ic", 3, "the same of their ranks"),
        Column("t", "rank_ic_t", 2, "as before, for the RankIC"),
        Column("dates", "dates", 0, "cutoffs at which enough symbols could be ranked"),
        Column("pooled IC", "pooled_ic", 3,
               "correlation over all symbols and dates at once; it mixes time and cross-section"),
        Column("pooled RankIC", "pooled_rank_ic", 3, "the same of ranks"),
        Column("hit rate", "hit_rate", 3,
               "share of forecasts whose median moves the way that the price did; ½ is chance"),
        Column("slope on past", "slope_on_past", 3,
               "move forecast per move of the past; below 0 is reversal, above 0 momentum"),
        Column("true slope", "true_slope_on_past", 3, "the same of what came"),
    ],
    "volatility": [
        Column("QLIKE", "qlike", 3,
               "loss of a forecast variance against the realised one; 0 is perfect, lower is better"),
        Column("R²", "r2", 3, "share of the variation of realised volatility that is explained"),
        Column("MAE", "mae", 5, "distance of forecast and realised volatility, log return"),
        Column("log correlation", "log_correlation", 3,
               "of forecast and realised volatility, each over the usual one of its symbol"),
        Column("raw", "log_correlation_raw", 3,
               "the same without dividing by the usual one, so that knowing the wild symbols counts"),
        Column("slope", "slope", 2,
               "Mincer and Zarnowitz's, of log realised on log forecast volatility, each over the usual one; 1 is "
               "right, below 1 the forecasts are too far apart"),
        Column("intercept", "intercept", 3, "of the same line; a little below 0 is right where the slope is 1"),
        Column("log bias", "bias", 3, "mean log of forecast over realised volatility; well above .02 is too high"),
    ],
    "touch": [
        Column("Brier / yardstick", "brier_ratio", 3,
               "mean square of chance less what came (1 touched, 0 not), over the yardstick's; below 1 is better"),
        Column("Brier", "brier", 4, "the same, not divided; 0 is perfect"),
        *(Column(f"{side} {k:g}", f"brier_ratio_{side}_{round(100 * k):03d}", 3,
                 f"Brier over the yardstick's, of the barrier {k:g} σ √H {where} the last close")
          for k in MULTIPLES for side, where in (("up", "above"), ("down", "below"))),
        Column("chance − share", "excess_chance", 3,
               "mean chance of a touch less the share that was touched; above 0 touches are promised too often"),
        Column("first / yardstick", "first_ratio", 3,
               "Brier over the yardstick's, of which comes first: take profit 1 σ √H above or stop loss as far below"),
        Column("first Brier", "first_brier", 4, "the same, not divided"),
    ],
    "investment": [
        Column("excess a year", "excess", 3, "return after cost less that of all names in equal shares"),
        Column("t (Newey–West)", "excess_t", 2, "the mean daily excess over its error, as above"),
        Column("information ratio", "information_ratio", 2, "mean of the daily excess over its deviation, for a year"),
        Column("return a year", "annual_return", 3, "of the account after cost, compounded"),
        Column("largest drawdown", "max_drawdown", 3,
               "largest fall of the account from a peak, as a share of the peak"),
        Column("turnover a day", "turnover", 3, "bought and sold, as a share of the account"),
        Column("sessions", "sessions", 0, "that were traded"),
    ],
    "generation": [
        Column("discriminative score", "score", 3,
               "1 − accuracy, at most ½, which is the best: sampled bars cannot be told from real ones"),
        Column("accuracy", "accuracy", 3,
               "share of later sequences that a network rightly calls real or sampled; ½ is a guess"),
        Column("± (binomial)", "accuracy_error", 3, "standard error of the accuracy"),
        Column("TSTR / TRTR", "ratio", 3,
            "error on real bars after training on sampled ones, over that after training on real ones; 1 is the best"),
        Column("kurtosis", "kurtosis", 2,
               "of the moves, each sequence scaled alike; 3 is the normal's, above it tails are fat"),
        Column("tail index", "tail_index", 2, "Hill's, of the largest twentieth of the moves; smaller is fatter"),
        Column("acf of returns", "acf_returns", 3, "correlation of a move with the next ones; about 0 in markets"),
        Column("acf of squares", "acf_squares", 3,
               "the same of their squares; above 0 where wild bars follow wild ones"),
        Column("leverage", "leverage", 3,
               "correlation of a move with the squares of the next ones; below 0 where falls bring unrest"),
        Column("volume–volatility", "volume_volatility", 3, "correlation of a bar's volume with the size of its move"),
    ],
}  # fmt: skip

LEGEND = {
    "price": "σ is the context's one-bar volatility of log closes. CRPS and energy score: fair estimators. Intervals: "
    "type-6 sample quantiles. Small print: 95 % interval, bootstrap of clusters (market × block of time).",
    "return": "IC across the symbols of a date needs five symbols and eight dates; otherwise only the pooled figures "
    "are shown. The pooled ones mix time and cross-section: read them with care.",
    "volatility": "Realised over the horizon from closes. The log correlation is of realised over usual volatility, so "
    "that knowing which symbol is wild earns nothing; “raw” includes that.",
    "touch": "Barriers stand .5, 1 and 1.5 times σ √H above and below the last close, H the bars ahead; highs and lows "
    "touch them. Fair Brier scores. Where one bar touches take profit and stop loss, neither is known to be first.",
    "investment": "TopkDropout on the mean predicted close of ten sessions ahead, a new signal every five, held for "
    "five at least, .15 % a trade, traded on the session after; excess over all names in equal shares, after cost.",
    "generation": "One sampled path per window against what came. Score: 1 − accuracy of an LSTM told to tell them "
    "apart, ½ is the best. TSTR / TRTR: error after training on synthetic over error after training on real; 1 is as "
    "good as real. Compare the facts with the row “real”. An accuracy well below ½ says that the network learnt its "
    "training dates by heart, not that the bars are better than real.",
}
