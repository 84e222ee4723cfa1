// Protobuf's wire format, read by the table of Kubernetes' built-in kinds, or without a table.

const WIRE_DEPTH_MAX = 32;
let kindTable = null;

// Group and version, then message, then fields by number.
function kinds() {
  if (kindTable) return kindTable;
  kindTable = new Map();
  let messages;
  for (const line of KINDS.split("\n")) {
    if (line[0] === "@") kindTable.set(line.slice(1), (messages = new Map()));
    else if (line) {
      const [name, ...fields] = line.split("|");
      messages.set(name, fields);
    }
  }
  return kindTable;
}

// The fields of a message: number to [name, mark, type]; null if the table does not have it.
function fieldsOf(group, name) {
  const messages = kinds().get(group);
  const found = messages && messages.get(name);
  if (!found) return null;
  if (found instanceof Map) return found;
  const fields = new Map();
  let number = 0;
  for (const entry of found) {
    const text = entry === "@" ? "metadata meta.ObjectMeta" : entry;
    const [, jump, field, mark, type] = /^(?:(\d+):)?(\w+) ?([*%]?)(.*)$/.exec(text);
    number = jump ? Number(jump) : number + 1;
    fields.set(number, [field, mark, type]);
  }
  messages.set(name, fields);
  return fields;
}

// The group and name that a type means inside a group.
function resolveType(group, type) {
  const [family, name] = type.includes(".") ? type.split(".") : [null, type];
  if (!family) return [group, name];
  if (family === "meta") return ["meta", name];
  if (family === "core") return ["v1", name];
  for (const known of kinds().keys()) if (known.startsWith(family + ".") || known.startsWith(family + "/")) return [known, name];
  return [family, name];
}

// Tags and raw values: [number, wire type, value] each. Throws on what is no message.
function* wireFields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) throw new Error("cut off");
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new Error("a number of more than 64 bits");
  };
  const take = (length) => {
    if (length > bytes.length - at) throw new Error("cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Number(tag >> 3n), wire = Number(tag & 7n);
    if (number < 1 || number > 536870911) throw new Error("no field has this number");
    if (wire === 0) yield [number, wire, varint()];
    else if (wire === 2) yield [number, wire, take(Number(varint()))];
    else if (wire === 1 || wire === 5) yield [number, wire, take(wire === 1 ? 8 : 4)];
    else throw new Error("no such wire type");
  }
}

// Parts that Go's JSON of Kubernetes shows in their parent.
const INLINED = new Set(["volumeSource", "persistentVolumeSource", "handler", "probeHandler", "ephemeralContainerCommon", "localObjectReference"]);

function decodeMessage(bytes, group, name, depth = 0) {
  const fields = fieldsOf(group, name);
  if (!fields) return decodeUnknown(bytes, depth);
  if (depth > WIRE_DEPTH_MAX) throw new Error("nested too deeply");
  const out = {};
  for (const [number, wire, raw] of wireFields(bytes)) {
    const known = fields.get(number);
    if (!known) {
      addTo(out, "#" + number, decodeRaw(wire, raw, depth));
      continue;
    }
    const [field, mark, type] = known;
    if (mark === "%") {
      const entry = { 1: "", 2: undefined };
      for (const [part, partWire, value] of wireFields(raw)) entry[part] = part === 1 ? wireText(value) : decodeField(type, partWire, value, group, depth);
      // A name of the object's own, whatever it is called.
      Object.defineProperty((out[field] ||= {}), entry[1], { value: entry[2] === undefined ? "" : entry[2], enumerable: true, configurable: true });
    } else if (mark === "*") (out[field] ||= []).push(decodeField(type, wire, raw, group, depth));
    else if (INLINED.has(field)) Object.assign(out, decodeField(type, wire, raw, group, depth));
    else out[field] = decodeField(type, wire, raw, group, depth);
  }
  return special(group, name, out);
}

function decodeField(type, wire, raw, group, depth) {
  if (type === "") return wire === 2 ? wireText(raw) : decodeRaw(wire, raw, depth);
  if (type === "i") return wire === 0 ? BigInt.asIntN(64, raw) : decodeRaw(wire, raw, depth);
  if (type === "o") return wire === 0 ? raw !== 0n : decodeRaw(wire, raw, depth);
  if (wire !== 2) return decodeRaw(wire, raw, depth);
  if (type === "y") return raw;
  const [home, name] = resolveType(group, type);
  return decodeMessage(raw, home, name, depth + 1);
}

const wireText = (raw) => {
  const text = raw instanceof Uint8Array ? fromUtf8(raw) : String(raw);
  return text === null ? raw : text;
};

// Messages that are shown as what they mean.
function special(group, name, out) {
  if (group !== "meta") return out;
  if (name === "Time" || name === "MicroTime") return timeText(out.seconds || 0n, Number(out.nanos || 0n), name === "MicroTime");
  if (name === "Quantity") return out.string || "0";
  if (name === "IntOrString") return out.type ? out.strVal || "" : out.intVal || 0n;
  const raw = name === "FieldsV1" ? out.Raw : name === "RawExtension" ? out.raw : undefined;
  if (raw === undefined) return out;
  const text = fromUtf8(raw);
  try {
    return JSON.parse(text);
  } catch {
    return text === null ? raw : text;
  }
}

function timeText(seconds, nanos, withMicros) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return String(seconds);
  const whole = date.toISOString().slice(0, 19);
  return whole + (withMicros ? "." + String(Math.floor(nanos / 1000)).padStart(6, "0") : "") + "Z";
}

// Without a table: numbers of fields, and what their bytes look like.
function decodeUnknown(bytes, depth = 0) {
  if (depth > WIRE_DEPTH_MAX) throw new Error("nested too deeply");
  const out = {};
  for (const [number, wire, raw] of wireFields(bytes)) addTo(out, "#" + number, decodeRaw(wire, raw, depth));
  return out;
}

function decodeRaw(wire, raw, depth) {
  if (wire === 0) return BigInt.asIntN(64, raw);
  if (wire !== 2) return raw;
  const text = fromUtf8(raw);
  if (text !== null && !/[\x00-\x08\x0e-\x1f]/.test(text)) return text;
  try {
    return decodeUnknown(raw, depth + 1);
  } catch {
    return raw;
  }
}

function addTo(out, name, value) {
  if (!(name in out)) out[name] = value;
  else if (Array.isArray(out[name])) out[name].push(value);
  else out[name] = [out[name], value];
}

// An object as Kubernetes stores it: four bytes, then who it is, then itself.
function decodeKubernetes(bytes) {
  const envelope = { type: {}, raw: new Uint8Array(0) };
  for (const [number, , value] of wireFields(bytes.subarray(4))) {
    if (number === 1) for (const [part, , text] of wireFields(value)) envelope.type[part] = wireText(text);
    if (number === 2) envelope.raw = value;
  }
  const { 1: apiVersion = "", 2: kind = "" } = envelope.type;
  const isKnown = fieldsOf(apiVersion, kind) !== null;
  const object = isKnown ? decodeMessage(envelope.raw, apiVersion, kind) : decodeUnknown(envelope.raw);
  return { apiVersion, kind, isKnown, object: { apiVersion, kind, ...object } };
}
