// Objects as Kubernetes stores them, written by hand.

const varint = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...varint(Math.floor(number / 128))]);
const raw = (field, body) => {
  const bytes = typeof body === "string" ? [...Buffer.from(body)] : body.flat(Infinity);
  return [...varint(field * 8 + 2), ...varint(bytes.length), ...bytes];
};
const whole = (field, number) => [...varint(field * 8), ...varint(number)];
const stored = (apiVersion, kind, body) => Buffer.from([0x6b, 0x38, 0x73, 0, ...raw(1, [raw(1, apiVersion), raw(2, kind)]), ...raw(2, body)]);
const meta = (name) => raw(1, [raw(1, name), raw(3, "default"), raw(5, "b3f0c1e2-7c1d-4b55-9f1e-0a1b2c3d4e5f"), raw(8, whole(1, 1790000000)), raw(11, [raw(1, "app"), raw(2, "web")])]);

export const pod = (name) => stored("v1", "Pod", [
  meta(name),
  raw(2, [raw(2, [raw(1, "web"), raw(2, "nginx:1.29"), raw(6, [raw(1, "http"), whole(3, 8080), raw(4, "TCP")]), raw(8, raw(2, [raw(1, "memory"), raw(2, raw(1, "64Mi"))]))]), raw(10, "node-1")]),
  raw(3, [raw(1, "Running"), raw(6, "10.0.0.7")]),
]);

export const secret = stored("v1", "Secret", [meta("db"), raw(2, [raw(1, "password"), raw(2, "hunter2")]), raw(3, "Opaque")]);
