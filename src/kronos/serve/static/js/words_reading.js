// Notes on how bars were read, and on their times: [English, 中文].

export const READING = {
  "note.clock": ["Times without a zone are read by the clock {clock}.", "无时区的时间按 {clock} 的时钟读取。"],
  "note.still": [
    "The closes of the context hardly vary, so the paths are far too certain: do not read risk from them. Check the bars, or give a longer context.",
    "参考K线的收盘价几乎不变，预测会显得过于确定，请勿据此判断风险。请检查数据，或增加参考长度。",
  ],
  "note.estimated": [
    "{n} timestamps lie beyond the calendar's end and are estimated.",
    "有 {n} 个时间超出交易日历范围，为估计值。",
  ],
  "note.a regular step": ["A regular step.", "按固定间隔延续。"],
  "note.encoding": ["Text encoding: {encoding}.", "文本编码：{encoding}。"],
  "note.separated": ["Columns separated by: {separator}.", "列分隔符：{separator}。"],
  "note.packed": ["Packed with {packer}.", "压缩格式：{packer}。"],
  "note.rate": ["'{name}' left out: a rate of turnover or the like, no traded value.", "未采用“{name}”:它是换手率之类，不是成交额。"],
  "note.header.unit": ["{column} is in {unit}, as its header says: multiplied by {factor}.", "{column} 的表头注明单位 {unit}:已乘以 {factor}。"],
  "note.swapped": ["Volume and amount changed places, as Huobi (HTX) writes them.", "成交量与成交额已互换(火币的写法)。"],
  "note.decimal comma": ["Decimals are written with a comma.", "小数点写作逗号。"],
  "note.dates.compact": ["Timestamps are compact dates (YYYYMMDD).", "时间为紧凑日期格式（YYYYMMDD）。"],
  "note.dates.order": ["Dates are {order}.", "日期顺序：{order}。"],
  "note.rows run newest first: reversed": ["Rows ran newest first: reversed.", "数据按时间倒序排列，已反转。"],
  "note.zone.read": ["Times without a zone are read as {zone}.", "无时区的时间按 {zone} 读取。"],
  "note.epoch": ["Timestamps are epoch {unit}, read as UTC.", "时间为 Unix 时间戳（{unit}），按 UTC 读取。"],
  "note.timestamps are spreadsheet serial days": [
    "Timestamps are a spreadsheet's serial days.",
    "时间为电子表格的日期序号。",
  ],
  "note.offset": ["Every timestamp carries the offset {offset}.", "每个时间都带有时差 {offset}。"],
  "note.offsets": [
    "Offsets change with daylight saving: read as instants, shown in {zone}.",
    "时差随夏令时变化，按时刻读取，以 {zone} 显示。",
  ],
  "note.timestamps are local midnights with changing offsets: read as dates": [
    "Timestamps are local midnights with changing offsets: read as dates.",
    "时间为当地零点且时差有变化，按日期读取。",
  ],
  "note.amount.unit": [
    "Traded value is about {ratio} × volume × price: their units differ.",
    "成交额约为成交量×价格的 {ratio} 倍，两者单位不同。",
  ],
  "note.filled": ["{column} is missing in {n} rows: read as {words}.", "{n} 行缺少 {column}，按 {words} 处理。"],
  "note.units": ["{column} is written with units (K, M, B).", "{column} 带有单位（K、M、B）。"],
  "note.wide": ["{n} symbols side by side.", "{n} 个标的并列。"],
  "note.JSON lines": ["JSON lines.", "每行一个 JSON。"],
  "note.sheet": ["Sheet read: {sheet}.", "读取的工作表：{sheet}。"],
  "note.suspended": [
    "Suspended days that the source filled left out: {n}.",
    "略去由数据源填充的停牌日：{n} 天。",
  ],
  "note.lines": ["Lines outside the table left out: {n} ({line}).", "略去表格之外的 {n} 行（{line}）。"],
  "note.years are counted from 1912 (Minguo)": ["Years are counted from 1912 (Minguo).", "年份为民国纪年。"],
  "note.dates count from 1904": ["Dates count from 1904.", "日期序号从 1904 年起算。"],
  "note.timestamps are midnights of a zone east of UTC: read as dates": [
    "Timestamps are midnights of a zone east of UTC: read as dates.",
    "时间为 UTC 以东时区的零点，按日期读取。",
  ],
  "note.timestamps are midnights of a zone west of UTC, and of UTC: read as dates": [
    "Timestamps are midnights of a zone west of UTC and of UTC itself: read as dates.",
    "时间为 UTC 以西时区的零点和 UTC 零点，均按日期读取。",
  ],
  "note.epochs": [
    "Timestamps are epoch {first}, from row {row} on {second}, read as UTC.",
    "时间为 Unix 时间戳（{first}），自第 {row} 行起为 {second}，按 UTC 读取。",
  ],
  "note.opens": [
    "Open is 0 in {n} rows: set to the close before, as asked.",
    "{n} 行开盘价为 0，已按要求改为前收盘价。",
  ],
  "note.forming": [
    "Of bars that were still forming the last row is kept: {n} earlier ones dropped.",
    "未完成的K线只保留最后一行，略去先前的 {n} 行。",
  ],
  "note.wide.absent": [
    "{n} cells of days without a bar of their symbol left out.",
    "略去 {n} 个标的当日无K线的单元格。",
  ],
};
