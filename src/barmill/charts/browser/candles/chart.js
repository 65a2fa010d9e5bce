// The chart on the page: receives data and input, and redraws the canvas after a change.

const SILENT_AFTER_MS = 2_600, WATCH_EVERY_MS = 250;
const charts = new WeakMap();

class Chart {
  constructor(host, ask) {
    this.ask = ask;
    const part = (name) => host.querySelector(`.barmill-${name}`);
    [this.plot, this.tip, this.notice, this.pulse, this.announcement, this.link, this.keys] =
      ["plot", "tip", "notice", "pulse", "announcement", "link", "keys"].map(part);
    [this.quote, this.heading] = ["quote", "heading"].map(part);
    this.canvas = this.plot.querySelector("canvas");
    this.buttons = Object.fromEntries([...host.querySelectorAll("[data-does]")].map((one) => [one.dataset.does, one]));
    this.status = {stale: false, sentence: ""};
    this.pointer = this.keyed = this.linkedMs = null;
    this.heardMs = performance.now();
    this.updates = 0;
    this.gone = new AbortController();
    this.loader = new Loader(() => this.changed());
    this.follower = new Follower(this.gone.signal, (message) => this.update(message), () => this.askForAll());
    this.listen();
  }

  // Show the history of a view; for the view already shown, update it and keep the zoom.
  load(history, look) {
    this.zone = this.zone?.asked === history.zone ? this.zone : Object.assign(new Zone(history.zone), {asked: history.zone});
    this.look = {...look, kind: history.kind, scale: history.scale, zone: this.zone};
    const known = this.book?.view === history.view, same = known && this.book.edition === history.edition;
    this.history = history;
    this.heading.textContent = history.heading;
    this.heading.hidden = !history.heading;
    if (!same) {
      this.book = new BarBook(history);
      this.loader.forget();
    }
    if (!known) {
      this.seen = new View(this.book, this.canvas.clientWidth);
      this.pointer = this.keyed = null;
    }
    this.seen.book = this.book;
    const range = String(history.range);
    if (history.range && (!known || range !== this.range)) {
      this.seen.show(this.book.slot(history.range[0]), this.book.slot(history.range[1]));
    } else if (known && range !== this.range) this.seen.follow = true;
    this.range = range;
    if (!same || this.book.restart(history, this.asked)) {
      this.asked = false;
      this.tellQuote(history);
      this.canvas.setAttribute("aria-label", history.alt_text);
    }
    this.changed();
    this.follower.follow(this.book, history);
  }

  update(message) {
    this.heardMs = performance.now();
    // After a long sleep, or during a burst of bars, the update does not reach back far enough.
    if (!this.book.connects(message)) {
      this.askForAll();
      return;
    }
    this.book.merge(message, this.seen.middle);
    this.tellQuote(message);
    this.updates += 1;
    this.changed();
  }

  // Ask the page to run again and pass a full history.
  askForAll() {
    if (!this.asked) this.ask();
    this.asked = true;
  }

  // Fill the line above the chart: last price, its change, and the newest bar.
  tellQuote({status, quote}) {
    this.status = status;
    this.quote.dataset.direction = quote.direction;
    for (const one of this.quote.querySelectorAll("[data-part]")) one.textContent = quote[one.dataset.part] ?? "";
  }

