// A row of facts: each has a label and a value, and optionally a note, a coloured mark or a sparkline of its history.

const strips = new WeakMap();

function cell() {
  const element = document.createElement("div");
  element.innerHTML = "<dt></dt><dd><b></b><i></i></dd>"
    + '<svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><polyline/></svg>';
  const [label, value, note, line] = ["dt", "b", "i", "polyline"].map((name) => element.querySelector(name));
  return {element, label, value, note, line};
}

function points(values) {
  const high = Math.max(...values, 1), step = 100 / Math.max(1, values.length - 1);
  return values.map((value, i) => `${(i * step).toFixed(1)},${(23 - value / high * 21).toFixed(1)}`).join(" ");
}

export default function ({data, parentElement}) {
  const list = parentElement.querySelector(".barmill-facts"), cells = strips.get(parentElement) ?? [];
  strips.set(parentElement, cells);
  while (cells.length < data.length) { cells.push(cell()); list.append(cells[cells.length - 1].element); }
  while (cells.length > data.length) cells.pop().element.remove();
  data.forEach((fact, i) => {
    const {element, label, value, note, line} = cells[i];
    label.textContent = fact.label;
    value.textContent = fact.value;
    note.textContent = fact.note ?? "";
    element.title = fact.note ?? "";
    element.dataset.tone = fact.tone ?? "";
    line.setAttribute("points", fact.line ? points(fact.line) : "");
  });
  return whenGone(parentElement, () => strips.delete(parentElement));
}
