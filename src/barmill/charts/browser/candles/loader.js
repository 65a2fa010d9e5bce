// Fetches bars that the page did not pass, over plain HTTP while scrolling, so that no page needs to run for them.

const USUALLY_FETCHED = 1_000, TRY_AGAIN_MS = 5_000, MOST_VERSIONS = 200;

class Loader {
  constructor(changed) {
    this.changed = changed;
    this.versions = new Map();
    this.sentence = "";
  }

  // Fetch the bars that are about to come into view, unless a fetch is in progress or has just failed.
  follow(book, seen, {query, max_bars}) {
    const now = performance.now();
    if (this.busy || now < (this.notBefore ?? 0) || !book.newest) return;
    const count = Math.min(max_bars, Math.max(USUALLY_FETCHED, Math.ceil(seen.span * 1.5)));
    const near = seen.span / 2;
    if (!book.hasOldest && seen.left - near < book.from) {
      const until = book.from;
      this.fetchBars(query, book.ms(until), count, book, (message) => {
        book.extend(message, -Infinity, until, seen.middle);
        book.hasOldest ||= message.slot.length < count;
      });
    } else if (!book.live && seen.right + near > book.until && book.until <= book.head) {
      const from = book.until, until = from + count;
      this.fetchBars(query, book.ms(until), count, book, (message) => book.extend(message, from, until, seen.middle));
    }
  }

  // Fetch the newest bars and replace everything held.
  newest(book, {query, max_bars}) {
    const count = Math.min(max_bars, USUALLY_FETCHED);
    this.fetchBars(query, Date.now() + 86_400_000, count, book, (message) => {
      book.begin({...message, live: true, has_oldest: message.slot.length < count});
    });
  }

  async fetchBars(query, toMs, count, book, take) {
    this.busy = book;
    this.say("Loading bars\u2026");
    try {
      const message = await asked("/bars.json", {...query, to: toMs, count});
      if (this.busy !== book) return; // another view has replaced this one
      take(message);
      this.say("");
    } catch {
      this.notBefore = performance.now() + TRY_AGAIN_MS;
      this.say("These bars could not be loaded; retrying.");
    }
    this.busy = null;
    this.changed();
  }

  forget() {
    this.busy = null;
    this.notBefore = 0;
    this.versions.clear();
    this.say("");
  }

  say(sentence) { this.sentence = sentence; }

  // All versions of a revised bar, oldest first, or null until they are loaded. Each bar is fetched once.
  versionsOf(bar, book, query) {
    const key = `${bar.slot} ${bar.revision}`;
    if (!this.versions.has(key)) {
      if (this.versions.size >= MOST_VERSIONS) this.versions.delete(this.versions.keys().next().value);
      this.versions.set(key, null);
      const {instrument, frame} = query;
      asked("/bar-history.json", {instrument, frame, start: book.ms(bar.slot)})
        .then((versions) => { this.versions.set(key, versions); this.changed(); }, () => this.versions.set(key, []));
    }
    return this.versions.get(key);
  }
}

async function asked(path, parameters, signal) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, {headers: {Accept: "application/json"}, signal});
  if (!answer.ok) throw Object.assign(new Error(`${path} answered ${answer.status}`), {status: answer.status});
  return answer.json();
}
