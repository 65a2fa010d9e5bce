// The theme from the account's preferences. Streamlit stores the theme for each path in the browser and reads it when a
// page loads. The theme is written there once, so a later choice in Streamlit's own menu is kept.

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
