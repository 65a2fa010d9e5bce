// The signed-in account and the sign-out button. It also polls whether the session is still valid and redirects to the
// sign-in page when it is not; by then the server has closed this page's connection, so no other part could do so.

const LOOK_EVERY_MS = 4000;

function leave() {
  const here = location.pathname + location.search;
  location.replace(here === "/" ? "/sign-in" : `/sign-in?next=${encodeURIComponent(here)}`);
}

function watch() {
  let used = true, looked = 0;
  async function look() {
    // POST reports user activity, which keeps the session from expiring due to inactivity.
    const method = used ? "POST" : "GET";
    used = false;
    looked = Date.now();
    const answer = await fetch("/session", {method, cache: "no-store"}).catch(() => null);
    if (answer?.status === 401) leave();
  }
  function act() {
    used = true;
    if (Date.now() - looked > LOOK_EVERY_MS / 4) look();
  }
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, act, {capture: true, passive: true});
  addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  setInterval(look, LOOK_EVERY_MS);
  look();
}

export default function ({data, parentElement}) {
  wear(data.theme, data.paths);
  parentElement.querySelector("b").textContent = data.name;
  parentElement.querySelector("i").textContent = data.role;
  parentElement.querySelector("span").title = `Signed in as ${data.name}, ${data.role}`;
  // Start once per browser page, even if Streamlit mounts the component repeatedly.
  if (!window.barmillWatches) {
    window.barmillWatches = true;
    watch();
  }
}
