// Times in a time zone for display; the time grid itself is always in UTC.

const SECOND = 1_000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR, QUARTER = 15 * MINUTE;
const TIME_STEPS = [1, 2, 5, 10, 15, 30].flatMap((n) => [n * SECOND, n * MINUTE])
  .concat([1, 2, 3, 6, 12].map((n) => n * HOUR), [1, 2, 5, 10, 30, 90, 365].map((n) => n * DAY)).sort((a, b) => a - b);
const MOST_OFFSETS = 10_000;

class Zone {
  // name: an IANA name, or "local" for the browser's zone.
  constructor(name) {
    const asked = name === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : name;
    const fields = {year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric"};
    const format = (timeZone) => new Intl.DateTimeFormat("en-US", {...fields, hourCycle: "h23", timeZone});
    try {
      [this.format, this.name] = [format(asked), asked];
    } catch { // the browser does not know this zone
      [this.format, this.name] = [format("UTC"), "UTC"];
    }
    this.label = this.name.split("/").pop().replaceAll("_", " ");
    this.offsets = new Map();
  }

  // The offset of this zone from UTC; it only changes at full quarters of an hour.
  offsetMs(ms) {
    if (this.name === "UTC") return 0;
    const quarter = Math.floor(ms / QUARTER);
    let offset = this.offsets.get(quarter);
    if (offset === undefined) {
      const part = Object.fromEntries(this.format.formatToParts(quarter * QUARTER).map(({type, value}) => [type, Number(value)]));
      offset = Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second) - quarter * QUARTER;
      if (this.offsets.size >= MOST_OFFSETS) this.offsets.clear();
      this.offsets.set(quarter, offset);
    }
    return offset;
  }

  // A date whose UTC fields show the local time of the zone.
  clock(ms) { return new Date(ms + this.offsetMs(ms)); }

  time(ms, step) { return this.clock(ms).toISOString().slice(11, step < MINUTE ? 19 : 16); }

  day(ms) { return this.clock(ms).toLocaleDateString("en-GB", {day: "numeric", month: "short", timeZone: "UTC"}); }

  moment(ms, frameMs) {
    return frameMs >= DAY ? `${this.day(ms)} ${this.clock(ms).getUTCFullYear()}` : `${this.day(ms)} ${this.time(ms, frameMs)}`;
  }

  // Round times at least `gap` pixels apart, as [ms, label, whether a day begins there].
  ticks(fromMs, toMs, width, gap, frameMs) {
    const rough = (toMs - fromMs) / Math.max(1, width / gap);
    const step = TIME_STEPS.find((one) => one >= rough && one >= frameMs) ?? TIME_STEPS[TIME_STEPS.length - 1];
    const ticks = [], first = Math.ceil((fromMs + this.offsetMs(fromMs)) / step) * step;
    for (let local = first; ; local += step) {
      const ms = local - this.offsetMs(local - this.offsetMs(local));
      if (ms > toMs) return ticks;
      const midnight = local % DAY === 0;
      ticks.push([ms, midnight ? this.day(ms) : this.time(ms, step), midnight]);
    }
  }
}
