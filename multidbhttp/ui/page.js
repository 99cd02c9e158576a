// Everything works without this script. It refreshes what changes, which can be paused,
// and shows when that fails.
(() => {
  "use strict";
  const every = Number(document.body.dataset.refresh) * 1000;
  const line = document.getElementById("refresh");
  if (!every || !line) return;
  const button = line.querySelector("button");
  const said = line.querySelector("[role=status]");
  const key = "multidb-paused";
  let paused = false, timer = 0, failures = 0;
  try { paused = sessionStorage.getItem(key) === "1"; } catch { /* storage is off: the choice lasts for this page */ }

  const show = () => {
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on refreshing" : "Pause refreshing";
    line.hidden = false;
  };

  // What the server last said of each part: the document differs from it by folds that were opened.
  const last = new Map([...document.querySelectorAll("[data-live]")].map(e => [e.id, e.outerHTML]));

  // A fold that is open stays open, and the focus stays where it was.
  const replace = (old, fresh) => {
    for (const d of old.querySelectorAll("details[id][open]")) fresh.querySelector("#" + d.id)?.setAttribute("open", "");
    const at = document.activeElement;
    let again = null;
    if (at && old.contains(at)) {
      const all = [...old.querySelectorAll("a, button, summary, [tabindex]")];
      const href = at.getAttribute("href");
      again = href ? [...fresh.querySelectorAll("a")].find(a => a.getAttribute("href") === href)
        : fresh.querySelectorAll("a, button, summary, [tabindex]")[all.indexOf(at)];
    }
    const left = [...old.querySelectorAll(".scroll")].map(e => e.scrollLeft);
    old.replaceWith(fresh);
    [...fresh.querySelectorAll(".scroll")].forEach((e, i) => { e.scrollLeft = left[i] || 0; });
    again?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    const url = new URL(location.href);
    url.searchParams.delete("points"); // each time they are asked for costs a request to the replica
    url.searchParams.delete("done");
    const answer = await fetch(url, { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(15000) });
    if (!answer.ok) throw new Error("the answer was " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (paused) return;
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || fresh.outerHTML === last.get(old.id)) continue;
      last.set(old.id, fresh.outerHTML);
      if (fresh.dataset.say !== old.dataset.say) said.textContent = fresh.dataset.say; // for who listens to the page
      replace(old, document.importNode(fresh, true));
    }
    document.title = page.title;
  };

  const next = () => {
    clearTimeout(timer);
    if (!paused) timer = setTimeout(run, every * Math.min(1 + failures, 6));
  };

  const run = async () => {
    if (document.hidden) return next();
    try {
      await refresh();
      if (failures) said.textContent = "Refreshing again.";
      failures = 0;
    } catch (e) {
      failures++;
      said.textContent = "Not refreshed: " + e.message + ". What is shown is older than it says. Reload the page to sign in again.";
    }
    next();
  };

  button.addEventListener("click", () => {
    paused = !paused;
    try { sessionStorage.setItem(key, paused ? "1" : "0"); } catch { /* as above */ }
    said.textContent = paused ? "Paused." : "Refreshing every " + every / 1000 + " seconds.";
    show();
    if (paused) clearTimeout(timer); else run();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) run(); });
  show();
  next();
})();
