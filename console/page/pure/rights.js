// What a user may do, computed from his roles as the server does: permissions of a kind together must cover the range.

// A permission or a request as [first key, end); an end of null is beyond all keys.
function span(key, end) {
  if (!end.length) return [key, concat(key, new Uint8Array([0]))];
  return [key, end.length === 1 && end[0] === 0 ? null : end];
}

const isUpTo = (left, right) => right === null || (left !== null && compareBytes(left, right) <= 0);

// The roles of a user: [{ name, perm: [{ permType, key, range_end }] }], keys as in the API. { may, by, missing }
function testRight(roles, write, key, end) {
  if (roles.some((role) => role.name === "root")) return { may: true, by: ["root"] };
  const [from, to] = span(key, end);
  const wanted = write ? "WRITE" : "READ";
  const spans = [];
  for (const role of roles) {
    for (const permission of role.perm || []) {
      const type = permission.permType || "READ";
      if (type === wanted || type === "READWRITE") spans.push({ role: role.name, span: span(fromBase64(permission.key), fromBase64(permission.range_end)) });
    }
  }
  spans.sort((left, right) => compareBytes(left.span[0], right.span[0]));
  let reached = from;
  const by = new Set();
  for (const { role, span: [first, last] } of spans) {
    if (compareBytes(first, reached) > 0) break;
    if (!isUpTo(last, reached)) {
      reached = last;
      by.add(role);
    }
    if (isUpTo(to, reached)) return { may: true, by: [...by] };
  }
  return { may: false, by: [...by], missing: reached };
}

// A permission's range in words.
function rangeText(key, end) {
  const from = fromBase64(key), to = fromBase64(end);
  if (!to.length) return keyText(from);
  if (to.length === 1 && to[0] === 0) return from.length === 1 && from[0] === 0 || !from.length ? "all keys" : `${keyText(from)} and all behind it`;
  return compareBytes(prefixEnd(from), to) === 0 ? `${keyText(from)}…` : `${keyText(from)} up to ${keyText(to)}`;
}
