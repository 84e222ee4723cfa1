// What a value is, by its first bytes, and as a text that people can read.

const KUBERNETES = [0x6b, 0x38, 0x73, 0x00];
const CBOR = [0xd9, 0xd9, 0xf7];
const GZIP = [0x1f, 0x8b];
const beginsWith = (bytes, magic) => magic.every((byte, index) => bytes[index] === byte);

// { type, text?, object?, note?, isSecret?, isEditable }
function detect(bytes) {
  if (!bytes.length) return { type: "empty", text: "", isEditable: true };
  const failed = (type, error) => ({ type, note: "it cannot be read: " + error.message, isEditable: false });
  if (beginsWith(bytes, KUBERNETES)) {
    try {
      const { apiVersion, kind, isKnown, object } = decodeKubernetes(bytes);
      const note = isKnown ? "" : "a kind that is not in the table: fields by number";
      return { type: "Kubernetes protobuf", kind: `${apiVersion} ${kind}`, object, note, isSecret: kind === "Secret", isEditable: false };
    } catch (error) {
      return failed("Kubernetes protobuf", error);
    }
  }
  if (beginsWith(bytes, CBOR)) {
    try {
      const object = decodeCbor(bytes);
      return { type: "CBOR", object, isSecret: isSecret(object), isEditable: false };
    } catch (error) {
      return failed("CBOR", error);
    }
  }
  if (beginsWith(bytes, GZIP)) return { type: "gzip", isEditable: false };
  const text = fromUtf8(bytes);
  const sealed = /^k8s:enc:(\w+):(v\d):([^:]*):/.exec(text === null ? latin(bytes, 200) : text);
  if (sealed) return { type: "encrypted by Kubernetes", note: `provider ${sealed[1]} ${sealed[2]}, key ${sealed[3]}`, isEditable: false };
  if (text === null || /[\x00-\x08\x0e-\x1f]/.test(text)) return { type: "binary", isEditable: false };
  if (/^\s*[[{]/.test(text)) {
    try {
      const value = JSON.parse(text);
      return { type: "JSON", kind: jsonKind(value), text: prettyJson(text), isSecret: isSecret(value), isEditable: true };
    } catch {
      // No JSON then.
    }
  }
  return { type: textType(text), text, isEditable: true };
}

const isSecret = (value) => Boolean(value) && value.kind === "Secret" && value.apiVersion === "v1";
const jsonKind = (value) => (value && typeof value.kind === "string" && typeof value.apiVersion === "string" ? `${value.apiVersion} ${value.kind}` : "");
const latin = (bytes, most) => String.fromCharCode(...bytes.subarray(0, most));

function textType(text) {
  const lines = text.split("\n").filter((line) => line.trim() && !/^\s*[#!]/.test(line));
  const all = (pattern) => lines.length > 1 && lines.every((line) => pattern.test(line));
  if (all(/^[\w.\-]+\s*=/)) return "properties";
  if (/^---\s*$/m.test(text) || all(/^\s*(- )?[\w.\-/"]+:(\s|$)|^\s*- /)) return "YAML";
  return "text";
}

// JSON with lines and indentation; numbers and texts stay as they are written.
function prettyJson(text) {
  let out = "", depth = 0, isFresh = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs)) {
    if (token === "}" || token === "]") {
      depth--;
      out += (isFresh ? "" : line()) + token;
      isFresh = false;
      continue;
    }
    if (isFresh) out += line();
    isFresh = token === "{" || token === "[";
    if (isFresh) depth++;
    out += token === "," ? "," + line() : token === ":" ? ": " : token;
  }
  return out;
}

// As YAML, which is how people know these objects. What is masked is said by how long it is.
function yaml(value, indent = "", isMasked = false) {
  if (value instanceof Uint8Array) return isMasked ? `•••••• (${value.length} bytes)` : bytesText(value);
  if (Array.isArray(value)) {
    if (!value.length) return "[]";
    return value.map((entry) => "\n" + indent + "- " + yaml(entry, indent + "  ", isMasked).trimStart()).join("");
  }
  if (value && typeof value === "object") {
    const names = Object.keys(value);
    if (!names.length) return "{}";
    return names.map((name) => {
      const text = yaml(value[name], indent + "  ", isMasked);
      return "\n" + indent + plainOrQuoted(name) + ":" + (text[0] === "\n" ? "" : " ") + text;
    }).join("");
  }
  if (typeof value !== "string") return String(value);
  if (isMasked) return `•••••• (${value.length} letters)`;
  if (value.includes("\n") && !/[\x00-\x08\x0e-\x1f]/.test(value)) {
    const end = value.endsWith("\n") ? "" : "-";
    return "|" + end + value.replace(/\n$/, "").split("\n").map((line) => "\n" + indent + line).join("");
  }
  return plainOrQuoted(value);
}

// The separator is there in each group, so that there is one way only to match: the text may be anybody's.
const plainOrQuoted = (text) => (/^[\w/.$][\w/.$@+\-=]*(?:[ :][\w/.$@+\-=]+)*$/.test(text) && !/^(true|false|null|yes|no|on|off|~|[-+.]?\d[\d_]*(\.\d*)?(e[-+]?\d+)?|0[xo]\w*|\d+(:\d+)+|\d{4}-.*)$/i.test(text) ? text : JSON.stringify(text));
const bytesText = (bytes) => {
  const text = fromUtf8(bytes);
  return text !== null && !/[\x00-\x08\x0e-\x1f]/.test(text) ? yaml(text, "    ") : toBase64(bytes);
};

// How all lines of a text end; null if in more than one way. A browser's text area knows line feeds alone.
function lineEnds(text) {
  if (!text.includes("\r")) return "\n";
  return /^(?:[^\r\n]|\r\n)*$/.test(text) ? "\r\n" : null;
}

// The text of what was detected. A Secret shows its data only when that is asked for.
function readable(found, isOpen) {
  if (found.text !== undefined) return found.isSecret && !isOpen ? maskedJson(found.text) : found.text;
  if (found.object === undefined) return null;
  if (!found.isSecret || isOpen) return yaml(found.object).trimStart();
  const parts = Object.entries(found.object).map(([name, value]) => yaml({ [name]: value }, "", /^(data|stringData)$/.test(name)));
  return parts.join("").trimStart();
}

// The values below "data" and "stringData" of a Secret that is JSON; what was last applied holds them too.
function maskedJson(text) {
  const shown = JSON.parse(text);
  for (const name of ["data", "stringData"]) for (const key of Object.keys(shown[name] || {})) shown[name][key] = "••••••";
  const notes = (shown.metadata || {}).annotations || {};
  for (const name of Object.keys(notes)) if (name.endsWith("last-applied-configuration")) notes[name] = "••••••";
  return JSON.stringify(shown, null, 2);
}

// CBOR (RFC 8949), as Kubernetes writes it.
function decodeCbor(bytes) {
  let at = 0;
  const need = (length) => {
    if (at + length > bytes.length) throw new Error("cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  const number = (info) => {
    if (info < 24) return BigInt(info);
    if (info > 27) throw new Error("no such length");
    return need(1 << (info - 24)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  };
  const item = (depth) => {
    if (depth > WIRE_DEPTH_MAX) throw new Error("nested too deeply");
    const head = need(1)[0], major = head >> 5, info = head & 31;
    if (major === 7 && (info === 26 || info === 27)) {
      const raw = need(info === 26 ? 4 : 8);
      const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
      return info === 26 ? view.getFloat32(0) : view.getFloat64(0);
    }
    if (major === 7) return { 20: false, 21: true, 22: null }[info];
    const isOpen = info === 31;
    const count = isOpen ? Infinity : number(info);
    if (major === 0) return count;
    if (major === 1) return -1n - count;
    if (major === 6) return item(depth + 1);
    const isOver = (done) => (isOpen ? bytes[at] === 0xff && Boolean(need(1)) : done >= count);
    if (major === 2 || major === 3) {
      let whole = new Uint8Array(0);
      if (isOpen) for (let done = 0; !isOver(done); done++) whole = concat(whole, toBytes(item(depth + 1)));
      else whole = need(Number(count));
      return major === 2 && fromUtf8(whole) === null ? whole : wireText(whole);
    }
    const out = major === 4 ? [] : {};
    for (let done = 0; !isOver(done); done++) {
      if (major === 4) out.push(item(depth + 1));
      else {
        const name = String(item(depth + 1));
        Object.defineProperty(out, name, { value: item(depth + 1), enumerable: true, configurable: true });
      }
    }
    return out;
  };
  return item(0);
}

const toBytes = (part) => (part instanceof Uint8Array ? part : toUtf8(String(part)));
