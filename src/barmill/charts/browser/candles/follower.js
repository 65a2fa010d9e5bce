// Polls every second for changes over plain HTTP, so that no page needs to run for them.

const ASK_EVERY_MS = 1_000, PATIENCE_MS = 5_000;

class Follower {
  // gone: the abort signal. heard: receives each response. lost: called when the bars no longer exist.
  constructor(gone, heard, lost) {
    Object.assign(this, {gone, heard, lost});
  }

  // Start to follow a chart, or switch to another chart.
  follow(book, history) {
    const begins = !this.book;
    Object.assign(this, {book, history});
    if (begins) this.run();
  }

  async run() {
    while (!this.gone.aborted) {
      const begun = performance.now();
      await this.once(this.book, this.history);
      await new Promise((done) => setTimeout(done, ASK_EVERY_MS - (performance.now() - begun)));
    }
  }

  async once(book, {query}) {
    const signal = AbortSignal.any([this.gone, AbortSignal.timeout(PATIENCE_MS)]), {after} = book;
    try {
      const message = await asked("/bar-changes.json", {...query, after}, signal);
      // Skip a response for a previous chart, or for one that has received a new history in the meantime.
      if (!this.gone.aborted && book === this.book && book.after === after) this.heard(message);
    } catch (error) {
      // Without a response, the chart shows that itself; if its bars are gone, the page shows the reason.
      if (error.status === 400 || error.status === 404) this.lost();
    }
  }
}
