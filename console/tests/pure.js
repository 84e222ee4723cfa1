// Cases of the page's functions of values; run by pure.rs. Answers with the number of cases and what failed.
const failures = [];
let passed = 0;
const shown = (value) => JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? inner + "n" : inner instanceof Uint8Array ? "bytes " + toBase64(inner) : inner === undefined ? "undefined" : inner));
function same(what, found, expected) {
  if (shown(found) === shown(expected)) passed++;
  else failures.push(`${what}: ${shown(found)} instead of ${shown(expected)}`);
}
const bytes = (...list) => new Uint8Array(list.flat(Infinity));
const text = (string) => toUtf8(string);

// Bytes
for (const [plain, encoded] of [["", ""], ["f", "Zg=="], ["fo", "Zm8="], ["foo", "Zm9v"], ["foob", "Zm9vYg=="]]) {
  same("base64 of " + plain, toBase64(text(plain)), encoded);
  same("from " + encoded, fromUtf8(fromBase64(encoded)), plain);
}
same("all bytes", Array.from(fromBase64(toBase64(bytes(0, 255, 128, 1)))), [0, 255, 128, 1]);
for (const [raw, expected] of [
  [[0xc3, 0xa9], "é"], [[0xf0, 0x9f, 0x8e, 0x89], "🎉"], [[0xc0, 0x80], null], [[0xed, 0xa0, 0x80], null], [[0xf4, 0x90, 0x80, 0x80], null], [[0xe2, 0x82], null], [[0xff], null], [[0xe0, 0x80, 0x80], null],
]) same("utf-8 " + raw, fromUtf8(bytes(raw)), expected);
for (const [raw, expected] of [
  [[0x2f, 0x61], "/a"], [[0], "\\x00"], [[0x5c], "\\\\"], [[0xff, 0x61], "\\xffa"], [[0xc3, 0xa9], "é"], [[0xe2, 0x80, 0xae], "\\xe2\\x80\\xae"], [[0x0a], "\\x0a"], [[0xef, 0xbb, 0xbf], "\\xef\\xbb\\xbf"],
]) {
  same("key " + raw, keyText(bytes(raw)), expected);
  same("key back " + raw, Array.from(keyBytes(expected)), raw);
}
same("an escape that is none", keyText(keyBytes("a\\q")), "a\\\\q");
same("end of a prefix", Array.from(prefixEnd(text("/a"))), [0x2f, 0x62]);
same("end behind ff", Array.from(prefixEnd(bytes(1, 255, 255))), [2]);
same("no end", Array.from(prefixEnd(bytes(255))), [0]);
same("all keys", prefixRange(bytes()), { key: "AA==", range_end: "AA==" });
for (const [key, from, end] of [["/registry/pods/a", 0, 10], ["/registry/pods/a", 10, 15], ["/registry/pods/a", 15, 16], ["a", 0, 1], ["//a//b", 0, 4], ["/", 0, 1]]) same(`level of ${key} from ${from}`, levelEnd(text(key), from), end);
same("hex", hexDump(text("Plinth\u0001"), 64), "000000  50 6c 69 6e 74 68 01                              Plinth.");

// Numbers
same("largest id", hexId("18446744073709551615"), "ffffffffffffffff");
same("a negative lease", hexId("-1"), "ffffffffffffffff");
same("id beyond 2^53", idFromHex("8e9e05c52164694d"), "10276657743932975437");
same("no id", [idFromHex("xyz"), idFromHex(""), idFromHex("12345678901234567")], [null, null, null]);
for (const [number, expected] of [["0", "0"], ["999", "999"], ["1000", "1\u202f000"], ["9223372036854775807", "9\u202f223\u202f372\u202f036\u202f854\u202f775\u202f807"], ["-1234", "-1\u202f234"], [undefined, "0"]]) same("grouped " + number, grouped(number), expected);
for (const [size, expected] of [["0", "0\u00a0B"], ["1023", "1023\u00a0B"], ["1024", "1.00\u00a0KiB"], ["1048575", "1.00\u00a0MiB"], ["8589934592", "8.00\u00a0GiB"]]) same("size " + size, sizeText(size), expected);
for (const [seconds, expected] of [[0, "0s"], [59, "59s"], [61, "1m 1s"], [3600, "1h"], [90061, "1d 1h"], [-5, "-5s"]]) same("duration " + seconds, durationText(seconds), expected);
same("rates", [rateText(0), rateText(0.5), rateText(12345)], ["0/s", "0.50/s", "12.3\u00a0k/s"]);
same("time", clockTexts(0).utc, "1970-01-01 00:00:00 UTC");
const seconds = Array.from({ length: 60 }, (_, index) => index);
same("forecast", forecast(seconds, seconds.map((second) => second * 10), 1590), 100);
same("no forecast", [forecast(seconds, seconds.map(() => 5), 100), forecast([0, 1], [0, 1], 100)], [null, null]);

