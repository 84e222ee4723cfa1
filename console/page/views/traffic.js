// Who writes, who reads, and what was slow: rates of the last fifteen minutes, and what the server counts by prefix and
// client. Its views: `traffic` { prefixes: [{ prefix, puts, deletes, ranges, txns, events, renewals }] } as rates,
// `clients` { clients: [{ address, user, agent, puts, ranges, ... }] }, `slow` { requests: [{ time, what, took_us, client, stages }] }.

const RATES = ["puts", "deletes", "ranges", "txns", "events", "renewals"];

async function traffic(main, params, signal) {
  const charts = h("section"), tables = h("section");
  fill(main, [h("h1", null, "Traffic"), charts, tables]);
  if (has("samples")) followSamples(() => {
    const times = column("time");
    refill(charts, h("div.cards", null, RATES.map((name) => chart(name[0].toUpperCase() + name.slice(1), rateText, [["", rates(name)]], times)),
      chart("gRPC connections", countText, [["", column("connections")]], times), chart("In flight", countText, [["requests", column("in_flight")]], times),
      chart("Refused", rateText, [["", rates("refused")]], times), chart("Watchers", countText, [["all", column("watchers")], ["behind", column("slow_watchers")]], times)));
  }, signal);
  if (["traffic", "clients", "slow"].some(has)) everySecond(async () => refill(tables, await trafficTables(signal)), signal, 2);
}

const rateCells = (row) => RATES.map((name) => (Number(row[name]) ? rateText(Number(row[name])) : ""));
const rateColumns = RATES.map((name) => "#" + name[0].toUpperCase() + name.slice(1));

async function trafficTables(signal) {
  const [byPrefix, byClient, slow] = await Promise.all(["traffic", "clients", "slow"].map((name) => (has(name) ? view(name, signal) : null)));
  return [
    byPrefix ? [h("h2", null, "Prefixes"), table(["Prefix", ...rateColumns], byPrefix.prefixes.map((row) => [keyCell(link("keys", { prefix: keyText(fromBase64(row.prefix)) }, keyText(fromBase64(row.prefix)))), ...rateCells(row)]), "no requests")] : null,
    byClient ? [h("h2", null, "Clients"), table(["Address", "User", "Program", ...rateColumns], byClient.clients.map((row) => [row.address, row.user || "", wide(row.agent || ""), ...rateCells(row)]), "no clients")] : null,
    slow ? [h("h2", null, "Slowest requests"), table(["When", "#Took", "What", "Client", "Where the time went"], slow.requests.map((row) => [clockTexts(Number(row.time)).local, microsText(row.took_us), wide(row.what), row.client || "", wide((row.stages || []).map(([stage, micros]) => `${stage} ${microsText(micros)}`).join(", "))]), "nothing was slow")] : null,
  ];
}
