// Keys: a tree with counts, search with a stated limit, what lies below a prefix and how it changes, one key.

const LIST_PAGE = 100;
const SEARCH_PAGE = 1000;
const SEARCH_KEYS_MAX = 200000;
const SEARCH_FOUND_MAX = 500;
const CHANGES_KEPT = 100;

// The tree stays while somebody goes from key to key; it is read again when a view is.
let keysTree = null;

async function keys(main, params, signal) {
  const key = params.key === undefined ? null : keyBytes(params.key);
  const prefix = params.prefix !== undefined ? params.prefix : key ? keyText(key.subarray(0, key.lastIndexOf(0x2f) + 1)) : "";
  const right = h("section");
  const tree = h("div.tree");
  fill(main, [keyBar(prefix, params), h("div.split", null, tree, right)]);
  attempt(async () => {
    keysTree = keysTree || treeView((node) => go("keys", node.isLeaf ? { key: keyText(node.bytes) } : { prefix: keyText(node.bytes) }));
    refill(tree, keysTree.element);
    try {
      await keysTree.select(key || keyBytes(prefix));
    } catch (error) {
      keysTree = null;
      if (error.code !== DENIED) throw error;
      refill(tree, ownRights());
    }
  });
  await attempt(() => (params.q ? searchView(right, prefix, params, signal) : key ? pairView(right, key, params, signal) : listView(right, prefix, params, signal)));
}

// Prefix with completion, and search below it.
function keyBar(prefix, params) {
  const options = h("datalist", { id: "children" });
  const box = h("input.mono", { id: "prefix", name: "prefix", list: "children", value: prefix, placeholder: "prefix or key", "aria-label": "Prefix", spellcheck: "false", autocomplete: "off" });
  let last = null;
  const complete = async () => {
    const bytes = keyBytes(box.value), level = bytes.slice(0, bytes.lastIndexOf(0x2f) + 1);
    if (last === keyText(level)) return;
    last = keyText(level);
    const { nodes } = await childrenOf(level, level);
    refill(options, nodes.slice(0, 100).map((node) => h("option", { value: keyText(node.bytes) })));
  };
  box.addEventListener("input", () => complete().catch(() => {}));
  const search = h("input", { id: "search", name: "q", value: params.q || "", placeholder: "search below it", "aria-label": "Search", spellcheck: "false", autocomplete: "off" });
  const mode = h("select", { name: "mode", "aria-label": "How to search" }, [["", "contains"], ["regex", "regex"]].map(([value, text]) => h("option", { value, selected: value === (params.mode || "") }, text)));
  const values = check("values too", { name: "in", checked: params.in === "values" });
  return h("form.bar", {
    onsubmit: (event) => {
      event.preventDefault();
      attempt(() => openKeys(box.value, search.value, { mode: mode.value, in: event.target.elements.in.checked ? "values" : "" }));
    },
  }, h("span.grow", null, box), options, search, mode, values, h("button.main", null, "Open"), action("New key", () => newKey(box.value)));
}

// What was typed is a key if it is one, else a prefix.
async function openKeys(text, q, options) {
  if (q) return go("keys", { prefix: text, q, ...options });
  const found = text && !text.endsWith("/") ? await getKey(keyBytes(text)) : null;
  return go("keys", found ? { key: text } : { prefix: text });
}

// Where somebody may read who may not read all.
function ownRights() {
  const prefixes = (app.roles || []).flatMap((role) => role.perm).filter((permission) => permission.permType !== "WRITE");
  return [h("p", null, "You may not read all keys, but:"), prefixes.map(({ key, range_end }) => h("p", null, link("keys", range_end ? { prefix: keyText(fromBase64(key)) } : { key: keyText(fromBase64(key)) }, rangeText(key, range_end))))];
}

async function listView(box, prefix, params, signal) {
  const bytes = keyBytes(prefix), all = prefixRange(bytes);
  const from = params.from === undefined ? all.key : toBase64(keyBytes(params.from));
  const page = await range({ ...all, key: from, limit: LIST_PAGE, keys_only: true }, signal);
  const changed = new Map(page.kvs.map((kv) => [keyText(kv.key), kv]));
  const fresh = new Set(), list = h("div"), log = h("div"), state = h("p.soft");
  const draw = () => {
    const rows = [...changed.values()].sort((left, right) => compareBytes(left.key, right.key));
    refill(list, table(["Key", "#Version", "#Created", "#Changed", "Lease"], rows.map((kv) => ({ class: fresh.has(keyText(kv.key)) ? "new" : "", cells: [keyCell(keyLink(kv.key)), kv.version, kv.create_revision, kv.mod_revision, leaseLink(kv.lease)] })), "no keys below this prefix"));
  };
  const last = page.kvs[page.kvs.length - 1];
  fill(box, [
    h("div.bar", null, h("span.grow", null, h("b", null, grouped(page.count)), ` keys ${params.from === undefined ? "" : "from here on "}below `, h("code", null, prefix || "everything"), soft(` at revision ${grouped(page.revision)}`)),
      button("Export", () => attempt(() => exportRange(all, page.revision, signal))), action("Import", importPairs), action("Delete all", () => deletePrefix(bytes), ".bad", mayWrite(fromBase64(all.key), fromBase64(all.range_end)))),
    list, page.more && last ? h("p", null, link("keys", { prefix, from: keyText(concat(last.key, new Uint8Array([0]))) }, "Next page")) : null, h("h2", null, "Changes"), state, log]);
  draw();
  const kept = [];
  const followed = "What changes below this prefix is shown as it happens.";
  state.textContent = followed;
  watchRange(all, page.revision, (events) => {
    for (const { type, kv } of events) {
      const text = keyText(kv.key);
      kept.unshift([clockTexts(Date.now() / 1000).local.slice(11), type === "DELETE" ? "delete" : "put", keyCell(keyLink(kv.key)), kv.mod_revision]);
      if (type === "DELETE") changed.delete(text);
      else if (changed.has(text) || (!page.more && changed.size < LIST_PAGE * 5)) changed.set(text, { ...kv, value: undefined }), fresh.add(text);
    }
    kept.length = Math.min(kept.length, CHANGES_KEPT);
    draw();
    refill(log, table(["Time", "What", "Key", "#Revision"], kept));
  }, (text) => (state.textContent = text ? "Not followed: " + text : followed), signal);
}

