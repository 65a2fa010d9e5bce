// The bars of a chart: one continuous time range, made of a history, the updates that follow it, and older and newer
// ranges fetched while scrolling.

const MAX_BARS = 20_000, SLACK = 1.1;
const COLUMNS = ["open", "high", "low", "close", "volume", "vwap", "ticks", "revision"];
// The parts of a cursor (src/barmill/storage/changes.py).
const storeOf = (cursor) => cursor.split(".")[0], changeOf = (cursor) => Number(cursor.split(".")[1]);
const STATES = {f: "forming", c: "closed", r: "revised", s: "synthetic"};

class BarBook {
  constructor(message) {
    this.view = message.view;
    this.edition = message.edition;
    this.frameMs = message.frame_ms;
    this.offsetMs = message.offset_ms;
    this.decimals = 0;
    this.readMs = 0;
    this.cursor = ""; // where the changes that are not held begin
    this.polled = ""; // the cursor of the last message, whether its bars are held or not
    this.head = -Infinity; // the newest existing slot, whether held here or not
    this.begin(message);
  }

  // The start of a slot (may be a fraction) in ms since the epoch; and the slot of a time.
  ms(slot) { return slot * this.frameMs + this.offsetMs; }
  slot(ms) { return (ms - this.offsetMs) / this.frameMs; }

  // All bars from `from` up to `until` are held; `until` is infinite while updates are applied.
  get live() { return this.until === Infinity; }

  // Replace everything held with a history.
  begin(message) {
    this.bySlot = new Map();
    this.gaps = new Map();
    this.from = message.first_slot;
    this.until = message.live ? Infinity : lastSlot(message) + 1;
    this.hasOldest = message.has_oldest; // no older bars exist
    this.historyMs = message.read_ms;
    this.advance(message, message.head_slot);
    this.cursor = message.cursor;
    this.add(message);
  }

  // A later history of the same view. It is merged if it joins the held bars of the same store; otherwise it replaces
  // them, because bars missed in between would look like a gap. While older bars are in view, it only updates the
  // current time. A history of a past range adds nothing to bars that are followed, unless these have a hole (`asked`).
  // A history that is passed again, for example after a theme change, or that was read before the last message, changes
  // nothing and returns false.
  restart(message, asked) {
    if (message.read_ms === this.historyMs || this.isOlder(message)) return false;
    this.historyMs = message.read_ms;
    if (!this.live) this.advance(message, message.head_slot);
    else if (!this.joins(message) || (asked && !message.live)) this.begin(message);
    else if (message.live) this.merge(message, Infinity, message.first_slot);
    return true;
  }

  // Apply an update; while older bars are in view that do not reach the present, it only updates the current time. All
  // bars from the slot `complete` on are in the message, so that others that are held no longer exist.
  merge(message, middle, complete = message.complete_from_slot) {
    this.advance(message);
    if (this.live) {
      if (complete !== null) this.drop(complete);
      this.add(message, this.hasOldest ? -Infinity : this.from);
    }
    this.trim(middle);
  }

  drop(from) {
    for (const slot of this.bySlot.keys()) if (slot >= from) this.bySlot.delete(slot);
    for (const first of this.gaps.keys()) if (first >= from) this.gaps.delete(first);
  }

  advance(message, head) {
    this.readMs = message.read_ms;
    this.polled = message.cursor;
    if (this.live) this.cursor = message.cursor;
    this.head = Math.max(this.head, head ?? lastSlot(message));
  }

  // Add a fetched range: all bars of [from, until), adjacent to the held bars.
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

  // Limit memory use: remove the bars farthest from the middle of the view first.
  trim(middle) {
    if (this.sorted.length <= MAX_BARS * SLACK) return;
    const over = this.sorted.length - MAX_BARS;
    const gone = middle - this.oldest.slot > this.newest.slot - middle ? this.sorted.splice(0, over) : this.sorted.splice(MAX_BARS);
    for (const bar of gone) this.bySlot.delete(bar.slot);
    if (gone[0].slot < this.oldest.slot) {
      this.from = this.oldest.slot;
      this.hasOldest = false;
    } else this.until = gone[0].slot;
    for (const [first, gap] of this.gaps) if (gap.to < this.from || first > this.until) this.gaps.delete(first);
  }

  // The cursor for the next update. Changes that were not applied while older bars were in view are requested again.
  get after() { return this.live ? this.cursor : this.polled; }

  // Return whether a history leaves no hole between its bars and those that are held, and is from the same store.
  joins(message) {
    const isSame = storeOf(message.cursor) === storeOf(this.polled);
    return isSame && this.sorted.length > 0 && message.first_slot <= this.newest.slot + 1;
  }

  // Return whether a message was read before the last one, by the number of changes: a clock may be set back.
  isOlder(message) {
    return storeOf(message.cursor) === storeOf(this.polled) && changeOf(message.cursor) < changeOf(this.polled);
  }

  // Return whether an update leaves no hole: it must continue from the last reading and reach back to the newest bar.
  connects(message) {
    return message.after === this.after && (!this.live || !this.newest || message.from_slot <= this.newest.slot + 1);
  }

  get oldest() { return this.sorted[0]; }

  get newest() { return this.sorted[this.sorted.length - 1]; }

  // The bars in slots from..to, by binary search.
  between(from, to) { return this.sorted.slice(this.place(from), this.place(to + 1)); }

  // The number of bars before this slot.
  place(slot) {
    let low = 0, high = this.sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sorted[middle].slot < slot) low = middle + 1; else high = middle;
    }
    return low;
  }

  // The gaps between the given bars: {from, to, reason}, with an empty reason if unknown.
  missing(bars) {
    const found = [];
    for (let i = 1; i < bars.length; i += 1) {
      const from = bars[i - 1].slot + 1, to = bars[i].slot;
      if (from < to) found.push({from, to, reason: this.gaps.get(from)?.reason ?? ""});
    }
    return found;
  }

  // The gaps that overlap slots from..to, even if the bars next to them are outside.
  gapsIn(from, to) {
    const bars = this.sorted.slice(Math.max(0, this.place(from) - 1), this.place(to + 1) + 1);
    return this.missing(bars).filter((gap) => gap.from <= to && gap.to > from);
  }

  gapAt(slot) { return this.gapsIn(slot, slot)[0]; }
}

function lastSlot(message) {
  return message.slot.length ? message.first_slot + message.slot[message.slot.length - 1] : -Infinity;
}
