// The panes of a chart from top to bottom: prices, volume, and one for each study that needs a separate scale.

const AXIS_HEIGHT = 24, PANE_GAP = 8, BODY_SHARE = 0.72, LONELY_PIXELS = 6, LEGEND_ROW = 16, LEGEND_ITEM = 132;
const VOLUME_SHARE = 0.15, STUDY_SHARE = 0.17, STUDIES_SHARE = 0.45;

function axisWidth(context, book, look) {
  context.font = look.font;
  return Math.ceil(Math.max(context.measureText(numberText(book.newest?.close ?? 0, book.decimals)).width + 18, 56));
}

// bars: as drawn. Returns the dimensions of the chart and, for each pane, its dimensions and scale.
function layout(size, book, view, bars, scale) {
  const width = view.width, height = size.height - AXIS_HEIGHT;
  const names = [...new Set(book.lines.map((line) => line.pane))].filter((name) => name !== "price" && name !== "volume");
  const study = Math.round(height * Math.min(STUDY_SHARE, STUDIES_SHARE / Math.max(1, names.length)));
  const volumeBottom = height - names.length * study, volumeTop = Math.round(volumeBottom - height * VOLUME_SHARE);
  const over = book.lines.filter((line) => line.pane === "price").length;
  const legend = 1 + Math.ceil(over / Math.max(1, Math.floor((width - 8) / LEGEND_ITEM)));
  const price = pane("price", 8 + legend * LEGEND_ROW, volumeTop - PANE_GAP);
  const volume = pane("volume", volumeTop, volumeBottom), panes = [price, volume];
  names.forEach((name, i) => panes.push(pane(name, volumeBottom + i * study, volumeBottom + (i + 1) * study)));
  for (const one of panes) one.lines = book.lines.flatMap((line, at) => (line.pane === one.name ? [{...line, at}] : []));
  scalePrices(price, bars, book, scale);
  scaleVolume(volume, bars);
  for (const one of panes.slice(2)) scaleStudy(one, bars);
  return {
    width, height, axis: size.width - width, panes, price, volume,
    least: bars.length * LONELY_PIXELS < width ? 3 : 1,
    paneAt: (y) => panes.find((one) => y < one.bottom + PANE_GAP / 2) ?? panes[panes.length - 1],
  };
}

function pane(name, top, bottom) { return {name, top, bottom, title: name === "price" ? 10 : top + 10}; }

// Add a scale from low to high to a pane: y(value), and at(y) for the value at a y position.
function scaled(one, low, high, log = false) {
  const to = log ? Math.log : (value) => value, back = log ? Math.exp : (value) => value;
  const [from, until] = [to(low), to(high)], tall = one.bottom - one.top;
  return Object.assign(one, {
    low, high, log,
    y: (value) => one.top + (until - to(value)) / (until - from) * tall,
    at: (y) => back(until - (y - one.top) / tall * (until - from)),
  });
}

function extent(bars, lines, values) {
  let low = Infinity, high = -Infinity;
  const take = (value) => {
    if (value < low) low = value;
    if (value > high) high = value;
  };
  for (const bar of bars) {
    for (const value of values(bar)) take(value);
    for (const {at} of lines) if (bar.studies[at] !== null && bar.studies[at] !== undefined) take(bar.studies[at]);
  }
  return [low, high];
}

function scalePrices(one, bars, book, scale) {
  const newest = book.newest?.close ?? 1;
  let [low, high] = bars.length ? extent(bars, one.lines, (bar) => [bar.low, bar.high]) : [newest * 0.99, newest * 1.01];
  if (low === high) { low *= 0.999; high *= 1.001; }
  const log = scale === "log" && low > 0, air = log ? (high / low) ** 0.05 : (high - low) * 0.05;
  scaled(one, log ? low / air : low - air, log ? high * air : high + air, log);
}

function scaleVolume(one, bars) {
  one.traded = bars.some((bar) => bar.volume !== null);
  one.amount = (bar) => (one.traded ? bar.volume ?? 0 : bar.ticks);
  const most = Math.max(extent(bars, one.lines, (bar) => [one.amount(bar)])[1], Number.MIN_VALUE);
  one.most = bars.length ? most : 0;
  Object.assign(one, scaled({...one, top: one.top + LEGEND_ROW}, 0, most), {top: one.top});
}

function scaleStudy(one, bars) {
  let [low, high] = extent(bars, one.lines, () => []);
  if (one.name.startsWith("rsi:")) [low, high] = [0, 100];
  if (low > high) [low, high] = [0, 1];
  if (one.lines.some((line) => line.kind === "histogram")) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  Object.assign(one, scaled({...one, top: one.top + LEGEND_ROW + 2}, low - air, high + air), {top: one.top});
}
