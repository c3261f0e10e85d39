// What the page says of a forecast's risk: [English, 中文].

export const RISK = {
  "risk.title": ["Risk", "风险"],
  "risk.hint": ["For someone who holds from the last close to the end.", "假设从最新收盘价持有至期末。"],
  "risk.few": [
    "Too few distinct paths were drawn for chances and risk.",
    "不同的路径太少，无法给出概率与风险指标。",
  ],
  "risk.up": ["Chance to stand above the last close", "高于最新收盘价的概率"],
  "risk.up.label": ["From {first} after the first bar to {last} at the end.", "首根后 {first}，期末 {last}。"],
  "risk.var": ["Value at risk, 95%", "在险价值（VaR 95%）"],
  "risk.var.text": [
    "In 19 futures of 20 the loss is no larger than {value}.",
    "二十种走势中有十九种的亏损不超过 {value}。",
  ],
  "risk.es": ["Expected shortfall, 95%", "预期损失（ES 95%）"],
  "risk.es.text": ["The mean loss in the worst twentieth of the futures.", "最差的二十分之一走势的平均亏损。"],
  "risk.range": ["Expected range", "预期波动区间"],
  "risk.range.text": [
    "The typical lowest and highest price on the way: {low} and {high}.",
    "期间最低价与最高价的中位数：{low} 与 {high}。",
  ],
  "risk.vol": ["Volatility", "波动率"],
  "risk.vol.text": [
    "Typical realised volatility over the whole horizon, not annualised.",
    "整个预测期内已实现波动率的中位数，未年化。",
  ],
  "risk.vol.year": ["Volatility a year", "年化波动率"],
  "risk.vol.year.text": [
    "Expected over the horizon; 90% of the futures lie between {low} and {high}. The context's own: {past}; by a HAR model: {har}. {counted}",
    "预测期内的期望值；90% 的走势介于 {low} 与 {high} 之间。历史行情自身为 {past}，HAR 模型预期为 {har}。{counted}",
  ],
  "risk.year.days": ["By {n} bars a year, round the clock.", "每年按 {n} 根K线计（全天候交易）。"],
  "risk.year.sessions": ["By {n} bars a year, in the sessions of the market.", "每年按 {n} 根K线计（按市场交易时段）。"],
  "risk.year.weeks": ["By {n} bars a year, in 52 weeks.", "每年按 {n} 根K线计（52 周）。"],
  "risk.year.months": ["By {n} bars a year, in 12 months.", "每年按 {n} 根K线计（12 个月）。"],
  "risk.year.seen": [
    "By {n} bars a year, in weeks as they were seen; holidays are not counted.",
    "每年按 {n} 根K线计（依所见的每周时段，未计节假日）。",
  ],
  "risk.touch": ["Chance that a price is touched", "触及某价格的概率"],
  "risk.touch.hint": [
    "Type a price: how many of the futures reach it on the way, by their highs and lows.",
    "输入价格：按最高价与最低价统计途中触及的走势比例。",
  ],
  "risk.touch.answer": ["{end} by {stamp}; {first} within the first bar.", "至 {stamp} 为 {end}；首根K线内为 {first}。"],
  "risk.touch.wrong": ["Give a price above 0, other than the last close.", "请输入大于 0 且不同于最新收盘价的价格。"],
};
