// Every call as a form, with the commands that do the same.

const RAW_LINES_MAX = 500;

async function raw(main, params, signal) {
  const all = callTable(), picked = all.find(({ path }) => path === params.call) || all[0];
  const choose = h("select", { "aria-label": "Call", onchange: (event) => go("raw", { call: event.target.value }) }, all.map(({ path }) => h("option", { value: path, selected: path === picked.path }, path)));
  const body = h("textarea.mono", { "aria-label": "Body", spellcheck: "false" }), curl = h("pre.wrap"), etcdctl = h("pre.wrap"), out = h("div");
  const typed = () => {
    const found = {};
    for (const input of fields.querySelectorAll("input, select")) found[input.name] = input.type === "checkbox" ? input.checked : input.value;
    return found;
  };
  const commands = () => {
    curl.textContent = curlCommand(location.origin, picked.path, body.value, Boolean(app.token));
    etcdctl.textContent = etcdctlCommand(location.origin, picked, typed()) || "etcdctl has no command for it";
  };
  const fromFields = () => attempt(() => {
    body.value = JSON.stringify(bodyOf(picked, typed()));
    commands();
  });
  const fields = h("div.form", { oninput: fromFields }, picked.fields.map(([name, kind]) => {
    const id = "r-" + name, hints = { b: "text, \\x00 for bytes", n: "number", i: "id in hex", l: "list", j: "JSON", s: "" };
    const input = kind === "o" ? h("input", { type: "checkbox", id, name }) : kind in hints ? h("input.mono", { id, name, placeholder: hints[kind], spellcheck: "false", autocomplete: "off", type: name === "password" ? "password" : "text", value: params[name] || "" }) : h("select", { id, name }, ["", ...kind.split(",")].map((option) => h("option", null, option)));
    return [h("label", { for: id }, name), input];
  }));
  let stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  // One at a time: a stream would hold one of the few connections that a browser has.
  const send = async () => {
    stop.abort();
    stop = new AbortController();
    const lines = [], shown = h("pre.wrap", { tabindex: "0", "aria-label": "Answer" });
    refill(out, h("h2", null, "Answer"), shown);
    const started = performance.now();
    const response = await ask("/v3/" + picked.path, { method: "POST", headers: head(), body: body.value, signal: stop.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let size = 0; size < (1 << 20); ) {
      const { value, done } = await reader.read();
      if (done) break;
      size += value.length;
      lines.push(value);
      shown.textContent = lines.slice(-RAW_LINES_MAX).join("");
    }
    await reader.cancel();
    const text = lines.join("");
    try {
      JSON.parse(text);
      shown.textContent = prettyJson(text);
    } catch {
      // A stream: as it came.
    }
    fill(out, [soft(`status ${response.status}, ${(performance.now() - started).toFixed(1)} ms`)]);
  };
  fill(main, [h("h1", null, "Raw"), h("div.bar", null, choose, button("Send", () => attempt(send), ".main"), soft("keys and values are texts in the fields, base64 in the body")),
    h("div.split", null, fields, h("section", null, body, h("h2", null, "curl"), curl, h("h2", null, "etcdctl"), etcdctl, out))]);
  body.addEventListener("input", commands);
  fromFields();
  if (EXAMPLES[picked.path]) body.value = EXAMPLES[picked.path];
  commands();
}
