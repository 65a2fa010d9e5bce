// The tooltip at the crosshair: one bar's stored values, and its values before each revision.

const VERSION_COLUMNS = ["open", "high", "low", "close", "volume", "ticks"];

function tipRows(bar, decimals) {
  const price = (value) => numberText(value, decimals);
  return [
    ["Open", price(bar.open)], ["High", price(bar.high)], ["Low", price(bar.low)], ["Close", price(bar.close)],
    ["Change", percentText(bar.close / bar.open - 1)],
    ["Volume", amountText(bar.volume)], ["VWAP", price(bar.vwap)], ["Ticks", amountText(bar.ticks)],
    ["State", bar.revision ? `${bar.state} ${bar.revision}\u00d7` : bar.state],
  ];
}

function amountText(value) { return numberText(value, 0, true); }

// The versions of a revised bar as a table, oldest first; values that a version changed are bold.
function versionTable(versions, decimals, zone) {
  const table = document.createElement("table"), texts = (version) => VERSION_COLUMNS.map((name) => (
    name === "volume" || name === "ticks" ? amountText(version[name]) : numberText(version[name], decimals)));
  const head = table.createTHead().insertRow();
  for (const name of ["Changed", ...VERSION_COLUMNS]) head.append(element("th", name));
  const body = table.createTBody();
  versions.forEach((version, i) => {
    const row = body.insertRow();
    row.append(element("td", zone.time(version.changed_ms, 1_000)));
    texts(version).forEach((text, column) => {
      const changed = i > 0 && text !== texts(versions[i - 1])[column];
      row.append(element("td", text, changed ? "changed" : ""));
    });
  });
  return table;
}

function fillTip(tip, bar, book, look, versions) {
  const moment = look.zone.moment(book.ms(bar.slot), book.frameMs);
  tip.replaceChildren(element("b", `${moment} ${look.zone.label}`), ...tipRows(bar, book.decimals).flat().map((text) => element("span", text)));
  if (versions?.length > 1) tip.append(versionTable(versions, book.decimals, look.zone));
}

function inWords(bar, book, look) {
  const rows = tipRows(bar, book.decimals).map(([name, value]) => `${name} ${value}`).join(", ");
  return `${look.zone.moment(book.ms(bar.slot), book.frameMs)} ${look.zone.label}: ${rows}`;
}

function element(name, textContent, className = "") {
  return Object.assign(document.createElement(name), {textContent, className});
}