const leaseLink = (id) => (id && id !== "0" ? h("a.mono", { href: formatRoute("leases", { lease: hexId(id) }) }, hexId(id)) : "");

// Reads page by page, until enough is found or looked at, or somebody goes elsewhere.
async function searchView(box, prefix, params, signal) {
  const matches = matcher(params), inValues = params.in === "values";
  const state = h("p", { role: "status" }), list = h("div"), found = [];
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  const halt = button("Stop", () => stop.abort());
  fill(box, [h("div.bar", null, h("span.grow", null, state), halt), list]);
  const all = prefixRange(keyBytes(prefix));
  let from = all.key, looked = 0, revision, count, why = "All are searched.";
  for (;;) {
    let page;
    try {
      page = await range({ ...all, key: from, limit: inValues ? SEARCH_PAGE / 10 : SEARCH_PAGE, keys_only: !inValues, revision }, stop.signal);
    } catch (error) {
      if (error.name !== "AbortError" || signal.aborted) throw error;
      why = "Stopped.";
      break;
    }
    revision = page.revision;
    count = count === undefined ? page.count : count;
    looked += page.kvs.length;
    const more = page.kvs.filter((kv) => matches(keyText(kv.key)) || (inValues && matches(fromUtf8(fromBase64(kv.value)) || "")));
    found.push(...more);
    state.textContent = `${grouped(found.length)} found in ${grouped(looked)} of ${grouped(count)} keys`;
    if (more.length) refill(list, foundTable(found));
    if (!page.more || !page.kvs.length) break;
    if (found.length >= SEARCH_FOUND_MAX || looked >= SEARCH_KEYS_MAX) {
      why = `Stopped at the limit: ${grouped(SEARCH_FOUND_MAX)} found or ${grouped(SEARCH_KEYS_MAX)} keys.`;
      break;
    }
    from = toBase64(concat(page.kvs[page.kvs.length - 1].key, new Uint8Array([0])));
  }
  halt.remove();
  state.textContent += ". " + why;
  if (!found.length) refill(list, foundTable(found));
}

const foundTable = (found) => table(["Key", "#Version", "#Changed", "Lease"], found.slice(0, SEARCH_FOUND_MAX).map((kv) => [keyCell(keyLink(kv.key)), kv.version, kv.mod_revision, leaseLink(kv.lease)]), "nothing found");

function matcher({ q, mode }) {
  if (mode === "regex") {
    const pattern = new RegExp(q, "i");
    return (text) => pattern.test(text);
  }
  const wanted = q.toLowerCase();
  return (text) => text.toLowerCase().includes(wanted);
}

// All pairs of a range at one revision, a JSON object a line, keys and values in base64.
async function exportRange(all, revision, signal) {
  const parts = [];
  let from = all.key;
  for (;;) {
    const answer = await call("kv/range", { ...all, key: from, limit: 500, revision }, signal);
    for (const kv of answer.kvs || []) parts.push(JSON.stringify(kv) + "\n");
    if (!answer.more) break;
    from = toBase64(concat(fromBase64(answer.kvs[answer.kvs.length - 1].key), new Uint8Array([0])));
  }
  download(`keys-${revision}.jsonl`, parts);
}

// What an export has written, for keys that are not there.
function importPairs() {
  const file = h("input", { type: "file", "aria-label": "File of an export" });
  const run = async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    closeDialog();
    const lines = (await chosen.text()).split("\n").filter(Boolean).map(JSON.parse), waiting = lines.slice();
    let made = 0;
    await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
      for (let pair = waiting.shift(); pair; pair = waiting.shift()) {
        const { key, value } = pair;
        const { succeeded } = await call("kv/txn", { compare: [unchanged(fromBase64(key), null)], success: [{ request_put: { key, value } }] });
        if (succeeded) made++;
      }
    }));
    notice(`${grouped(made)} of ${grouped(lines.length)} keys made; the others were there`, false);
    show();
  };
  openDialog("Import", h("p", null, "Lines as an export writes them. Keys that are there stay as they are; leases are not kept."), file, h("div.bar", null, button("Cancel", closeDialog), button("Import", () => attempt(run), ".main")));
}

function deletePrefix(prefix) {
  const all = prefixRange(prefix), name = keyText(prefix) || "all keys";
  attempt(async () => {
    const { count } = await range({ ...all, count_only: true });
    destroy("Delete keys", `${grouped(count)} keys below ${name} are deleted at once.`, name, "Delete", async () => {
      const { deleted } = await call("kv/deleterange", all);
      notice(`${grouped(deleted)} keys deleted`, false);
      show();
    });
  });
}
