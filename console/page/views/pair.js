// One key: value, what is known of it, its history; changes by compare-and-swap, so that nobody's are lost.

const HISTORY_PAGE = 20;

async function pairView(box, key, params, signal) {
  const revision = params.rev;
  const kv = await getKey(key, revision, signal);
  const name = keyText(key);
  if (!kv) return fill(box, [h("h1.key", null, name), h("p", null, revision ? `It was not there at revision ${grouped(revision)}.` : "There is no such key."), revision ? null : action("Make it", () => newKey(name))]);
  const value = fromBase64(kv.value), found = detect(value), state = h("p", { role: "status" });
  const edit = h("section"), history = h("section");
  const may = mayWrite(key, new Uint8Array(0));
  const changes = !revision && [
    action("Edit", () => editView(edit, key, kv, value, found), "", may),
    action("Delete", () => destroy("Delete a key", "The key is deleted if nobody has changed it meanwhile.", name, "Delete", () => deleteKey(key, kv)), ".bad", may),
  ];
  fill(box, [
    h("h1.key", null, name), state,
    revision ? h("p", null, `As it was at revision ${grouped(revision)}. `, link("keys", { key: name }, "As it is now")) : null,
    h("div.bar", null, changes, button("History", () => attempt(() => historyView(history, key, kv, signal)))),
    figures([["Version", kv.version], ["Created at revision", grouped(kv.create_revision)], ["Changed at revision", grouped(kv.mod_revision)], ["Size of the value", sizeText(value.length)], kv.lease && kv.lease !== "0" ? ["Lease", leaseLink(kv.lease)] : null].filter(Boolean)),
    edit, valueView(value, name), history]);
  if (params.history) await historyView(history, key, kv, signal);
  if (!revision) watchRange({ key: toBase64(key) }, kv.mod_revision, (events) => {
    const last = events[events.length - 1];
    refill(state, h("span.warn", null, last.type === "DELETE" ? "It has been deleted" : "It has been changed", ` at revision ${grouped(last.kv.mod_revision)}. `), button("Show it", () => show()));
  }, () => {}, signal);
}

async function deleteKey(key, kv) {
  const answer = await call("kv/txn", { compare: [unchanged(key, kv)], success: [{ request_delete_range: { key: toBase64(key) } }] });
  notice(answer.succeeded ? "The key is deleted" : "Not deleted: it has been changed meanwhile", !answer.succeeded);
  show();
}

const unchanged = (key, kv) => (kv ? { target: "MOD", result: "EQUAL", key: toBase64(key), mod_revision: kv.mod_revision } : { target: "CREATE", result: "EQUAL", key: toBase64(key), create_revision: "0" });

// Puts a value if the key is still as `kv`: none, or what it is now instead.
async function swap(key, kv, value) {
  const put = { key: toBase64(key), value: toBase64(value), ignore_lease: Boolean(kv) };
  const answer = await call("kv/txn", { compare: [unchanged(key, kv)], success: [{ request_put: put }], failure: [{ request_range: { key: toBase64(key) } }] });
  if (answer.succeeded) return null;
  const now = answer.responses[0].response_range.kvs;
  return { now: now ? now[0] : null };
}

function editView(box, key, kv, value, found) {
  if (!found.isEditable) {
    const why = found.type.startsWith("Kubernetes") ? "An object of Kubernetes is changed with kubectl: a page that writes it back could lose what it does not know." : `A value of the type ${found.type} cannot be edited as text.`;
    return refill(box, h("p.warn", null, why));
  }
  const lines = lineEnds(fromUtf8(value));
  if (lines === null) return refill(box, h("p.warn", null, "Its lines end in more than one way, which a browser would change."));
  const area = h("textarea.mono", { id: "edit", "aria-label": "New value", spellcheck: "false" });
  area.value = found.isSecret ? "" : fromUtf8(value);
  if (found.isSecret) return refill(box, h("p.warn", null, "A Secret is changed with kubectl."));
  const conflict = h("div");
  const save = (base) => attempt(async () => {
    const fault = jsonFault(found.type, area.value);
    if (fault && !conflict.textContent.includes(fault)) return refill(conflict, h("p.warn", null, `No JSON any more: ${fault}. Save again to keep it like that.`));
    const lost = await swap(key, base, toUtf8(area.value.replace(/\n/g, lines)));
    if (!lost) {
      notice("Saved", false);
      return show();
    }
    return conflictView(conflict, area, key, lost.now, save);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      save(kv);
    }
  });
  refill(box, area, h("div.bar", null, action("Save", () => save(kv), ".main"), button("Cancel", () => refill(box)), soft(`saved only if it is still at revision ${grouped(kv.mod_revision)}; `, h("kbd", null, "Ctrl S"))), conflict);
  area.focus();
  return box;
}

