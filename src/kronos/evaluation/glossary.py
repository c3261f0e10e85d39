"""What a report shows of each task, and what every name in it means."""

from __future__ import annotations

#: Column title → (key in the figures, digits); a key that holds an interval shows it.
COLUMNS: dict[str, list[tuple[str, str, int]]] = {
    "price": [
        ("CRPS / yardstick", "crps_ratio", 3),
        ("CRPS [σ]", "crps", 3),
        ("MAE [σ]", "mae", 3),
        ("MASE", "mase", 2),
        ("energy [σ]", "energy", 3),
        ("covers 50 %", "coverage_50", 3),
        ("80 %", "coverage_80", 3),
        ("90 %", "coverage_90", 3),
        ("width 90 % [σ]", "width_90", 2),
        ("PIT KS", "pit_ks", 3),
        ("price IC", "price_ic", 3),
        ("price RankIC", "price_rank_ic", 3),
        ("first gap [σ]", "first_open_gap", 3),
        ("invalid", "invalid_bars", 4),
        ("nats / bar", "nats_per_bar", 3),
        ("fallbacks", "fallbacks", 3),
    ],
    "return": [
        ("IC per date", "ic", 3),
        ("t (Newey–West)", "ic_t", 2),
        ("RankIC per date", "rank_ic", 3),
        ("t", "rank_ic_t", 2),
        ("dates", "dates", 0),
        ("pooled IC", "pooled_ic", 3),
        ("pooled RankIC", "pooled_rank_ic", 3),
        ("hit rate", "hit_rate", 3),
        ("slope on past", "slope_on_past", 3),
        ("true slope", "true_slope_on_past", 3),
    ],
    "volatility": [
        ("QLIKE", "qlike", 3),
        ("R²", "r2", 3),
        ("MAE", "mae", 5),
        ("log correlation", "log_correlation", 3),
        ("raw", "log_correlation_raw", 3),
        ("log bias", "bias", 3),
    ],
    "investment": [
        ("excess a year", "excess", 3),
        ("t (Newey–West)", "excess_t", 2),
        ("information ratio", "information_ratio", 2),
        ("return a year", "annual_return", 3),
        ("largest drawdown", "max_drawdown", 3),
        ("turnover a day", "turnover", 3),
        ("sessions", "sessions", 0),
    ],
    "generation": [
        ("discriminative score", "score", 3),
        ("accuracy", "accuracy", 3),
        ("± (binomial)", "accuracy_error", 3),
        ("TSTR / TRTR", "ratio", 3),
        ("kurtosis", "kurtosis", 2),
        ("tail index", "tail_index", 2),
        ("acf of returns", "acf_returns", 3),
        ("acf of squares", "acf_squares", 3),
        ("leverage", "leverage", 3),
        ("volume–volatility", "volume_volatility", 3),
    ],
}

LEGEND = {
    "price": "σ is the context's one-bar volatility of log closes. CRPS and energy score: fair estimators. Intervals: "
    "type-6 sample quantiles. Small print: 95 % interval, bootstrap of clusters (market × block of time).",
    "return": "IC across the symbols of a date needs five symbols and eight dates; otherwise only the pooled figures "
    "are shown. The pooled ones mix time and cross-section: read them with care.",
    "volatility": "Realised over the horizon from closes. The log correlation is of realised over usual volatility, so "
    "that knowing which symbol is wild earns nothing; “raw” includes that.",
    "investment": "TopkDropout on the mean predicted close of ten sessions ahead, a new signal every five, held for "
    "five at least, .15 % a trade, traded on the session after; excess over all names in equal shares, after cost.",
    "generation": "One sampled path per window against what came. Score: 1 − accuracy of an LSTM told to tell them "
    "apart, ½ is the best. TSTR / TRTR: error after training on synthetic over error after training on real; 1 is as "
    "good as real. Compare the facts with the row “real”. An accuracy well below ½ says that the network learnt its "
    "training dates by heart, not that the bars are better than real.",
}

#: A line for each column.
GLOSSARY: dict[str, str] = {
    "CRPS / yardstick": "distance of the sampled closes from what came, over that of the yardstick; below 1 is better",
    "CRPS [σ]": "distance of the sampled closes from what came, in typical moves of one bar; lower is better",
    "MAE [σ]": "distance of the median from what came, in typical moves of one bar",
    "MASE": "distance of the median from what came, over the usual change from bar to bar",
    "energy [σ]": "as CRPS, for open, high, low and close together",
    "covers 50 %": "share of what came inside the 50 % interval; it should be .500",
    "80 %": "the same of the 80 % interval",
    "90 %": "the same of the 90 % interval",
    "width 90 % [σ]": "width of the 90 % interval, in typical moves of one bar; narrow is good where it covers 90 %",
    "PIT KS": "largest distance between where truths fall among the paths and an even spread; 0 is calibrated",
    "price IC": "correlation of the mean path with what came, along the bars of a window",
    "price RankIC": "the same of their ranks",
    "first gap [σ]": "usual distance of the first forecast open from the last close, in typical moves of one bar",
    "invalid": "share of sampled bars that no market could print, such as a high below the close",
    "nats / bar": "surprise at the true bars, in nats; only for models that state likelihoods, not across tokenizers",
    "fallbacks": "share of windows on which GARCH could not be fitted and EWMA took its place",
    "IC per date": "correlation across symbols of forecast and true return, mean over dates",
    "RankIC per date": "the same of their ranks",
    "t (Newey–West)": "the mean over its error, where neighbouring dates depend on each other; 2 is about p .05",
    "t": "as before, for the RankIC",
    "pooled IC": "correlation over all symbols and dates at once; it mixes time and cross-section",
    "pooled RankIC": "the same of ranks",
    "hit rate": "share of forecasts whose median moves the way that the price did; ½ is chance",
    "slope on past": "move forecast per move of the past; below 0 is reversal, above 0 momentum",
    "true slope on past": "the same of what came",
    "QLIKE": "loss of a forecast variance against the realised one; 0 is perfect, lower is better",
    "R²": "share of the variation of realised volatility that is explained",
    "MAE": "distance of forecast and realised volatility, log return",
    "log correlation": "of forecast and realised volatility, each over the usual one of its symbol",
    "raw": "the same without dividing by the usual one, so that knowing the wild symbols counts",
    "log bias": "mean log of forecast over realised volatility; above 0 is too high",
}
