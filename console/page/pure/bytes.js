// Bytes, and the texts that stand for them: base64 as the API has it, keys as people read and type them.

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Uint8Array(128).fill(255);
for (let index = 0; index < 64; index++) VALUES[ALPHABET.charCodeAt(index)] = index;

function toBase64(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; at += 3) {
    const three = (bytes[at] << 16) | ((bytes[at + 1] || 0) << 8) | (bytes[at + 2] || 0);
    const left = bytes.length - at;
    parts.push(ALPHABET[three >> 18] + ALPHABET[(three >> 12) & 63] + (left > 1 ? ALPHABET[(three >> 6) & 63] : "=") + (left > 2 ? ALPHABET[three & 63] : "="));
  }
  return parts.join("");
}

function fromBase64(text) {
  let length = (text || "").length;
  while (length > 0 && text[length - 1] === "=") length--;
  const out = new Uint8Array((length * 3) >> 2);
  let bits = 0, held = 0, at = 0;
  for (let index = 0; index < length; index++) {
    held = (held << 6) | VALUES[text.charCodeAt(index)];
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = held >> bits;
      held &= (1 << bits) - 1;
    }
  }
  return out;
}

function toUtf8(text) {
  const out = [];
  for (const letter of text) {
    const code = letter.codePointAt(0);
    if (code < 0x80) out.push(code);
    else if (code < 0x800) out.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) out.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else out.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return new Uint8Array(out);
}

// The letter that begins at `at` and its length in bytes; none if no letter does.
function letterAt(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return [first, 1];
  const length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (!length || first >= 0xf5 || at + length > bytes.length) return null;
  let code = first & (0x7f >> length);
  for (let next = 1; next < length; next++) {
    if ((bytes[at + next] & 0xc0) !== 0x80) return null;
    code = (code << 6) | (bytes[at + next] & 63);
  }
  const least = [0, 0, 0x80, 0x800, 0x10000][length];
  return code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? null : [code, length];
}

// The text, or null if the bytes are none.
function fromUtf8(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const letter = letterAt(bytes, at);
    if (!letter) return null;
    parts.push(letter[0] < 0x10000 ? String.fromCharCode(letter[0]) : String.fromCodePoint(letter[0]));
    at += letter[1];
  }
  return parts.join("");
}

// Letters that would not be seen, or would change how others are read.
const isHidden = (code) => code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code < 0x2010) || (code >= 0x2028 && code < 0x202f) || (code >= 0x2066 && code < 0x206a) || code === 0xfeff;

const twoDigits = (byte) => byte.toString(16).padStart(2, "0");

// A key as it is read and typed: text, with \xNN for each byte that is not, or cannot be seen, and \\ for a backslash.
function keyText(bytes) {
  let out = "";
  for (let at = 0; at < bytes.length; ) {
    const letter = letterAt(bytes, at);
    const length = letter ? letter[1] : 1;
    if (!letter || isHidden(letter[0])) for (let next = at; next < at + length; next++) out += "\\x" + twoDigits(bytes[next]);
    else out += letter[0] === 0x5c ? "\\\\" : String.fromCodePoint(letter[0]);
    at += length;
  }
  return out;
}

function keyBytes(text) {
  const parts = [];
  let rest = text;
  while (rest) {
    const escape = /\\(?:x([0-9a-fA-F]{2})|(\\))/.exec(rest);
    const plain = toUtf8(escape ? rest.slice(0, escape.index) : rest);
    for (const byte of plain) parts.push(byte);
    if (!escape) break;
    parts.push(escape[1] ? parseInt(escape[1], 16) : 0x5c);
    rest = rest.slice(escape.index + escape[0].length);
  }
  return new Uint8Array(parts);
}

// The first key behind all that begin with a prefix: the end of its range. A zero byte means that there is none.
function prefixEnd(prefix) {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (!length) return new Uint8Array([0]);
  const end = prefix.slice(0, length);
  end[length - 1]++;
  return end;
}

// A range of all that begins with a prefix, as the API has it: the least key is the zero byte.
function prefixRange(prefix) {
  return { key: toBase64(prefix.length ? prefix : new Uint8Array([0])), range_end: toBase64(prefixEnd(prefix)) };
}

function concat(left, right) {
  const out = new Uint8Array(left.length + right.length);
  out.set(left);
  out.set(right, left.length);
  return out;
}

function compareBytes(left, right) {
  const length = Math.min(left.length, right.length);
  for (let at = 0; at < length; at++) if (left[at] !== right[at]) return left[at] - right[at];
  return left.length - right.length;
}

const startsWith = (bytes, prefix) => bytes.length >= prefix.length && compareBytes(bytes.subarray(0, prefix.length), prefix) === 0;

// Where the part of a key behind a prefix ends that is a level of the tree: slashes in front belong to it, and one behind.
function levelEnd(key, from) {
  let at = from;
  while (at < key.length && key[at] === 0x2f) at++;
  while (at < key.length && key[at] !== 0x2f) at++;
  return at < key.length ? at + 1 : at;
}

// Lines of sixteen bytes, with their places and what of them is text.
function hexDump(bytes, most) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, most); at += 16) {
    const row = Array.from(bytes.subarray(at, Math.min(at + 16, most)));
    const digits = row.map((byte, index) => twoDigits(byte) + (index === 7 ? " " : "")).join(" ").padEnd(49);
    lines.push(at.toString(16).padStart(6, "0") + "  " + digits + " " + row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join(""));
  }
  return lines.join("\n");
}
