// Numbers as text for people, in the same format as barmill/platform/texts.py: exactly as stored, never rounded.

const NONE = "–", LEAST = 1e-15, MOST = 1e21;

// decimals: the minimum, so that numbers align; further digits are kept. grouped: with commas between thousands.
function numberText(value, decimals = 0, grouped = false) {
  if (value === null || value === undefined) return NONE;
  if (value !== 0 && !(Math.abs(value) >= LEAST && Math.abs(value) < MOST)) return String(value);
  const [digits, exponent] = String(Math.abs(value)).split("e-"), sign = value < 0 ? "-" : "";
  let [whole, fraction = ""] = digits.split(".");
  if (exponent) [whole, fraction] = ["0", "0".repeat(Number(exponent) - 1) + whole + fraction];
  fraction = fraction.padEnd(decimals, "0");
  if (grouped) whole = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return sign + whole + (fraction ? `.${fraction}` : "");
}

// A relative change in percent with two decimals; a change too small to show has no direction.
function percentText(ratio) {
  const text = (Math.abs(ratio) * 100).toFixed(2);
  return `${ratio < 0 && Number(text) ? "\u2212" : "+"}${text} %`;
}

function changeText(ratio) {
  if (ratio === null || ratio === undefined) return NONE;
  const shown = Number((Math.abs(ratio) * 100).toFixed(2)) ? Math.sign(ratio) : 0;
  return `${shown > 0 ? "\u25b2" : shown < 0 ? "\u25bc" : "\u25a0"} ${percentText(ratio)}`;
}
