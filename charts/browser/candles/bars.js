// The bars a chart holds: one stretch of time without holes, made of a history, the updates that follow it, and the older
// and newer stretches that are fetched as one scrolls.

const MAX_BARS = 20_000, SLACK = 1.1;
const COLUMNS = ["open", "high", "low", "close", "volume", "vwap", "ticks", "revision"];
const STATES = {f: "forming", c: "closed", r: "revised", s: "synthetic"};

class BarBook {
  constructor(message) {
    this.view = message.view;
    this.edition = message.edition;
    this.frameMs = message.frame_ms;
    this.offsetMs = message.offset_ms;
    this.decimals = 0;
    this.readMs = 0;
    this.head = -Infinity; // the newest slot there is, held here or not
    this.begin(message);
  }

  // The start of a slot, which may be a fraction, in ms since the epoch; and the slot of a time.
  ms(slot) { return slot * this.frameMs + this.offsetMs; }
  slot(ms) { return (ms - this.offsetMs) / this.frameMs; }

  // Everything there is from `from` on is held, up to `until`; without end while updates are taken in.
  get live() { return this.until === Infinity; }

  // A history in place of everything that is held.
  begin(message) {
    this.bySlot = new Map();
    this.gaps = new Map();
    this.from = message.first_slot;
    this.until = message.live ? Infinity : lastSlot(message) + 1;
    this.whole = message.whole; // nothing is older
    this.readMs = message.read_ms;
    this.head = Math.max(this.head, message.head_slot ?? lastSlot(message));
    this.add(message);
  }

  // A later history of the same: it adds to what it joins on to, and otherwise takes its place, since what was missed in
  // between would look like a gap. While older bars are looked at, it only tells how far time is.
  // Later readings win: a history handed over again, when the app's look changes, changes nothing and returns false.
  restart(message) {
    if (message.read_ms <= this.readMs) return false;
    if (!this.live) {
      this.readMs = message.read_ms;
      this.head = Math.max(this.head, message.head_slot ?? lastSlot(message));
    } else if (this.sorted.length && message.first_slot <= this.newest.slot + 1) this.merge(message, Infinity);
    else this.begin(message);
    return true;
  }

  // An update; while older bars are looked at that do not reach up to now, it only tells how far time is.
  merge(message, middle) {
    if (message.read_ms <= this.readMs) return;
    this.readMs = message.read_ms;
    this.head = Math.max(this.head, lastSlot(message));
    if (this.live) this.add(message, this.whole ? -Infinity : this.from);
    this.trim(middle);
  }

  // A stretch that was fetched: all bars of [from, until), which touches what is held.
  extend(message, from, until, middle) {
    this.add(message, from, until);
    this.from = Math.min(this.from, message.slot.length ? Math.max(from, message.first_slot) : from);
    if (until > this.until) this.until = until > this.head ? Infinity : until;
    this.trim(middle);
  }

  add(message, from = -Infinity, until = Infinity) {
    this.decimals = Math.max(this.decimals, message.decimals);
    if (message.studies.length || !this.lines) this.lines = message.studies.map(({values, ...line}) => line);
    message.slot.forEach((offset, i) => {
      const slot = message.first_slot + offset;
      if (slot < from || slot >= until) return;
      const bar = {slot, state: STATES[message.state[i]], studies: message.studies.map((line) => line.values[i])};
      for (const name of COLUMNS) bar[name] = message[name][i];
      this.bySlot.set(slot, bar);
    });
    for (const [first, end, reason] of message.gaps) this.gaps.set(first, {to: end, reason});
    this.sorted = [...this.bySlot.values()].sort((a, b) => a.slot - b.slot);
  }

  // Memory is bounded: what is farther from the middle of what is looked at goes first.
  trim(middle) {
    if (this.sorted.length <= MAX_BARS * SLACK) return;
    const over = this.sorted.length - MAX_BARS;
    const gone = middle - this.oldest.slot > this.newest.slot - middle ? this.sorted.splice(0, over) : this.sorted.splice(MAX_BARS);
    for (const bar of gone) this.bySlot.delete(bar.slot);
    if (gone[0].slot < this.oldest.slot) {
      this.from = this.oldest.slot;
      this.whole = false;
    } else this.until = gone[0].slot;
    for (const [first, gap] of this.gaps) if (gap.to < this.from || first > this.until) this.gaps.delete(first);
  }

  // Whether an update leaves nothing out, given what is held: it must reach back to the last reading and the newest bar.
  connects(message) {
    return message.since_ms <= this.readMs && (!this.live || !this.newest || message.from_slot <= this.newest.slot + 1);
  }

  get oldest() { return this.sorted[0]; }

  get newest() { return this.sorted[this.sorted.length - 1]; }

  // The bars on slots from..to, found by halving.
  between(from, to) { return this.sorted.slice(this.place(from), this.place(to + 1)); }

  // How many bars there are before this slot.
  place(slot) {
    let low = 0, high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle].slot < slot) low = middle + 1; else high = middle;
    }
    return low;
  }

  // Where there is no bar between two that there are: {from, to, reason}; without a reason where nobody knows one.
  missing(bars) {
    const found = [];
    for (let i = 1; i < bars.length; i += 1) {
      const from = bars[i - 1].slot + 1, to = bars[i].slot;
      if (from < to) found.push({from, to, reason: this.gaps.get(from)?.reason ?? ""});
    }
    return found;
  }

  // The gaps that reach into slots from..to, also where the bars on their sides lie outside.
  gapsIn(from, to) {
    const bars = this.sorted.slice(Math.max(0, this.place(from) - 1), this.place(to + 1) + 1);
    return this.missing(bars).filter((gap) => gap.from <= to && gap.to > from);
  }

  gapAt(slot) { return this.gapsIn(slot, slot)[0]; }
}

function lastSlot(message) {
  return message.slot.length ? message.first_slot + message.slot[message.slot.length - 1] : -Infinity;
}
