// Watchers (where the server says), leases with the time that is left and their keys, locks and elections with their queues.

const LEASES_SHOWN = 200;
const QUEUE_KEYS_MAX = 5000;
const AT_A_TIME = 4;

async function leases(main, params, signal) {
  const watchers = h("section"), list = h("section"), queues = h("section");
  fill(main, [h("h1", null, "Watches and leases"), has("watchers") ? watchers : null, list, queues]);
  if (has("watchers")) everySecond(async () => refill(watchers, await watcherTable(signal)), signal, 2);
  attempt(() => leaseView(list, params, signal));
  attempt(() => queueView(queues, params, signal));
}

// { watchers: [{ client, user, key, range_end, lag, queued, id }] }
async function watcherTable(signal) {
  const { watchers } = await view("watchers", signal);
  return [h("h2", null, "Watchers"), table(["Client", "User", "Range", "#Revisions behind", "#Events waiting"], watchers.map((row) => [row.client, row.user || "", keyCell(rangeText(row.key, row.range_end || "")), grouped(row.lag), grouped(row.queued)]), "nobody watches")];
}

async function leaseView(box, params, signal) {
  const { leases: all = [] } = await call("lease/leases", {}, signal);
  const wanted = params.lease ? idFromHex(params.lease) : null;
  const ids = wanted ? [wanted] : all.map((lease) => lease.ID).slice(0, LEASES_SHOWN);
  const rows = [];
  const waiting = [...ids];
  const reader = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) rows.push(await call("lease/timetolive", { ID: id, keys: true }, signal));
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, reader));
  rows.sort((left, right) => Number(left.TTL || 0) - Number(right.TTL || 0));
  const keysOf = (lease) => {
    const held = lease.keys || [];
    return [held.slice(0, 5).map((key) => h("div", null, keyLink(fromBase64(key)))), held.length > 5 ? soft(`and ${grouped(held.length - 5)} more`) : held.length ? null : soft("no keys")];
  };
  refill(box, h("div.bar", null, h("span.grow", null, h("b", null, grouped(all.length)), " leases", wanted ? [", one shown. ", link("leases", {}, "Show all")] : all.length > LEASES_SHOWN ? soft(`, ${LEASES_SHOWN} shown`) : null), button("Again", () => attempt(() => leaseView(box, params, signal))), action("Grant a lease", grantLease)),
    table(["Lease", "#Left", "#Granted", "Keys", ""], rows.map((lease) => [
      h("span.mono", null, hexId(lease.ID)), lease.TTL === "-1" ? h("span.bad", null, "over") : durationText(lease.TTL || 0), durationText(lease.grantedTTL || 0), keyCell(keysOf(lease)),
      [action("Renew", () => attempt(async () => { await call("lease/keepalive", { ID: lease.ID }); await leaseView(box, params, signal); })), " ",
        action("Revoke", () => destroy("Revoke a lease", `Its ${(lease.keys || []).length} keys are deleted with it.`, hexId(lease.ID), "Revoke", async () => { await call("lease/revoke", { ID: lease.ID }); await leaseView(box, {}, signal); }), ".bad")],
    ]), "no leases"));
}

const grantLease = () => openDialog("Grant a lease", form([["TTL", "Seconds", { value: "600", inputmode: "numeric", required: true }]], "Grant", async ({ TTL }) => {
  closeDialog();
  const { ID } = await call("lease/grant", { TTL });
  notice("Lease " + hexId(ID), false);
  show();
}), cancelBar());

// Keys with a lease below one parent form a queue, the oldest first: so do locks and elections of etcd's clients.
async function queueView(box, params, signal) {
  const prefix = params.queue || "";
  const page = await range({ ...prefixRange(keyBytes(prefix)), limit: QUEUE_KEYS_MAX, keys_only: true }, signal);
  const parents = new Map();
  for (const kv of page.kvs) {
    const cut = kv.key.lastIndexOf(0x2f);
    if (!kv.lease || kv.lease === "0" || cut < 1) continue;
    const parent = keyText(kv.key.subarray(0, cut));
    if (!parents.has(parent)) parents.set(parent, []);
    parents.get(parent).push(kv);
  }
  const isQueue = (kv) => /\/[0-9a-f]{6,16}$/.test(keyText(kv.key));
  const rows = [...parents].filter(([, kvs]) => kvs.some(isQueue)).map(([parent, kvs]) => {
    const [owner, ...others] = kvs.sort((left, right) => (BigInt(left.create_revision) < BigInt(right.create_revision) ? -1 : 1));
    return [keyCell(parent), keyCell(keyLink(owner.key)), leaseLink(owner.lease), keyCell(others.length ? others.slice(0, 10).map((kv) => h("div", null, keyLink(kv.key))) : soft("nobody waits"))];
  });
  refill(box, h("h2", null, "Locks and elections"), h("form.bar", {
    onsubmit: (event) => {
      event.preventDefault();
      go("leases", { queue: event.target.elements.queue.value });
    },
  }, h("span.grow", null, h("input.mono", { name: "queue", value: prefix, placeholder: "below this prefix", "aria-label": "Below the prefix", spellcheck: "false" })), h("button", null, "Look")),
    page.more ? h("p.warn", null, `Only the first ${grouped(QUEUE_KEYS_MAX)} keys were looked at: give a prefix.`) : null, table(["Name", "Owner", "Its lease", "Queue"], rows, "no keys with leases that look like locks"));
}