// Addresses
for (const [hash, view, params] of [
  ["", "overview", {}], ["#/keys", "keys", {}], ["#/keys?prefix=/a%20b/&q=x%3D1%26y", "keys", { prefix: "/a b/", q: "x=1&y" }], ["#/keys?key=a%3Fb=c", "keys", { key: "a?b=c" }], ["#/keys?key=%zz", "keys", { key: "%zz" }],
]) same("address " + hash, parseRoute(hash), { view, params });
for (const params of [{ key: "/a?b&c=d#e" }, { key: "é\\x00" }, { prefix: "<script>", q: "%" }, { key: "+ +" }]) same("address of " + JSON.stringify(params), parseRoute(formatRoute("keys", params)), { view: "keys", params });
same("nothing is left out", formatRoute("keys", { prefix: "", q: undefined, key: "a" }), "#/keys?key=a");

// The wire format, by hand as Go's types write it
const varint = (value) => {
  const out = [];
  for (let left = BigInt.asUintN(64, BigInt(value)); ; left >>= 7n) {
    if (left < 128n) return [...out, Number(left)];
    out.push(Number(left & 127n) | 128);
  }
};
const raw = (number, body) => {
  const list = typeof body === "string" ? Array.from(text(body)) : body.flat(Infinity);
  return [varint((number << 3) | 2), varint(list.length), list].flat();
};
const whole = (number, value) => [...varint(number << 3), ...varint(value)];
const stored = (apiVersion, kind, body) => bytes(0x6b, 0x38, 0x73, 0, raw(1, [raw(1, apiVersion), raw(2, kind)]), raw(2, body), raw(3, ""), raw(4, ""));
const meta = raw(1, [raw(1, "web"), raw(3, "default"), whole(7, 3), raw(8, whole(1, 1700000000)), raw(11, [raw(1, "app"), raw(2, "x")]), raw(11, [raw(1, "__proto__"), raw(2, "y")]), raw(11, raw(1, "empty"))]);
const pod = stored("v1", "Pod", [meta, raw(2, [
  raw(1, [raw(1, "tmp"), raw(2, raw(1, raw(1, "/tmp")))]),
  raw(2, [raw(1, "c"), raw(2, "nginx"), raw(6, [whole(3, 80)]), raw(8, raw(1, [raw(1, "memory"), raw(2, raw(1, "64Mi"))])), raw(10, raw(1, raw(2, [raw(1, "/"), raw(2, [whole(1, 1), whole(2, 0), raw(3, "http")])])))]), whole(4, -1), whole(900, 7),
])]);
const read = decodeKubernetes(pod);
same("kind", [read.apiVersion, read.kind, read.isKnown], ["v1", "Pod", true]);
same("times", read.object.metadata.creationTimestamp, "2023-11-14T22:13:20Z");
same("maps", Object.entries(read.object.metadata.labels), [["app", "x"], ["__proto__", "y"], ["empty", ""]]);
same("no prototype is set", Object.getPrototypeOf(read.object.metadata.labels) === Object.prototype, true);
same("what JSON has in the parent", read.object.spec.volumes, [{ name: "tmp", hostPath: { path: "/tmp" } }]);
same("quantities", read.object.spec.containers[0].resources.limits, { memory: "64Mi" });
same("integer or text", read.object.spec.containers[0].livenessProbe.httpGet, { path: "/", port: "http" });
same("negative numbers", read.object.spec.terminationGracePeriodSeconds, -1n);
same("fields of tomorrow", read.object.spec["#900"], 7n);
const lease = decodeKubernetes(stored("coordination.k8s.io/v1", "Lease", [raw(1, raw(1, "node-1")), raw(2, [raw(1, "me"), whole(2, 40), raw(4, [whole(1, 1700000000), whole(2, 123456000)])])]));
same("micro times", lease.object.spec, { holderIdentity: "me", leaseDurationSeconds: 40n, renewTime: "2023-11-14T22:13:20.123456Z" });
const deployment = decodeKubernetes(stored("apps/v1", "Deployment", [raw(1, raw(1, "d")), raw(2, [whole(1, 3), raw(3, raw(2, raw(2, [raw(1, "c"), raw(2, "i")])))])]));
same("types of other groups", deployment.object.spec, { replicas: 3n, template: { spec: { containers: [{ name: "c", image: "i" }] } } });
const strange = detect(stored("example.com/v9", "Thing", [raw(1, "hello"), whole(2, 5)]));
same("an unknown kind", [strange.kind, strange.object["#1"], strange.object["#2"]], ["example.com/v9 Thing", "hello", 5n]);
for (const broken of [[0x0a], [0x0a, 5, 1], [0x0f, 1], [0x03], [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]]) same("broken " + broken, detect(bytes(0x6b, 0x38, 0x73, 0, broken)).note.slice(0, 17), "it cannot be read");
let deep = [];
for (let level = 0; level < 200; level++) deep = raw(1, deep);
same("nested deeply", typeof detect(stored("a/v1", "B", deep)).type, "string");

