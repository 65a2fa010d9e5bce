// Draws one frame of a chart from what is in view. Without state: the same input gives the same picture.

const SWATCH = 12;

// look: colours and font. cross: the crosshair {slot, y}, with y null if only a time is marked; null for none.
function paint(context, size, book, view, look, cross, stale) {
  const kind = KINDS[look.kind] ?? KINDS.candles, left = Math.floor(view.left) - 1, right = Math.ceil(view.right);
  let bars = book.between(left - (kind.before ?? 1), right);
  const gaps = book.gapsIn(left, right);
  if (kind.bars) bars = kind.bars(bars);
  bars = bars.filter((bar) => bar.slot >= left);
  const place = layout(size, book, view, bars, look.scale);
  const inks = stale ? {...look, up: look.dim, down: look.dim, upTag: look.faint, downTag: look.faint, revised: look.dim, lines: look.lines.map(() => look.dim)} : look;
  context.font = look.font;
  context.clearRect(0, 0, size.width, size.height);
  context.textBaseline = "middle";
  paintGrid(context, place, book, view, look);
  context.save();
  context.beginPath();
  context.rect(0, 0, place.width, place.height);
  context.clip();
  paintGaps(context, place, gaps, view, look);
  paintForming(context, place, bars, view, look);
  paintVolume(context, place, bars, view, inks);
  for (const one of place.panes) {
    context.save();
    context.beginPath();
    context.rect(0, one.name === "price" ? 0 : one.top, place.width, one.bottom - one.top + (one.name === "price" ? one.top + PANE_GAP / 2 : 0));
    context.clip();
    if (one.name === "price") paintBars(context, place, bars, view, inks, kind);
    paintStudies(context, place, one, bars, view, inks);
    context.restore();
  }
  context.restore();
  if (!book.newest) paintNothing(context, place, look);
  if (book.newest && book.live) paintLast(context, place, book, inks);
  if (cross) paintCross(context, place, book, view, look, cross);
  const marked = cross && book.bySlot.get(cross.slot), shown = cross ? marked && (bars.find((bar) => bar.slot === cross.slot) ?? marked) : bars[bars.length - 1];
  paintLegends(context, place, book, look, inks, shown, cross && !marked ? book.gapAt(cross.slot) : null);
  return place;
}

function paintGrid(context, place, book, view, look) {
  const {width, height, axis} = place;
  for (const one of place.panes) {
    if (one.name !== "price") {
      context.fillStyle = look.border;
      context.fillRect(0, one.top - (one.name === "volume" ? PANE_GAP / 2 : 0), width, 1);
    }
    if (one.name === "volume" || !book.newest) continue;
    const tall = one.bottom - one.top, gap = one.name === "price" ? 56 : 30;
    for (const value of (one.log ? logTicks : roundTicks)(one.low, one.high, tall, gap)) {
      const y = Math.round(one.y(value));
      if (y < one.top - (one.name === "price" ? one.top - 8 : -8) || y > one.bottom - 4) continue;
      context.fillStyle = look.grid;
      context.fillRect(0, y, width, 1);
      context.fillStyle = look.faint;
      context.textAlign = "left";
      context.fillText(valueText(one, book, value), width + 9, y, axis - 10);
    }
  }
  context.textAlign = "center";
  for (const [at, label, midnight] of look.zone.ticks(book.ms(view.left), book.ms(view.right), width, 92, book.frameMs)) {
    const x = Math.round(view.x(book.slot(at)));
    context.fillStyle = look.grid;
    context.fillRect(x, 0, 1, height);
    if (x < 24 || x > width - 24) continue;
    context.fillStyle = midnight ? look.text : look.faint;
    context.fillText(label, x, height + AXIS_HEIGHT / 2 + 1);
  }
  context.fillStyle = look.border;
  context.fillRect(0, height, width + axis, 1);
  context.fillRect(width, 0, 1, height);
  context.fillStyle = look.faint;
  context.textAlign = "left";
  context.fillText(look.zone.label, width + 5, height + AXIS_HEIGHT / 2 + 1, axis - 6);
}

