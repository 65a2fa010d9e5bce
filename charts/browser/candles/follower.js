// Asks each second for what has changed since, over plain HTTP, so that no page has to run for it.

const ASK_EVERY_MS = 1_000, PATIENCE_MS = 5_000;

class Follower {
  // gone: the signal that ends it. heard: what an answer is handed to. lost: called when there is nothing to follow.
  constructor(gone, heard, lost) {
    Object.assign(this, {gone, heard, lost});
  }

  // Begin to follow, or follow another chart from now on.
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
    const signal = AbortSignal.any([this.gone, AbortSignal.timeout(PATIENCE_MS)]);
    try {
      const message = await asked("/bar-changes.json", {...query, since: book.readMs}, signal);
      if (!this.gone.aborted && book === this.book) this.heard(message); // not another's by now
    } catch (error) {
      // Without an answer the chart says so by itself; where its bars are gone, the page knows what to say.
      if (error.status === 400 || error.status === 404) this.lost();
    }
  }
}
