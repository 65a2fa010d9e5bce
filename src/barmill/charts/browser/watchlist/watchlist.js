// The watchlist: a table that keeps its row elements while their cells change. It is sorted and filtered in the
// browser; favourites come first. While the mouse or the keyboard focus is on the rows, their order does not change.

const SILENT_AFTER_MS = 2800, LOOK_EVERY_MS = 500, LINE_TOP = 40;
const NO_WORD = "Barmill does not respond; the page is reconnecting.";
const lists = new WeakMap();
const words = new Intl.Collator("en", {numeric: true});
const calm = matchMedia("(prefers-reduced-motion: reduce)");

class Watchlist {
  constructor(host) {
    this.box = host.querySelector(".barmill-watchlist");
    this.body = this.box.querySelector("tbody");
    this.heads = [...this.box.querySelectorAll("th[data-column]")];
    [this.filter, this.count, this.notice] = ["input", "output", "p"].map((name) => this.box.querySelector(name));
    this.rows = new Map();
    this.lines = {};
    this.unsaved = new Map();
    this.saved = new Set();
    this.sorted = {column: "instrument", down: false};
    this.gone = new AbortController();
    const signal = this.gone.signal;
    document.addEventListener("barmill:watchlist", (event) => this.hear(event.detail), {signal});
    this.body.addEventListener("click", (event) => this.click(event), {signal});
    this.body.addEventListener("keydown", (event) => this.step(event), {signal});
    this.body.addEventListener("pointerleave", () => this.arrange(), {signal});
    this.filter.addEventListener("input", () => this.arrange(true), {signal});
    for (const head of this.heads) head.addEventListener("click", () => this.sort(head.dataset.column), {signal});
    const timer = setInterval(() => this.judge(), LOOK_EVERY_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
  }

  // The data passed when the page runs; it also has the favourites, and the timeframe in which charts open.
  show({favourites, frame, ...message}) {
    this.frame = frame;
    this.saved = new Set(favourites);
    for (const [name, on] of this.unsaved) if (this.saved.has(name) === on) this.unsaved.delete(name);
    this.hear(message);
  }

  hear({read_ms: readMs, columns, lines, status}) {
    this.heardMs = performance.now();
    this.status = status;
    if (readMs >= (this.readMs ?? 0)) {
      this.readMs = readMs;
      Object.assign(this.lines, lines);
      const names = columns.instrument ?? [], there = new Set(names);
      for (const [name, row] of this.rows) if (!there.has(name)) { row.element.remove(); this.rows.delete(name); }
      names.forEach((name, place) => {
        const row = this.rows.get(name) ?? this.made(name);
        for (const column in columns) row.values[column] = columns[column][place];
        this.fill(row);
      });
      this.box.dataset.updates = Number(this.box.dataset.updates ?? 0) + 1;
    }
    this.judge();
    this.arrange();
  }

  judge() {
    const silent = performance.now() - this.heardMs > SILENT_AFTER_MS, stale = silent || this.status.stale;
    write(this.notice, stale ? (silent ? NO_WORD : this.status.sentence) : "");
    this.notice.hidden = !stale;
    this.box.dataset.stale = stale;
  }

  made(name) {
    const element = document.createElement("tr"), cells = {};
    element.dataset.instrument = name;
    const star = element.insertCell().appendChild(Object.assign(document.createElement("button"), {type: "button"}));
    for (const head of this.heads) cells[head.dataset.column] = element.insertCell();
    const link = cells.instrument.appendChild(Object.assign(document.createElement("a"), {textContent: name}));
    cells.change_1h.innerHTML = `<svg viewBox="0 0 100 ${LINE_TOP}" preserveAspectRatio="none" aria-hidden="true"><polyline/></svg><span></span>`;
    [cells.line, cells.change_1h] = cells.change_1h.querySelectorAll("polyline, span");
    const row = {name, element, star, cells, link, values: {}};
    this.rows.set(name, row);
    return row;
  }

  fill(row) {
    const {cells, values, element} = row, {decimals = 2, line = []} = this.lines[row.name] ?? {};
    write(cells.last, numberText(values.last, decimals));
    for (const column of ["change_1m", "change_1h", "change_1d"]) {
      write(cells[column], changeText(values[column]));
      cells[column].dataset.direction = directionOf(values[column]);
    }
    write(cells.rate, values.last === null ? "–" : values.rate.toFixed(values.rate < 10 ? 1 : 0));
    write(cells.age_ms, values.age_ms === null ? "no bar yet" : `${ageText(values.age_ms)} ago`);
    element.dataset.stale = values.stale;
    if (row.line !== line) {
      row.line = line;
      cells.line.setAttribute("points", line.map((height, i) => `${(i * 100 / Math.max(1, line.length - 1)).toFixed(1)},${LINE_TOP - height}`).join(" "));
      cells.line.parentNode.dataset.direction = directionOf(line.at(-1) - line[0]);
    }
    if (row.shown !== undefined && row.shown !== null && values.last !== row.shown && !calm.matches) {
      const color = `color-mix(in srgb, var(--st-${values.last > row.shown ? "blue" : "orange"}-color) 35%, transparent)`;
      cells.last.animate({background: [color, "transparent"]}, {duration: 800, easing: "steps(4)"});
    }
    row.shown = values.last;
    const starred = this.starred(row.name);
    if (row.star.ariaPressed !== String(starred)) {
      row.star.ariaPressed = starred;
      row.star.textContent = starred ? "\u2605" : "\u2606";
      row.star.ariaLabel = `Favourite ${row.name}`;
    }
    const href = `chart?${new URLSearchParams({instrument: row.name, frame: this.frame})}`;
    if (row.href !== href) row.link.href = row.href = href;
  }

  // Sort the rows, unless the user is about to use one of them.
  arrange(asked = false) {
    const wanted = this.filter.value.trim().toLowerCase();
    const held = !asked && (this.body.matches(":hover") || this.body.contains(document.activeElement));
    let shown = 0;
    for (const row of this.rows.values()) {
      row.element.hidden = !row.name.toLowerCase().includes(wanted);
      shown += !row.element.hidden;
    }
    write(this.count, shown === this.rows.size ? `${shown} instruments` : `${shown} of ${this.rows.size} instruments`);
    if (held && this.body.children.length === this.rows.size) return;
    let next = this.body.firstElementChild;
    for (const row of [...this.rows.values()].sort((a, b) => this.order(a, b))) {
      if (row.element === next) next = next.nextElementSibling;
      else this.body.insertBefore(row.element, next);
    }
  }

  order(a, b) {
    const favourites = this.starred(b.name) - this.starred(a.name);
    return favourites || this.byColumn(a, b) || words.compare(a.name, b.name);
  }

  // Rows without a value come last in both sort directions.
  byColumn(a, b) {
    const {column, down} = this.sorted, [one, other] = [a.values[column], b.values[column]];
    if (one === null || other === null) return (one === null) - (other === null);
    const rising = column === "instrument" ? words.compare(one, other) : one - other;
    return down ? -rising : rising;
  }

  sort(column) {
    // Initially, names are sorted from A to Z, and numbers from the largest.
    const down = this.sorted.column === column ? !this.sorted.down : column !== "instrument";
    this.sorted = {column, down};
    for (const head of this.heads) head.ariaSort = head.dataset.column !== column ? "none" : down ? "descending" : "ascending";
    this.arrange(true);
  }

  click(event) {
    const row = this.rows.get(event.target.closest("tr")?.dataset.instrument);
    // With a modifier key, keep the link's default action: open a new tab.
    if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (!event.target.closest("button")) { this.send("opened", row.name); return; }
    this.unsaved.set(row.name, !this.starred(row.name));
    this.fill(row);
    this.send("starred", Object.fromEntries(this.unsaved));
  }

  step(event) {
    const by = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[event.key];
    if (!by) return;
    event.preventDefault();
    let row = event.target.closest("tr")[by];
    while (row?.hidden) row = row[by];
    row?.querySelector(event.target.matches("button") ? "button" : "a").focus();
  }

  starred(name) {
    return this.unsaved.get(name) ?? this.saved.has(name);
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function directionOf(change) {
  return change > 0 ? "up" : change < 0 ? "down" : "flat";
}

function ageText(ms) {
  const s = Math.max(ms, 0) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  return s < 120 ? `${Math.floor(s)} s` : s < 7200 ? `${Math.floor(s / 60)} min` : s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

export default function ({data, parentElement, setTriggerValue}) {
  const list = lists.get(parentElement) ?? new Watchlist(parentElement);
  lists.set(parentElement, list);
  list.send = setTriggerValue;
  list.show(data);
  return whenGone(parentElement, () => { list.gone.abort(); lists.delete(parentElement); });
}
