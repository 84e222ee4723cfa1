// Who is unwell: each member as it says of itself, alarms, how full it is; and the panels of the last fifteen minutes.

async function overview(main, params, signal) {
  const members = h("section"), charts = h("section");
  fill(main, [h("h1", null, "Overview"), members, charts]);
  everySecond(async () => drawOverview(members, await overviewFacts(signal)), signal, 3);
  if (has("samples")) followSamples(() => refill(charts, h("h2", null, "The last 15 minutes of this member"), panels()), signal);
  else fill(charts, [h("p.soft", null, "Figures over time are kept by Plinth alone; this is another server.")]);
}

// By the server's own view; of any other by what its clients may ask.
async function overviewFacts(signal) {
  if (has("overview")) return view("overview", signal);
  const [list, status] = await Promise.all([call("cluster/member/list", {}, signal), call("maintenance/status", {}, signal)]);
  const alarms = (status.errors || []).map((text) => /memberID:(\d+) alarm:(\w+)/.exec(text)).filter(Boolean).map(([, member, alarm]) => ({ member, alarm }));
  const members = list.members.map((member) => {
    const own = member.ID === status.header.member_id;
    const told = {
      version: status.version, leader: status.leader || "0", term: status.raftTerm, applied: status.raftAppliedIndex, committed: status.raftIndex, revision: status.header.revision,
      db_size: status.dbSize, db_in_use: status.dbSizeInUse, quota: status.dbSizeQuota || "0", learner: Boolean(status.isLearner), certificates: [],
    };
    return { id: member.ID, name: member.name, peer_urls: member.peerURLs, client_urls: member.clientURLs || [], learner: Boolean(member.isLearner), own, status: own ? told : null, error: own ? null : "only it can say: open it there" };
  });
  return { members, alarms };
}

// Those behind the ninth are known to the server's own view alone.
const MEMBER_COLUMNS = ["Member", "State", "Version", "#Applied", "#Behind", "#Revision", "#File", "#In use", "Of the quota", "#Round trip", "#Up", "Certificates", "Backup"];

function drawOverview(box, { members, alarms }) {
  members.sort((left, right) => (left.name < right.name ? -1 : 1));
  const told = members.filter((member) => member.status);
  const own = (members.find((member) => member.own) || told[0] || {}).status;
  if (!own) return refill(box, h("p.bad", null, "No member says anything."));
  const newest = told.reduce((most, { status }) => (BigInt(status.applied) > most ? BigInt(status.applied) : most), 0n);
  const leader = members.find((member) => member.id === own.leader);
  const silent = members.filter((member) => member.error && has("overview"));
  const faults = [
    ...alarms.map(({ member, alarm }) => `Alarm ${alarm} of ${nameOf(members, member)}`),
    own.leader === "0" ? "This member sees no leader" : null,
    ...silent.map((member) => `${member.name || hexId(member.id)} does not answer: ${member.error}`),
  ].filter(Boolean);
  refill(box,
    figures([
      ["Leader", leader ? leader.name || hexId(leader.id) : "none"], ["Members", has("overview") ? `${told.length} of ${members.length} answer` : String(members.length)],
      ["Revision", grouped(own.revision)], own.keys !== undefined ? ["Keys", grouped(own.keys)] : null, ["Raft term", own.term], ["Compacted to", own.compact_revision === undefined ? null : BigInt(own.compact_revision) < 1n ? "never" : grouped(own.compact_revision)],
    ].filter((pair) => pair && pair[1] !== null)),
    faults.length ? h("div.table", { role: "alert" }, h("table", null, h("tbody", null, faults.map((text) => h("tr", null, h("td.wide.bad", null, text)))))) : null,
    h("h2", null, "Members"),
    table(MEMBER_COLUMNS.slice(0, has("overview") ? undefined : 9), members.map((member) => memberRow(member, newest, own.leader))));
}

const nameOf = (members, id) => (members.find((member) => member.id === id) || {}).name || hexId(id);

function memberRow(member, newest, leader) {
  const who = h("td", null, member.name || "(not started)", member.own ? h("span.tag", null, "this") : null, h("div.soft.small.mono", null, hexId(member.id)));
  const status = member.status;
  if (!status) return [who, h("td.wide." + (has("overview") ? "bad" : "soft"), { colspan: has("overview") ? 12 : 8 }, member.error)];
  const behind = newest - BigInt(status.applied);
  const role = member.id === leader ? "leader" : member.learner ? "learner" : "follower";
  const worst = Math.min(...status.certificates.map(({ days }) => days));
  const cells = [who, role, status.version, grouped(status.applied), behind > 1000n ? h("span.warn", null, grouped(behind)) : grouped(behind), grouped(status.revision), sizeText(status.db_size), sizeText(status.db_in_use),
    quota(status), member.own ? "" : member.round_trip_micros === undefined || member.round_trip_micros === null ? "" : microsText(member.round_trip_micros), status.uptime_seconds === undefined ? "" : durationText(status.uptime_seconds),
    status.certificates.length ? h(worst < 14 ? "span.bad" : "span", null, `${worst} days left`) : "", wide(backupText(status.backup))];
  return has("overview") ? cells : cells.slice(0, 9);
}

function quota(status) {
  const whole = Number(status.quota), used = Number(status.db_in_use);
  if (!(whole > 0)) return soft("no quota");
  const ends = has("samples") ? forecast(column("time"), column("db_in_use"), whole) : null;
  return [dress(h("progress" + (used > whole * 0.8 ? ".full" : "")), { max: whole, value: used, "aria-label": "Part of the quota in use" }), " ", percentText(used, whole), ends && ends < 30 * 86400 ? h("div.warn.small", null, `full in ${durationText(ends)} as of late`) : null];
}

function backupText(line) {
  if (!line) return "";
  const good = /^\[\+\]backup ok: last (\S+Z)/.exec(line);
  if (!good) return h(line[1] === "+" ? "span" : "span.bad", null, line.slice(3));
  const { utc, local } = clockTexts(Date.parse(good[1]) / 1000);
  return h("span", { title: `${utc}, here ${local}` }, `${durationText((Date.now() - Date.parse(good[1])) / 1000)} ago`);
}
