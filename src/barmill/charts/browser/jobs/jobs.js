// The list of jobs: a table that keeps its rows while their cells change. A click on a row opens the job.

const COLUMNS = ["name", "state", "desired", "sentence", "frames", "version", "slots"];
const lists = new WeakMap();

class Jobs {
  constructor(host, open) {
    this.body = host.querySelector(".barmill-jobs tbody");
    this.open = open;
    this.rows = new Map();
    this.gone = new AbortController();
    document.addEventListener("barmill:jobs", (event) => this.show(event.detail), {signal: this.gone.signal});
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      // With a modifier key, keep the link's default action: open a new tab.
      if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.open(row.dataset.job);
    });
  }

  // Show the newest rows; the initial rows may be passed again, for example after a theme change, and are then ignored.
  show({rows, read_ms: readMs}) {
    if (readMs < this.readMs) return;
    this.readMs = readMs;
    const names = new Set(rows.map((row) => row.name));
    for (const [name, row] of this.rows) if (!names.has(name)) { row.element.remove(); this.rows.delete(name); }
    rows.forEach((row, place) => {
      const known = this.rows.get(row.name) ?? this.made(row.name);
      if (this.body.children[place] !== known.element) this.body.insertBefore(known.element, this.body.children[place] ?? null);
      known.element.dataset.tone = row.tone;
      for (const [column, text] of Object.entries(known.texts)) if (text.textContent !== row[column]) text.textContent = row[column];
    });
  }

  made(name) {
    const element = document.createElement("tr"), texts = {};
    element.dataset.job = name;
    for (const column of COLUMNS) texts[column] = element.appendChild(document.createElement("td"));
    const href = `jobs?${new URLSearchParams({job: name})}`;
    texts.name = texts.name.appendChild(Object.assign(document.createElement("a"), {href}));
    const said = texts.sentence;
    texts.sentence = said.appendChild(document.createElement("span"));
    texts.operation = said.appendChild(document.createElement("small"));
    const known = {element, texts};
    this.rows.set(name, known);
    return known;
  }
}

export default function ({data, parentElement, setTriggerValue}) {
  const list = lists.get(parentElement) ?? new Jobs(parentElement, (name) => setTriggerValue("opened", name));
  lists.set(parentElement, list);
  list.show(data);
  return whenGone(parentElement, () => { list.gone.abort(); lists.delete(parentElement); });
}
