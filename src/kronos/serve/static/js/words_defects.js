// What can be wrong with bars, or odd about them: [English, 中文].

export const DEFECTS = {
  "defect.gap": ["Bars are missing before these rows", "此前缺少K线"],
  "defect.zero_volume": ["No volume was traded", "成交量为零"],
  "defect.split_suspect": ["The price jumps by a ratio that looks like a split", "价格跳变比例疑似拆股"],
  "defect.empty_bar": ["All prices are missing: a suspended day, or a row without a bar", "价格全部缺失：停牌或空行"],
  "defect.halted_bar": ["Open, high and low are 0: nothing was traded", "开、高、低价为零：停牌或休市"],
  "defect.rounded_prices": ["Every price is 0: the source has probably rounded them", "价格全为零，可能被数据源四舍五入"],
  "defect.zero_open": ["The open is 0 beside real prices", "开盘价为零而其他价格正常"],
  "defect.negative_price": [
    "The price is negative: it can be real, but has no log returns, which models here read",
    "价格为负：可能真实，但无法计算对数收益率",
  ],
  "defect.forming_bar": [
    "A later row of the same time holds the bar as it was formed",
    "同一时间的后一行才是完整的K线",
  ],
  "defect.off_grid": ["The time lies a moment beside the minute that others keep", "时间与整分钟略有偏差"],
  "defect.price_limit": [
    "The price jumps by more than the exchange allows a day: a split, a rights issue, or a mistake",
    "价格跳变超过涨跌幅限制，疑似除权或错误",
  ],
  "defect.price_jump": [
    "The price jumps by half or more: a split, another unit, or a mistake",
    "价格跳变过大，疑似拆股、单位变化或错误",
  ],
  "defect.wild_bar": ["The price jumps and comes back: a wrong bar", "价格跳变后又恢复，疑似错误K线"],
  "defect.volume_step": [
    "The volume goes on in another size: its unit or source changed",
    "成交量量级突变，单位或来源可能已改变",
  ],
  "defect.tiny_volume": [
    "Less than one unit was traded where thousands are usual: the volume is broken",
    "成交量不足一个单位，而通常为数千，数据有误",
  ],
  "defect.suspended_day": [
    "Sessions at the close before with nothing traded: suspended, and filled by the source",
    "停牌日：价格沿用前收盘、成交量为零，由数据源填充",
  ],
  "defect.flat_filler": [
    "Bars repeat the close before and trade nothing: filler, or nobody traded",
    "K线重复前收盘且无成交：填充数据或无人交易",
  ],
  "defect.outside_session": ["The bar lies outside the trading sessions", "K线不在交易时段内"],
  "defect.dividend_suspect": [
    "The adjusted close changes its distance: a dividend or split",
    "复权价差变化，疑似分红或拆股",
  ],
  "defect.unparsable_time": ["The time cannot be read", "时间无法识别"],
  "defect.text_in_number": ["Text where a number is expected", "数字列中出现文字"],
  "defect.missing_price": ["A price is missing", "价格缺失"],
  "defect.infinite_price": ["A price is infinite or too large", "价格无穷大或过大"],
  "defect.nonpositive_price": ["A price is zero or negative", "价格为零或负数"],
  "defect.high_below_low": ["High is below low", "最高价低于最低价"],
  "defect.high_below_body": ["High is below open or close", "最高价低于开盘或收盘价"],
  "defect.low_above_body": ["Low is above open or close", "最低价高于开盘或收盘价"],
  "defect.negative_volume": ["Volume is negative", "成交量为负"],
  "defect.infinite_volume": ["Volume is infinite", "成交量无穷大"],
  "defect.negative_amount": ["Amount is negative", "成交额为负"],
  "defect.infinite_amount": ["Amount is infinite", "成交额无穷大"],
  "defect.duplicate_time": ["The time appeared before", "时间重复"],
  "defect.newest_first": ["The rows run newest first", "数据按时间倒序排列"],
  "defect.unsorted_time": ["The time is earlier than the row before", "时间早于上一行"],
  "defect.ragged_row": ["The row has another number of columns than the table", "该行列数与表格不符"],
  "defect.stray_row": ["The row is no bar: words where the rows below it hold numbers", "该行不是K线：下方各行为数字之处是文字"],
};