// What a value is
const secret = detect(stored("v1", "Secret", [raw(1, raw(1, "s")), raw(2, [raw(1, "password"), raw(2, "hunter2")])]));
same("a secret is masked", [readable(secret, false).includes("hunter2"), readable(secret, false).includes("(7 bytes)"), readable(secret, true).includes("hunter2")], [false, true, true]);
const jsonSecret = detect(text('{"apiVersion":"v1","kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"aHVudGVyMg"}},"data":{"password":"aHVudGVyMg"}}'));
same("so is one of JSON", [readable(jsonSecret, false).includes("aHVudGVyMg"), readable(jsonSecret, true).includes("aHVudGVyMg")], [false, true]);
for (const [value, type] of [
  ["", "empty"], ["hello", "text"], ['{"a":1}', "JSON"], ["[1]", "JSON"], ["{nope", "text"], ["a=1\nb.c=2", "properties"], ["---\na: 1", "YAML"], ["a: 1\nb:\n  - 2", "YAML"], ["k8s:enc:kms:v2:plugin:\u0001", "encrypted by Kubernetes"], ["a\u0000b", "binary"],
]) same("type of " + value, detect(text(value)).type, type);
same("provider and key", detect(bytes(Array.from(text("k8s:enc:aescbc:v1:key1:")), 255, 254)).note, "provider aescbc v1, key key1");
same("gzip", detect(bytes(0x1f, 0x8b, 8)).type, "gzip");
same("binary", [detect(bytes(0xff)).type, detect(bytes(0xff)).isEditable], ["binary", false]);
same("cbor", detect(bytes(0xd9, 0xd9, 0xf7, 0xa2, 0x61, 0x61, 0x1b, 255, 255, 255, 255, 255, 255, 255, 255, 0x61, 0x62, 0x9f, 0x20, 0xf5, 0xf6, 0xff)).object, { a: 18446744073709551615n, b: [-1n, true, null] });
same("cut cbor", detect(bytes(0xd9, 0xd9, 0xf7, 0xa2)).note, "it cannot be read: cut off");
same("numbers of JSON stay", prettyJson('{"id":12345678901234567890,"f":1.50,"e":{},"l":[ ]}'), '{\n  "id": 12345678901234567890,\n  "f": 1.50,\n  "e": {},\n  "l": []\n}');
same("texts of JSON stay", prettyJson('["a,b{\\"}",":"]'), '[\n  "a,b{\\"}",\n  ":"\n]');
same("yaml", yaml({ a: "yes", b: "1", c: ["x: y", {}], d: "two\nlines\n", e: true, f: 5n }).trimStart(), 'a: "yes"\nb: "1"\nc:\n  - "x: y"\n  - {}\nd: |\n  two\n  lines\ne: true\nf: 5');

same("a text that ends unlike its begin is told at once", yaml({ a: "n".repeat(100) + "?" }).trimStart(), 'a: "' + "n".repeat(100) + '?"');
same("words stay bare", yaml({ a: "one two:three" }).trimStart(), "a: one two:three");
same("ends of lines", ["a\nb", "a\r\nb\r\n", "a\r\nb\n", "a\rb"].map(lineEnds), ["\n", "\r\n", null, null]);

