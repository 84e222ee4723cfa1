// Members and leadership; compaction, defragmentation, alarms; a snapshot to keep; whether all members hold the same.

async function cluster(main, params, signal) {
  const [list, status] = await Promise.all([call("cluster/member/list", {}, signal), call("maintenance/status", {}, signal)]);
  const own = status.header.member_id;
  const again = async (text) => {
    notice(text, false);
    show();
  };
  fill(main, [
    h("h1", null, "Cluster ", h("span.soft.mono", null, hexId(list.header.cluster_id))),
    h("div.bar", null, h("h2.grow", null, "Members"), action("Add a member", () => addMember(again))),
    table(["Name", "Id", "Peer URLs", "Client URLs", "", ""], list.members.map((member) => [
      [member.name || soft("(not started)"), member.ID === own ? h("span.tag", null, "this") : null], h("span.mono", null, hexId(member.ID)), keyCell((member.peerURLs || []).join(" ")), keyCell((member.clientURLs || []).join(" ")),
      member.isLearner ? "learner" : member.ID === status.leader ? "leader" : "", memberActions(member, status, again)])),
    h("h2", null, "Whether all members hold the same"), hashBox(signal),
    h("h2", null, "Upkeep"), upkeep(status, again),
    h("h2", null, "Alarms"), alarmTable(status, again),
    h("h2", null, "Snapshot"), snapshotBox(signal)]);
}

function memberActions(member, status, again) {
  const name = member.name || hexId(member.ID);
  const lead = status.leader === status.header.member_id && member.ID !== status.leader && !member.isLearner;
  return [
    member.isLearner ? action("Promote", () => attempt(async () => { await call("cluster/member/promote", { ID: member.ID }); await again(name + " is a voter now"); })) : null, " ",
    lead ? action("Make it lead", () => destroy("Move leadership", "Requests may wait for a moment.", name, "Move", async () => { await call("maintenance/transfer-leadership", { targetID: member.ID }); await again(name + " leads"); })) : null, " ",
    action("Change URLs", () => openDialog("Peer URLs of " + name, form([["urls", "URLs", { value: (member.peerURLs || []).join(" "), required: true }]], "Change", async ({ urls }) => {
      closeDialog();
      await call("cluster/member/update", { ID: member.ID, peerURLs: urls.split(/[\s,]+/).filter(Boolean) });
      await again("changed");
    }), cancelBar())), " ",
    action("Remove", () => destroy("Remove a member", "It stops and cannot come back with its data.", name, "Remove", async () => { await call("cluster/member/remove", { ID: member.ID }); await again(name + " is removed"); }), ".bad"),
  ];
}

const addMember = (again) => openDialog("Add a member", form([["urls", "Its peer URLs", { required: true }], ["learner", "As a learner", { type: "checkbox", checked: true }]], "Add", async ({ urls, learner }) => {
  closeDialog();
  const { member } = await call("cluster/member/add", { peerURLs: urls.split(/[\s,]+/).filter(Boolean), isLearner: learner });
  await again(`Member ${hexId(member.ID)} is added: start it with --initial-cluster-state existing`);
}), cancelBar());

function hashBox(signal) {
  const out = h("div");
  const compare = async () => {
    refill(out, h("p.soft", null, "Reading all data …"));
    const hashes = has("hash") ? (await view("hash", signal)).hashes : [await call("maintenance/hashkv", {}, signal)].map((answer) => ({ member: answer.header.member_id, hash: answer.hash, revision: answer.hash_revision || answer.header.revision, compact_revision: answer.compact_revision || "0" }));
    const told = hashes.filter((row) => !row.error);
    // What another compaction has left differs in health, too.
    const isComparable = told.every((row) => row.revision === told[0].revision && row.compact_revision === told[0].compact_revision);
    const alike = told.every((row) => row.hash === told[0].hash);
    const verdict = !isComparable ? h("p.warn", null, "They cannot be compared now: one has another revision or compaction. Ask again.") : !alike ? h("p.bad", null, "They differ.") : h(told.length === hashes.length ? "p.good" : "p.warn", null, `${told.length} of ${hashes.length} members hold the same.`);
    refill(out, has("hash") ? verdict : soft("Of this member; others are asked there."), table(["Member", "#Hash", "#Up to revision", "#From compaction"], hashes.map((row) => (row.error ? [hexId(row.member), h("td.bad", { colspan: 3 }, row.error)] : [h("span.mono", null, hexId(row.member)), String(row.hash), grouped(row.revision), grouped(row.compact_revision)]))));
  };
  return h("div", null, h("div.bar", null, button("Compare hashes", () => attempt(compare))), out);
}

const upkeep = (status, again) => h("div.bar", null,
  h("span.soft", null, `Revision ${grouped(status.header.revision)}, file ${sizeText(status.dbSize)}, in use ${sizeText(status.dbSizeInUse)}`), h("span.grow"),
  action("Compact", () => openDialog("Compact", h("p", null, "Versions before a revision are dropped, in all members."), form([["revision", "Revision", { value: status.header.revision, inputmode: "numeric", required: true }]], "Go on", ({ revision }) =>
    destroy("Compact", `History before revision ${grouped(revision)} is gone for good.`, revision, "Compact", async () => { await call("kv/compaction", { revision, physical: true }); await again("compacted"); })), cancelBar())),
  action("Defragment this member", () => attempt(async () => { await call("maintenance/defragment", {}); await again("defragmented"); })));

function alarmTable(status, again) {
  const alarms = (status.errors || []).map((text) => /memberID:(\d+) alarm:(\w+)/.exec(text)).filter(Boolean);
  return table(["Alarm", "Member", ""], alarms.map(([, memberID, alarm]) => [h("span.bad", null, alarm), h("span.mono", null, hexId(memberID)), action("Disarm", () => destroy("Disarm an alarm", "Only when its cause is gone.", alarm, "Disarm", async () => { await call("maintenance/alarm", { action: "DEACTIVATE", memberID, alarm }); await again("disarmed"); }))]), "none");
}

// Piece by piece into a file; the last piece is the checksum of all before it.
function snapshotBox(signal) {
  const state = soft("A file that etcdutl and this server restore from.");
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  const fetchAll = async () => {
    const parts = [];
    let size = 0;
    for await (const { blob, remaining_bytes } of stream("maintenance/snapshot", [{}], stop.signal)) {
      const part = fromBase64(blob);
      parts.push(part);
      size += part.length;
      state.textContent = `${sizeText(size)} of ${sizeText(size + Number(remaining_bytes || 0))}`;
    }
    download("snapshot.db", parts);
    state.textContent = `${sizeText(size)} saved`;
  };
  return h("div.bar", null, button("Download a snapshot", () => attempt(fetchAll)), state);
}
