// A value as people read it: by what it is, as text, as bytes. What is large or secret opens when that is asked for.

const FOLDED_BYTES = 64 << 10;
const FOLDED_LINES = 400;
const HEX_BYTES = 64 << 10;

function valueView(bytes, name) {
  const found = detect(bytes);
  const state = { mode: "read", isOpen: false, isWhole: bytes.length <= FOLDED_BYTES };
  const box = h("div");
  const modes = [["read", found.type === "binary" ? "Bytes" : "Readable"], ["text", "As it is"], ["hex", "Hex"], ["wire", "As protobuf"]];
  const draw = () => {
    const shown = modes.filter(([mode]) => mode !== "wire" || /binary|protobuf/.test(found.type));
    const bar = h("div.bar", null,
      h("span", null, found.type, found.kind ? h("span.tag", null, found.kind) : null),
      soft(`${grouped(bytes.length)} bytes`), found.note ? soft(found.note) : null, h("span.grow"),
      shown.map(([mode, text]) => dress(button(text, () => change({ mode })), { "aria-pressed": String(state.mode === mode), disabled: state.mode === mode })),
      found.isSecret && !state.isOpen ? button("Show the secret", () => change({ isOpen: true })) : null,
      found.type === "gzip" ? button("Decompress", () => attempt(async () => box.after(valueView(await gunzip(bytes), name)))) : null,
      button("Copy", () => copy(readable(found, true) ?? toBase64(bytes))), button("Download", () => download(name, [bytes])));
    refill(box, bar, body());
  };
  const change = (changes) => {
    Object.assign(state, changes);
    draw();
  };
  const body = () => {
    if (found.isSecret && !state.isOpen && state.mode !== "read") return h("p.soft", null, "A Secret: show it first.");
    if (!bytes.length) return h("p.soft", null, "The value is empty.");
    if (!state.isWhole && state.mode !== "hex") return h("p", null, soft("A large value. "), button("Show it", () => change({ isWhole: true })));
    return h("pre", { tabindex: "0", "aria-label": "Value" }, textOf());
  };
  const textOf = () => {
    if (state.mode === "hex") return hexDump(bytes, HEX_BYTES) + (bytes.length > HEX_BYTES ? "\n…" : "");
    if (state.mode === "text") return keyLines(bytes);
    if (state.mode === "wire") return protobufText(bytes);
    return readable(found, state.isOpen) ?? hexDump(bytes, HEX_BYTES);
  };
  draw();
  return box;
}

// Text with its lines, and escapes for what is no text.
const keyLines = (bytes) => fromUtf8(bytes) ?? keyText(bytes);

function protobufText(bytes) {
  try {
    return yaml(decodeUnknown(beginsWith(bytes, KUBERNETES) ? bytes.subarray(4) : bytes)).trimStart();
  } catch (error) {
    return "no protobuf: " + error.message;
  }
}

async function gunzip(bytes) {
  const open = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(open).arrayBuffer());
}

// Two texts with their differences marked.
function diffView(before, after) {
  const lines = shortened(diffLines(before, after)).slice(0, FOLDED_LINES * 5);
  if (!lines.some(([mark]) => mark === "+" || mark === "-")) return h("p.soft", null, "No difference.");
  const kinds = { "+": "add", "-": "cut", "…": "gap" };
  return h("pre", { tabindex: "0", "aria-label": "Differences" }, lines.map(([mark, line]) => h("span" + (kinds[mark] ? "." + kinds[mark] : ""), null, mark + " " + line)));
}

const comparable = (bytes) => readable(detect(bytes), false) ?? hexDump(bytes, HEX_BYTES);