// Shade ranges without bars, more strongly if a component that was down is the cause.
function paintGaps(context, place, gaps, view, look) {
  for (const gap of gaps) {
    const from = Math.max(0, view.x(gap.from)), wide = Math.min(place.width, view.x(gap.to)) - from;
    if (wide < 1) continue;
    const fault = / (down|stopped)$/.test(gap.reason);
    context.fillStyle = fault ? look.fault : look.gap;
    context.fillRect(from, 0, wide, place.height);
    const label = known(gap) ? gap.reason : "no bars";
    if (wide < context.measureText(label).width + 10) continue;
    context.fillStyle = look.faint;
    context.textAlign = "center";
    context.fillText(label, from + wide / 2, place.price.bottom - 10);
  }
}

// Without bars there are no prices, so the axis has no numbers.
function paintNothing(context, place, look) {
  context.fillStyle = look.faint;
  context.textAlign = "center";
  context.fillText("No bars in this range", place.width / 2, place.height / 2);
}

function paintForming(context, place, bars, view, look) {
  const forming = bars.filter((bar) => bar.state === "forming");
  if (!forming.length) return;
  const from = view.x(forming[0].slot), to = view.x(forming[forming.length - 1].slot + 1);
  context.fillStyle = look.band;
  context.fillRect(from, 0, Math.max(to - from, 2), place.height);
  context.fillStyle = look.faint;
  context.textAlign = "right";
  context.fillText("forming", Math.max(to, 46), place.price.bottom - 10);
}

function paintVolume(context, place, bars, view, look) {
  const {volume} = place;
  for (const bar of bars) {
    const {left, body} = column(view, bar.slot, place.least);
    if (bar.state === "synthetic") continue;
    const top = Math.min(volume.bottom - 1, Math.round(volume.y(volume.amount(bar))));
    context.globalAlpha = bar.state === "forming" ? 0.3 : 0.55;
    context.fillStyle = bar.close >= bar.open ? look.up : look.down;
    context.fillRect(left, top, body, volume.bottom - top);
  }
  context.globalAlpha = 1;
}

function paintStudies(context, place, one, bars, view, look) {
  if (one.name.startsWith("rsi:")) {
    context.fillStyle = look.border;
    for (const value of [30, 70]) context.fillRect(0, Math.round(one.y(value)), place.width, 1);
  }
  for (const line of one.lines) {
    context.strokeStyle = context.fillStyle = lineColor(one, line, look);
    if (line.kind === "histogram") {
      const zero = one.y(0);
      context.globalAlpha = 0.5;
      for (const bar of bars) {
        const value = bar.studies[line.at];
        if (value === null || value === undefined) continue;
        const {left, body} = column(view, bar.slot, place.least), y = one.y(value);
        context.fillRect(left, Math.min(y, zero), body, Math.max(1, Math.abs(y - zero)));
      }
      context.globalAlpha = 1;
      continue;
    }
    context.lineWidth = 1.4;
    context.beginPath();
    let reached = -Infinity;
    for (const bar of bars) {
      const value = bar.studies[line.at];
      if (value === null || value === undefined) continue;
      context[bar.slot - reached > JOINED_OVER ? "moveTo" : "lineTo"](view.x(bar.slot + 0.5), one.y(value));
      reached = bar.slot;
    }
    context.stroke();
    context.lineWidth = 1;
  }
}

// In the price pane each study has one colour; in other panes each line has its own.
function lineColor(one, line, look) {
  const place = one.name === "price" ? [...new Set(one.lines.map((other) => other.study))].indexOf(line.study) : one.lines.findIndex((other) => other.at === line.at);
  return look.lines[place % look.lines.length];
}

function paintLast(context, place, book, look) {
  const bar = book.newest, y = Math.round(place.price.y(bar.close));
  if (y < 0 || y > place.price.bottom) return;
  const color = bar.close >= bar.open ? look.up : look.down;
  context.strokeStyle = color;
  context.setLineDash([1, 3]);
  context.beginPath();
  context.moveTo(0, y + 0.5);
  context.lineTo(place.width, y + 0.5);
  context.stroke();
  context.setLineDash([]);
  tag(context, place, y, numberText(bar.close, book.decimals), bar.close >= bar.open ? look.upTag : look.downTag, look.background);
}

