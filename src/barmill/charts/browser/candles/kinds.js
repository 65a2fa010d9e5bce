// The chart kinds: how one bar is drawn at its position. Every kind marks revised bars.

// A line continues across this many missing slots, which are normal for quiet instruments.
const JOINED_OVER = 6;

const KINDS = {
  candles: {draw: paintCandle}, ohlc: {draw: paintOhlc}, "heikin-ashi": {draw: paintCandle, bars: heikinAshi, before: 64},
  line: {all: paintLine},
};

// Heikin-Ashi: each bar depends on the previous one. Bars more than 64 back have less influence than the precision of a
// double.
function heikinAshi(bars) {
  let open = null, close = null;
  return bars.map((bar) => {
    open = open === null ? (bar.open + bar.close) / 2 : (open + close) / 2;
    close = (bar.open + bar.high + bar.low + bar.close) / 4;
    return {...bar, open, close, high: Math.max(bar.high, open, close), low: Math.min(bar.low, open, close)};
  });
}

// The position of a slot's bar: an odd number of pixels, so that its wick is centred; at least `least` pixels wide.
function column(view, slot, least = 1) {
  const from = view.x(slot), wide = view.x(slot + 1) - from, middle = Math.floor(from + wide / 2);
  const body = Math.max(least, wide < 3 ? 1 : Math.floor(wide * BODY_SHARE / 2) * 2 + 1);
  return {middle, body, left: middle - (body - 1) / 2};
}

function paintCandle(context, place, bar, view, look) {
  const {middle, body, left} = column(view, bar.slot, place.least), y = (price) => Math.round(place.price.y(price));
  const top = y(Math.max(bar.open, bar.close)), bottom = y(Math.min(bar.open, bar.close));
  const high = y(bar.high), low = y(bar.low), tall = Math.max(1, bottom - top);
  context.fillStyle = context.strokeStyle = bar.close >= bar.open ? look.up : look.down;
  if (bar.state === "forming" && body >= 3) {
    // Hollow and dashed: this bar is not final yet.
    context.fillRect(middle, high, 1, Math.max(0, top - high));
    context.fillRect(middle, bottom, 1, Math.max(0, low - bottom));
    context.setLineDash([2, 2]);
    context.strokeRect(left + 0.5, top + 0.5, body - 1, Math.max(1, tall - 1));
    context.setLineDash([]);
  } else {
    context.fillRect(middle, high, 1, Math.max(1, low - high));
    context.fillRect(left, top, body, tall);
  }
}

function paintOhlc(context, place, bar, view, look) {
  const {middle, body, left} = column(view, bar.slot, place.least), y = (price) => Math.round(place.price.y(price));
  const high = y(bar.high), low = y(bar.low), half = middle - left;
  context.fillStyle = bar.close >= bar.open ? look.up : look.down;
  context.globalAlpha = bar.state === "forming" ? 0.5 : 1;
  context.fillRect(middle, high, 1, Math.max(1, low - high));
  if (body >= 3) {
    context.fillRect(left, y(bar.open), half, 1);
    context.fillRect(middle, y(bar.close), half + 1, 1);
  }
  context.globalAlpha = 1;
}

function paintLine(context, place, bars, view, look) {
  const y = (bar) => place.price.y(bar.close), x = (bar) => view.x(bar.slot + 0.5);
  context.strokeStyle = context.fillStyle = look.up;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  // A long range without bars interrupts the line; an isolated bar is a dot.
  const near = (one, other) => one && other && other.slot - one.slot <= JOINED_OVER;
  bars.forEach((bar, i) => {
    const joined = near(bars[i - 1], bar), lonely = !joined && !near(bar, bars[i + 1]);
    context.setLineDash(bar.state === "forming" || bar.state === "synthetic" ? [2, 2] : []);
    if (joined) {
      context.beginPath();
      context.moveTo(x(bars[i - 1]), y(bars[i - 1]));
      context.lineTo(x(bar), y(bar));
      context.stroke();
    } else if (lonely) context.fillRect(x(bar) - 1, y(bar) - 1, 2, 2);
  });
  context.setLineDash([]);
  context.lineWidth = 1;
}

// A synthetic bar, which a reader inserted to fill a gap: a dotted line at the unchanged price.
function paintSynthetic(context, place, bar, view, look) {
  const {left, body} = column(view, bar.slot, 3), y = Math.round(place.price.y(bar.close));
  context.fillStyle = look.faint;
  for (let x = left; x < left + body; x += 3) context.fillRect(x, y, 1, 1);
}

function paintBars(context, place, bars, view, look, kind) {
  if (kind.all) kind.all(context, place, bars, view, look);
  for (const bar of bars) {
    if (bar.state === "synthetic") paintSynthetic(context, place, bar, view, look);
    else if (kind.draw) kind.draw(context, place, bar, view, look);
    if (bar.state !== "revised") continue;
    const {middle} = column(view, bar.slot, place.least), low = place.price.y(kind.all ? bar.close : bar.low);
    context.fillStyle = look.revised;
    context.beginPath();
    for (const [x, y] of [[0, 5], [3.5, 8.5], [0, 12], [-3.5, 8.5]]) context.lineTo(middle + 0.5 + x, low + y);
    context.fill();
  }
}
