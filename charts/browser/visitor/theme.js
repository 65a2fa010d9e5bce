// The look that an account prefers. Streamlit keeps the look of each address in this browser, and reads it when a page is
// loaded. A look is put there once: whoever chooses another one in Streamlit's own menu keeps that.

const LOOKS = {system: "System", light: "Light", dark: "Dark"}, WORN = "barmill-theme";
const openedAt = location.pathname;

function themeKey(path) {
  return `stActiveTheme-${path}-v2`;
}

function wear(theme, paths) {
  if ((localStorage.getItem(WORN) ?? "system") === theme) return;
  const look = JSON.stringify(LOOKS[theme]), shown = localStorage.getItem(themeKey(openedAt)) ?? JSON.stringify(LOOKS.system);
  const root = openedAt.replace(/[^/]*$/, "");
  for (const path of [openedAt, location.pathname, ...paths.map((path) => root + path)]) localStorage.setItem(themeKey(path), look);
  localStorage.setItem(WORN, theme);
  if (shown !== look) location.reload();
}
