// Scales: the time range in view, and round numbers for the axes. This file draws nothing.

const MIN_SPAN = 8, FEWEST_BARS = 60, MOST_BARS = 300, USUAL_PIXELS = 4, FEWEST_PIXELS = 1.5, AIR = 0.04;

// The window onto the time grid: `span` slots, the last of which ends at `right`. In follow mode, `right` stays just
// ahead of the newest bar; otherwise it does not move when bars arrive.
class View {
  constructor(book, width) {
    this.book = book;
    this.width = width;
    this.reset();
  }

  reset() {
    const bars = this.book.sorted, most = Math.max(FEWEST_BARS, Math.min(MOST_BARS, Math.floor(this.width / USUAL_PIXELS)));
    const reach = bars.length ? this.book.newest.slot - bars[Math.max(0, bars.length - most)].slot + 1 : 0;
    this.span = Math.max(FEWEST_BARS, Math.min(reach, Math.floor(this.width / FEWEST_PIXELS))) / (1 - AIR);
    this.follow = true;
    this.settle();
  }

  // Show this range and stop following.
  show(from, to) {
    this.span = Math.max(MIN_SPAN, Math.min(to - from, MAX_BARS));
    this.right = to;
    this.follow = false;
  }

  get left() { return this.right - this.span; }

  get middle() { return this.right - this.span / 2; }

  get home() { return (Number.isFinite(this.book.head) ? this.book.head : 0) + 1 + this.span * AIR; }

  settle() { if (this.follow) this.right = this.home; }

  // Keep some bars in view, or the position where older bars are about to arrive.
  hold() {
    const oldest = this.book.oldest?.slot ?? 0, least = oldest + this.span * (this.book.hasOldest ? 0.2 : 0);
    this.right = Math.max(least, Math.min(this.right, this.home + this.span * 0.6));
    this.settle();
  }

  pan(slots) {
    this.right += slots;
    this.follow = slots > 0 && this.right >= this.home;
    this.hold();
  }

  // share: the fixed point of the zoom as a share of the width, 0 to 1. In follow mode, the right end is fixed.
  zoom(factor, share) {
    const reach = this.book.newest ? this.book.head - this.book.oldest.slot + 1 : MIN_SPAN;
    const most = Math.min(MAX_BARS, Math.max(reach * (this.book.hasOldest ? 1.1 : 1.5), MOST_BARS));
    const span = Math.max(MIN_SPAN, Math.min(this.span * factor, most));
    const held = this.left + this.span * share;
    this.span = span;
    this.right = held + span * (1 - share);
    this.hold();
  }

  x(slot) { return (slot - this.left) / this.span * this.width; }

  slotAt(x) { return Math.floor(this.left + x / this.width * this.span); }
}

// Round values about `gap` pixels apart on an axis of this height from low to high.
function roundTicks(low, high, height, gap) {
  const rough = (high - low) / Math.max(1, height / gap);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((one) => one >= rough);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) ticks.push(n * step);
  return ticks;
}

// The same for a logarithmic axis: 1, 2 and 5 times each power of ten if the axis spans several, otherwise round
// values.
function logTicks(low, high, height, gap) {
  if (high < low * 5) return roundTicks(low, high, height, gap);
  const ticks = [];
  for (let unit = 10 ** Math.floor(Math.log10(low)); unit <= high; unit *= 10) {
    for (const n of [1, 2, 5]) if (n * unit >= low && n * unit <= high) ticks.push(n * unit);
  }
  return ticks;
}