  changed() {
    this.seen.settle();
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  get silent() { return performance.now() - this.heardMs > SILENT_AFTER_MS; }

  // The position of the crosshair: of the mouse or keys here, or of another chart on the page.
  get cross() {
    if (this.pointer && this.pointer.x < this.seen.width) return {slot: this.seen.slotAt(this.pointer.x), y: this.pointer.y};
    if (this.keyed !== null) return {slot: this.keyed, y: null};
    return this.linkedMs === null ? null : {slot: Math.floor(this.book.slot(this.linkedMs)), y: null};
  }

  draw() {
    const {clientWidth: width, clientHeight: height} = this.plot, sharp = window.devicePixelRatio || 1;
    if (!width || !height) return;
    const pixels = [Math.round(width * sharp), Math.round(height * sharp)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) [this.canvas.width, this.canvas.height] = pixels;
    const context = this.canvas.getContext("2d");
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    const {silent, cross} = this, stale = silent || this.status.stale;
    this.seen.width = width - axisWidth(context, this.book, this.look);
    this.seen.settle();
    this.place = paint(context, {width, height}, this.book, this.seen, this.look, cross, stale);
    this.notice.textContent = silent ? "Barmill does not respond; the page is reconnecting." : this.status.sentence;
    this.notice.hidden = !stale;
    this.buttons.newest.hidden = this.seen.follow;
    this.showTip(cross);
    this.showPulse();
    const ms = (slot) => Math.round(this.book.ms(slot));
    Object.assign(this.canvas.dataset, {
      view: this.book.view, bars: this.book.sorted.length, updates: this.updates, stale, live: this.book.live,
      from: ms(this.seen.left), to: ms(this.seen.right), width: this.place.width, cross: cross ? ms(cross.slot) : "",
      gaps: this.book.gapsIn(Math.floor(this.seen.left), Math.ceil(this.seen.right)).map((gap) => `${ms(gap.from)}-${ms(gap.to)} ${gap.reason}`).join(", "),
      panes: this.place.panes.map((one) => one.name).join(" "), kind: this.look.kind, scale: this.look.scale, zone: this.zone.name,
    });
    if (this.history.heading) this.heading.href = this.linkTo("chart");
    this.buttons.study.href = this.linkTo("study");
    for (const kind of ["csv", "parquet"]) this.buttons[kind].href = fileAddress(`/bars.${kind}`, this.history.query, this.book, this.seen);
    this.loader.follow(this.book, this.seen, this.history);
  }

  linkTo(page) { return viewAddress(page, this.book, this.seen, this.history.choices); }

  showTip(cross) {
    const bar = cross && (this.pointer || this.keyed !== null) && this.book.bySlot.get(cross.slot);
    this.tip.hidden = !bar;
    if (!bar) return;
    const versions = bar.revision ? this.loader.versionsOf(bar, this.book, this.history.query) : null;
    fillTip(this.tip, bar, this.book, this.look, versions);
    const x = this.pointer?.x ?? this.seen.x(cross.slot + 0.5), y = this.pointer?.y ?? 80, {offsetWidth, offsetHeight} = this.tip;
    const left = x < this.place.width / 2 ? x + 18 : x - 18 - offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(left, this.plot.clientWidth - offsetWidth))}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y - 40, this.place.height - offsetHeight - 4))}px`;
  }

  // Show how fresh the chart is; the ages increase between updates.
  showPulse() {
    const {status} = this, passedMs = performance.now() - this.heardMs;
    const age = (what, ms) => (ms === null || ms === undefined ? [] : [`${what} ${ageText(this.book.readMs - ms + passedMs)}`]);
    const state = this.silent ? "unreachable" : status.level;
    const parts = [...age("tick", status.tick_ms), ...age("bar", status.changed_ms), `feed ${status.feed}`, `job ${status.job}`];
    this.pulse.dataset.color = this.silent ? "red" : status.color;
    const text = [state, ...parts, ...(status.color === "amber" ? [status.sentence] : []), ...(this.loader.sentence ? [this.loader.sentence] : [])].join(" \u00b7 ");
    if (this.pulse.textContent !== text) this.pulse.textContent = text;
  }

  listen() {
    const {signal} = this.gone, on = (target, type, act) => target.addEventListener(type, act, {signal});
    const then = (act) => (...given) => { act(...given); this.changed(); };
    this.gestures = new Gestures(this.canvas, () => this.seen, {
      pan: then((slots) => this.seen.pan(slots)), zoom: then((factor, share) => this.seen.zoom(factor, share)),
      point: then((at) => this.point(at)), step: then((bars) => this.step(bars)), reset: then(() => { this.toNewest(); this.seen.reset(); }),
      home: then(() => this.seen.pan(this.book.oldest.slot - this.seen.left)), newest: then(() => this.toNewest()),
    }, signal);
    on(document, "barmill:cursor", ({detail}) => {
      if (detail.chart === this || !this.book) return;
      this.linkedMs = detail.ms;
      this.changed();
    });
    on(this.buttons.newest, "click", then(() => this.toNewest()));
    on(this.buttons.png, "click", () => savePicture(this.canvas, this.look, this.title, `${this.book.view.replace(/[^\w]+/g, "-")}.png`));
    on(this.buttons.copy, "click", () => copyLink(this.linkTo("chart"), this.link, (text) => this.say(text, this.buttons.copy)));
    on(this.link, "blur", () => { this.link.hidden = true; });
    on(this.buttons.keys, "click", () => this.showKeys(this.keys.hidden));
    on(this.buttons.keys, "keydown", (event) => event.key === "Escape" && this.showKeys(false));
    this.keys.replaceChildren(...KEYS_HELP.flatMap(([keys, what]) => [element("dt", keys), element("dd", what)]));
    this.resized = new ResizeObserver(() => this.book && this.changed());
    this.resized.observe(this.plot);
    this.watch = setInterval(() => this.book && (this.silent ? this.changed() : this.showPulse()), WATCH_EVERY_MS);
  }

  get title() {
    const ends = [this.seen.left, this.seen.right].map((slot) => this.zone.moment(this.book.ms(slot), this.book.frameMs));
    return `${this.history.title} \u00b7 ${ends.join(" to ")} ${this.zone.label}`;
  }

  showKeys(shown) {
    this.keys.hidden = !shown;
    this.buttons.keys.setAttribute("aria-expanded", shown);
  }

  // Announce the result of a button: to screen readers, and by a mark on the button for two seconds.
  say(text, button) {
    this.announcement.textContent = text;
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 2_000);
  }

  toNewest() {
    this.seen.follow = true;
    if (!this.book.live || !this.book.newest) this.loader.newest(this.book, this.history);
  }

  point(at) {
    this.pointer = at;
    if (at) this.keyed = null;
    this.tell(at && at.x < this.seen.width ? this.book.ms(this.seen.left + at.x / this.seen.width * this.seen.span) : null);
  }

  // Move the crosshair by this many bars with the keys, starting at the newest bar in view; 0 hides it.
  step(bars) {
    if (!bars) this.keyed = null;
    else {
      const {sorted} = this.book, at = this.keyed === null ? this.book.place(Math.ceil(this.seen.right)) : this.book.place(this.keyed) + bars;
      const bar = sorted[Math.max(0, Math.min(at, sorted.length - 1))];
      if (!bar) return;
      this.keyed = bar.slot;
      if (bar.slot < this.seen.left) this.seen.pan(bar.slot - this.seen.left - 1);
      if (bar.slot + 1 > this.seen.right) this.seen.pan(bar.slot + 2 - this.seen.right);
      this.announcement.textContent = inWords(bar, this.book, this.look);
    }
    this.tell(this.keyed === null ? null : this.book.ms(this.keyed + 0.5));
  }

  tell(ms) { document.dispatchEvent(new CustomEvent("barmill:cursor", {detail: {ms, chart: this}})); }

  end() {
    this.gone.abort();
    this.resized.disconnect();
    clearInterval(this.watch);
    cancelAnimationFrame(this.frame);
  }
}

function ageText(ms) {
  const s = Math.max(0, ms) / 1_000;
  if (s < 10) return `${s.toFixed(1)} s`;
  return s < 120 ? `${Math.floor(s)} s` : s < 7_200 ? `${Math.floor(s / 60)} min` : s < 172_800 ? `${Math.floor(s / 3_600)} h` : `${Math.floor(s / 86_400)} d`;
}

// Colours and font of the app's current theme, which Streamlit provides as CSS variables.
function lookOf(host) {
  const style = getComputedStyle(host.querySelector(".barmill-candles")), get = (name) => style.getPropertyValue(`--st-${name}`).trim();
  const text = get("text-color"), mix = (share) => `color-mix(in srgb, ${text} ${share}%, transparent)`;
  // Of the ten chart colours, those without another meaning here (up, down or revised).
  const lines = get("chart-categorical-colors").split(",").map((one) => one.trim());
  return {
    text, background: get("background-color"), border: get("border-color"), grid: mix(7), faint: mix(68), dim: `color-mix(in srgb, ${text} 32%, ${get("background-color")})`, cross: mix(45), band: mix(5),
    gap: mix(4), fault: `color-mix(in srgb, ${get("red-color")} 14%, transparent)`, lines: [2, 5, 6, 3, 8, 9].map((i) => lines[i] || text),
    up: get("blue-color"), down: get("orange-color"), upTag: get("blue-text-color"), downTag: get("orange-text-color"), revised: get("violet-color"), font: `12px ${get("font")}`,
  };
}

export default function ({data, parentElement, setTriggerValue}) {
  const chart = charts.get(parentElement) ?? new Chart(parentElement, () => setTriggerValue("resync", true));
  charts.set(parentElement, chart);
  chart.load(data, lookOf(parentElement));
  return whenGone(parentElement, () => { chart.end(); charts.delete(parentElement); });
}
