// Who uses the space: by prefix, as the server counts it. The server's view `space?prefix=P&depth=1` answers with
// { total, rows: [{ prefix, keys, versions, bytes, old_bytes, largest, growth }], verified }.

async function space(main, params, signal) {
  const prefix = params.prefix || "";
  const box = h("section");
  fill(main, [h("h1", null, "Space"), crumbs("space", prefix), box]);
  const order = params.sort || "bytes";
  everySecond(async () => {
    const { rows, verified } = await view("space?prefix=" + encodeURIComponent(toBase64(keyBytes(prefix))), signal);
    const number = (row) => Number(row[order] || 0);
    const sorted = rows.map((row) => ({ ...row, prefix: fromBase64(row.prefix) })).sort((left, right) => number(right) - number(left));
    const most = Math.max(1, ...sorted.map((row) => Number(row.bytes || 0) + Number(row.old_bytes || 0)));
    const sorter = (name, text) => link("space", { prefix, sort: name }, text);
    refill(box, h("p", null, soft("Sorted by "), [["bytes", "live bytes"], ["old_bytes", "old versions"], ["keys", "keys"], ["growth", "growth"]].map(([name, text]) => [sorter(name, text), " "]), verified === false ? soft(" Estimates until they are verified.") : null),
      table(["Prefix", "#Keys", "#Versions a key", "#Live", "#Old versions", "#Largest value", "#Last hour", ""], sorted.map((row) => [
        keyCell(link("space", { prefix: keyText(row.prefix), sort: order }, keyText(row.prefix)), " ", link("keys", { prefix: keyText(row.prefix) }, "keys")),
        grouped(row.keys), Number(row.keys) ? (Number(row.versions) / Number(row.keys)).toFixed(1) : "", sizeText(row.bytes), sizeText(row.old_bytes), row.largest === undefined ? "" : sizeText(row.largest), row.growth === undefined ? "" : sizeText(row.growth),
        dress(h("progress"), { max: most, value: Number(row.bytes || 0) + Number(row.old_bytes || 0), "aria-label": "Part of the largest" }),
      ]), "nothing below this prefix"));
  }, signal, 5);
}

// The levels above a prefix, each a link.
function crumbs(name, prefix) {
  const bytes = keyBytes(prefix), parts = [link(name, {}, "all keys")];
  for (let at = 0; at < bytes.length; ) {
    const end = levelEnd(bytes, at);
    parts.push(" ", link(name, { prefix: keyText(bytes.subarray(0, end)) }, keyText(bytes.subarray(at, end))));
    at = end;
  }
  return h("p.key", { "aria-label": "Levels" }, parts);
}