// Differences
const marks = (before, after) => diffLines(before, after).map(([mark, line]) => mark + line).join("|");
same("no difference", marks("a\nb", "a\nb"), " a| b");
same("a change", marks("a\nb\nc", "a\nx\nc"), " a|-b|+x| c");
same("in front and behind", marks("b\nc", "a\nb\nc\nd"), "+a| b| c|+d");
same("from nothing", marks("", "a"), "-|+a");
const long = Array.from({ length: 5000 }, (_, index) => "line " + index);
const found = diffLines(long.join("\n"), long.filter((_, index) => index % 1000 !== 500).join("\n"));
same("a long text", [found.length, found.filter(([mark]) => mark === "-").length], [5000, 5]);
same("nothing alike", diffLines(long.join("\n"), long.map((line) => line + "!").join("\n")).length, 10000);
same("far lines are left out", shortened(found)[0], ["…", "497 lines alike"]);
for (let round = 0; round < 50; round++) {
  const draw = (seed) => Array.from({ length: 12 }, (_, index) => "abc"[(seed * (index + 3) * 7 + ((seed * index) >> 2)) % 3]).join("\n");
  const before = draw(round + 1), after = draw(round * 3 + 2), lines = diffLines(before, after);
  const side = (mark) => lines.filter(([found]) => found === " " || found === mark).map(([, line]) => line).join("\n");
  same("both sides again " + round, [side("-"), side("+")], [before, after]);
}

// Rights
const permission = (permType, key, end) => ({ permType, key: toBase64(text(key)), range_end: end === undefined ? "" : toBase64(text(end)) });
const roles = [{ name: "a", perm: [permission(undefined, "/a", "/c"), permission("WRITE", "/w")] }, { name: "b", perm: [permission("READWRITE", "/c", "/d"), { permType: "READ", key: toBase64(text("/x")), range_end: "AA==" }] }];
for (const [write, key, end, may] of [
  [false, "/a", "", true], [false, "/a", "/c", true], [false, "/a", "/d", true], [false, "/a", "/e", false], [false, "/", "", false], [true, "/b", "", false], [true, "/w", "", true], [true, "/w", "/x", false], [true, "/c", "/d", true], [false, "/w", "", false], [false, "/x", "\u0000", true], [false, "/zz", "\u0000", true], [false, "/a", "\u0000", false],
]) same(`${write} ${key} ${end}`, testRight(roles, write, text(key), text(end)).may, may);
same("root may", testRight([{ name: "root" }], true, bytes(0), bytes(0)).may, true);
same("by whom", testRight(roles, false, text("/a"), text("/d")).by, ["a", "b"]);
same("ranges in words", [rangeText("AA==", "AA=="), rangeText(toBase64(text("/a")), ""), rangeText(toBase64(text("/a/")), toBase64(text("/a0"))), rangeText(toBase64(text("/a")), toBase64(text("/c")))], ["all keys", "/a", "/a/…", "/a up to /c"]);

// Commands
const calls = callTable();
const one = (path) => calls.find((known) => known.path === path);
same("a body", bodyOf(one("kv/range"), { key: "/a", limit: "9223372036854775807", keys_only: true, sort_order: "" }), { key: "L2E=", limit: "9223372036854775807", keys_only: true });
same("ids", bodyOf(one("lease/revoke"), { ID: "694d8e9e05c52164" }), { ID: "7587877756541935972" });
same("lists", bodyOf(one("cluster/member/add"), { peerURLs: "http://a:1, http://b:2" }), { peerURLs: ["http://a:1", "http://b:2"] });
const refusal = (typed) => {
  try {
    bodyOf(one("kv/range"), typed);
    return "taken";
  } catch (error) {
    return error.message;
  }
};
same("no number", refusal({ limit: "1.5" }), "limit: not a whole number");
same("curl", curlCommand("http://h:1", "kv/put", '{"key":"it\'s"}', true), "curl -s -H \"Authorization: $TOKEN\" http://h:1/v3/kv/put -d '{\"key\":\"it'\\''s\"}'");
same("etcdctl", etcdctlCommand("http://h:1", one("kv/range"), { key: "a b", range_end: "\\x00", limit: "5", keys_only: true, serializable: true }), "etcdctl --endpoints=http://h:1 get 'a b' $'\\x00' --limit=5 --consistency=s --keys-only");
for (const { path, fields } of calls) same("fields of " + path, fields.every((field) => field.length === 2 && field[1] !== ""), true);

return passed + "\n" + failures.join("\n");
