// Exports of a chart: the bars in view as a file, the picture, and a link to the same view.

const TITLE_HEIGHT = 40, LINK_PARAMETERS = ["instrument", "frame", "kind", "studies", "zone", "scale", "fill", "as_of"];

function inViewMs(book, seen) {
  return {from: Math.max(0, book.ms(Math.floor(seen.left))), to: Math.max(0, book.ms(Math.ceil(seen.right)))};
}

function fileAddress(path, query, book, seen) { return `${path}?${new URLSearchParams({...query, ...inViewMs(book, seen)})}`; }

// The address of a page with the range in view, so that the link opens the same view.
function viewAddress(page, book, seen, choices) {
  const address = new URL(page, window.location.href), range = inViewMs(book, seen);
  for (const name of LINK_PARAMETERS) if (choices[name] !== undefined) address.searchParams.set(name, choices[name]);
  address.searchParams.set("from", range.from);
  address.searchParams.set("to", range.to);
  return address.href;
}

// Save the picture with a title line above it.
function savePicture(canvas, look, title, name) {
  const sharp = canvas.width / Math.max(1, canvas.clientWidth), picture = document.createElement("canvas");
  [picture.width, picture.height] = [canvas.width, canvas.height + Math.round(TITLE_HEIGHT * sharp)];
  const context = picture.getContext("2d");
  context.fillStyle = look.background;
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(canvas, 0, TITLE_HEIGHT * sharp);
  context.scale(sharp, sharp);
  context.fillStyle = look.text;
  context.font = look.font.replace("12px", "600 14px");
  context.textBaseline = "middle";
  context.fillText(title, 10, TITLE_HEIGHT / 2, canvas.clientWidth - 20);
  picture.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

// Without an encrypted connection, the clipboard is not available; then a field shows the link for copying.
async function copyLink(text, field, said) {
  try {
    await navigator.clipboard.writeText(text);
    said("The link is copied to the clipboard.");
  } catch {
    field.value = text;
    field.hidden = false;
    field.select();
    said("Copy the link from the field.");
  }
}
