// Which view is shown, by the address; the keyboard; who is signed in.

const VIEWS = [
  ["overview", "Overview", overview], ["space", "Space", space, () => has("space")], ["traffic", "Traffic", traffic, () => has("samples") || has("traffic")], ["keys", "Keys", keys], ["leases", "Watches & leases", leases], ["cluster", "Cluster", cluster], ["users", "Users", users], ["raw", "Raw", raw],
];
const shownViews = () => VIEWS.filter(([, , , isThere]) => !isThere || isThere());
const go = (name, params) => {
  const hash = formatRoute(name, params);
  if (hash === location.hash) show();
  else location.hash = hash;
};
let current = null, shownHash = null;

async function show() {
  app.hasDeclined = false;
  if (keysTree && (location.hash === shownHash || parseRoute(location.hash).view !== "keys")) {
    keysTree.stop();
    keysTree = null;
  }
  shownHash = location.hash;
  if (current) current.abort();
  const abort = (current = new AbortController());
  const { view: name, params } = parseRoute(location.hash);
  const found = shownViews().find(([known]) => known === name);
  const main = document.getElementById("view");
  refill(document.getElementById("tabs"), shownViews().map(([known, text], index) => h("a", { href: formatRoute(known), "aria-current": known === name ? "page" : undefined, title: `key ${index + 1}` }, text)));
  const session = document.getElementById("session");
  session.textContent = app.user ? `${app.user}: sign out` : "Sign in";
  const { about } = app;
  document.getElementById("where").textContent = about ? `${about.name} · ${about.build ? "Plinth " + about.build : "etcd"}${app.readOnly ? " · read-only" : ""}` : "etcd";
  document.title = `${found ? found[1] : "Not found"} – ${about ? about.name : "console"}`;
  refill(main);
  if (!found) return fill(main, [h("p", null, "There is no such view here. "), link("overview", {}, "Overview")]);
  return attempt(() => found[2](main, params, abort.signal));
}

async function start() {
  app.about = await view("about").catch(() => null);
  app.readOnly = Boolean(app.about && app.about.read_only);
  await readRoles().catch(() => {});
  if (!location.hash) history.replaceState(null, "", "#/overview");
  await show();
}

const HELP = [["1 – 8", "views"], ["/", "prefix of keys"], ["Ctrl S", "save an edit"], ["arrows, Enter", "in the tree"], ["Esc", "leave a field or dialog"], ["?", "this"]];

addEventListener("hashchange", () => {
  notice("");
  show();
});
addEventListener("visibilitychange", restartWatches);
addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape" && isTyping && !event.target.closest("dialog")) return event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return undefined;
  const chosen = shownViews()[Number(event.key) - 1];
  if (/^[1-9]$/.test(event.key) && chosen) return go(chosen[0]);
  if (event.key === "/") {
    event.preventDefault();
    const box = document.getElementById("prefix");
    return box ? box.focus() : go("keys");
  }
  if (event.key === "?") return openDialog("Keys", facts(HELP.map(([name, what]) => [h("kbd", null, name), what])), h("div.bar", null, button("Close", closeDialog)));
  return undefined;
});
document.getElementById("session").addEventListener("click", () => (app.user ? signOut() : signIn("")));
start();