function jsonFault(type, text) {
  if (type !== "JSON") return null;
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

// Somebody was faster: what is there now beside what was to be saved.
function conflictView(box, area, key, now, save) {
  const theirs = now ? fromBase64(now.value) : new Uint8Array(0), text = fromUtf8(theirs);
  refill(box, h("p.bad", { role: "alert" }, now ? `Not saved: it was changed meanwhile, at revision ${grouped(now.mod_revision)}. From what is there now to yours:` : "Not saved: it was deleted meanwhile."),
    now ? diffView(text === null ? hexDump(theirs, HEX_BYTES) : text, area.value) : null,
    h("div.bar", null, now && text !== null ? button("Take what is there", () => {
      area.value = text;
      refill(box);
    }) : null, action(now ? `Save mine over revision ${now.mod_revision}` : "Make it again", () => save(now), ".bad")));
}

// One version after the other, back to where it was made or compacted; each with its difference from the one before.
async function historyView(box, key, kv, signal) {
  const versions = [kv], list = h("div"), more = h("p");
  refill(box, h("h2", null, "History"), list, more);
  const draw = (end) => {
    refill(list, versions.map((version, index) => {
      const older = versions[index + 1], value = fromBase64(version.value);
      const isOldest = !older;
      return h("section", null, h("div.bar", null, h("b", null, `Version ${version.version}`), soft(`revision ${grouped(version.mod_revision)}, ${grouped(value.length)} bytes`), h("span.grow"),
        index ? link("keys", { key: keyText(key), rev: version.mod_revision }, "Show") : null, index ? action("Put back", () => putBack(key, kv, value, version)) : null),
      older ? diffView(comparable(fromBase64(older.value)), comparable(value)) : isOldest && version.version === "1" ? h("p.soft", null, "Here it was made.") : null);
    }));
    refill(more, end || button("Older versions", () => attempt(read)));
  };
  const read = async () => {
    for (let count = 0; count < HISTORY_PAGE; count++) {
      const last = versions[versions.length - 1];
      if (last.version === "1") return draw(soft("That is all of it since it was made last."));
      try {
        const older = await getKey(key, String(BigInt(last.mod_revision) - 1n), signal);
        if (!older) return draw(soft("Before that it was not there."));
        versions.push(older);
      } catch (error) {
        if (error.code !== OUT_OF_RANGE) throw error;
        return draw(soft("Older versions are compacted."));
      }
    }
    return draw();
  };
  await read();
}

const putBack = (key, kv, value, version) => destroy("Put back an old version", `The value of version ${version.version} becomes the value again, if nobody has changed the key meanwhile.`, keyText(key), "Put back", async () => {
  const lost = await swap(key, kv, value);
  notice(lost ? "Not put back: it has been changed meanwhile" : "Put back", Boolean(lost));
  show();
});

function newKey(prefix) {
  openDialog("New key", form([["key", "Key", { value: prefix, required: true }], ["value", "Value"], ["lease", "Lease (hex), if any"]], "Make it", async (typed) => {
    const key = keyBytes(typed.key), lease = typed.lease ? idFromHex(typed.lease) : "0";
    closeDialog();
    if (lease === null) throw new Error("a lease is up to 16 hexadecimal digits");
    const put = { key: toBase64(key), value: toBase64(toUtf8(typed.value)), lease };
    const answer = await call("kv/txn", { compare: [unchanged(key, null)], success: [{ request_put: put }] });
    if (!answer.succeeded) throw new Error("there is such a key already");
    go("keys", { key: typed.key });
  }), cancelBar());
}
