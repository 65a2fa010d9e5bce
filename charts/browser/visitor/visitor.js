// Who is signed in, and the way out. It also keeps asking whether the session is still alive, and leaves for the
// sign-in page once it is not: the server has closed this page's connection by then, so nothing else could.

const LOOK_EVERY_MS = 4000;

function leave() {
  const here = location.pathname + location.search;
  location.replace(here === "/" ? "/sign-in" : `/sign-in?next=${encodeURIComponent(here)}`);
}

function watch() {
  let used = true, looked = 0;
  async function look() {
    // POST says that somebody does something here, which keeps the session from ending for want of use.
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
  // Once a browser page, however often Streamlit puts the component up.
  if (!window.barmillWatches) {
    window.barmillWatches = true;
    watch();
  }
}