function paintCross(context, place, book, view, look, cross) {
  const x = column(view, cross.slot).middle, y = cross.y === null ? null : Math.round(cross.y);
  if (x < 0 || x > place.width) return;
  context.strokeStyle = look.cross;
  context.setLineDash([4, 3]);
  context.beginPath();
  context.moveTo(x + 0.5, 0);
  context.lineTo(x + 0.5, place.height);
  if (y !== null && y < place.height) {
    context.moveTo(0, y + 0.5);
    context.lineTo(place.width, y + 0.5);
  }
  context.stroke();
  context.setLineDash([]);
  if (y !== null && y < place.height && book.newest) {
    const one = place.paneAt(y);
    tag(context, place, y, valueText(one, book, one.at(y)), look.text, look.background);
  }
  const label = look.zone.moment(book.ms(cross.slot), book.frameMs), wide = context.measureText(label).width + 12;
  const left = Math.max(0, Math.min(x - wide / 2, place.width - wide));
  context.fillStyle = look.text;
  context.fillRect(left, place.height + 2, wide, AXIS_HEIGHT - 4);
  context.fillStyle = look.background;
  context.textAlign = "left";
  context.fillText(label, left + 6, place.height + AXIS_HEIGHT / 2 + 1);
}

// The legend of each pane, with the values of one bar: the bar at the crosshair, otherwise the last in view.
function paintLegends(context, place, book, look, inks, bar, gap) {
  for (const one of place.panes) {
    const items = [];
    if (one.name === "price") items.push([priceLegend(book, bar, gap)]);
    if (one.name === "volume") items.push([`${one.traded ? "Volume" : "Ticks"} ${bar ? shortAmount(one.amount(bar)) : "–"}, highest ${shortAmount(one.most)}`]);
    for (const line of one.lines) {
      const value = bar?.studies[line.at];
      items.push([`${line.label} ${value === null || value === undefined ? "–" : valueText(one, book, value)}`, lineColor(one, line, inks)]);
    }
    let x = 8, y = one.title;
    for (const [text, color] of items) {
      const indent = color ? SWATCH : 0, wide = indent + context.measureText(text).width;
      if (x > 8 && x + wide > place.width) [x, y] = [8, y + LEGEND_ROW];
      context.globalAlpha = 0.75;
      context.fillStyle = look.background;
      context.fillRect(x - 3, y - 8, wide + 6, LEGEND_ROW);
      context.globalAlpha = 1;
      if (color) {
        context.fillStyle = color;
        context.fillRect(x, y - 2, SWATCH - 4, 3);
      }
      context.fillStyle = look.faint;
      context.textAlign = "left";
      context.fillText(text, x + indent, y);
      x += wide + 14;
    }
  }
}

function priceLegend(book, bar, gap) {
  if (gap) return known(gap) ? `No bar: ${gap.reason}` : "No bar, reason unknown";
  if (!bar) return "No bar";
  const [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map((value) => numberText(value, book.decimals));
  return `O ${open}  H ${high}  L ${low}  C ${close}`;
}

function known(gap) { return gap.reason && gap.reason !== "unknown"; }

function tag(context, place, y, text, color, ink) {
  context.fillStyle = color;
  context.fillRect(place.width + 1, y - 9, place.axis - 1, 19);
  context.fillStyle = ink;
  context.textAlign = "left";
  context.fillText(text, place.width + 9, y + 1, place.axis - 12);
}

// A value on an axis or a computed value: rounded, unlike prices of bars.
function valueText(one, book, value) {
  if (one.name === "price") return value.toFixed(book.decimals);
  if (one.name === "volume") return shortAmount(value);
  const largest = Math.max(Math.abs(one.low), Math.abs(one.high), Number.MIN_VALUE);
  return value.toFixed(Math.max(0, Math.min(8, 2 - Math.floor(Math.log10(largest)) + (largest >= 10 ? 1 : 0))));
}

function shortAmount(amount) {
  return amount.toLocaleString("en-US", {notation: "compact", maximumSignificantDigits: 4});
}
