// Calls to the server: the JSON gateway of any etcd below /v3, and what only this server has below /console/api.

// What is known of the server and of who asks. The token is here alone, and in this tab if that was asked for.
const app = { token: sessionStorage.getItem("token"), user: sessionStorage.getItem("user"), about: null, readOnly: false, hasDeclined: false, roles: null };
const has = (view) => Boolean(app.about) && app.about.views.includes(view);

// The roles of who has signed in, with what they let him do.
async function readRoles() {
  app.roles = null;
  if (!app.user) return;
  const { roles = [] } = await call("auth/user/get", { name: app.user });
  app.roles = await Promise.all(roles.map(async (name) => ({ name, perm: name === "root" ? [] : (await call("auth/role/get", { role: name })).perm || [] })));
}

const mayWrite = (key, end) => !app.roles || testRight(app.roles, true, key, end).may;
const mayAdminister = () => !app.roles || app.roles.some(({ name }) => name === "root");

class CallError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const UNAUTHENTICATED = 16, DENIED = 7, OUT_OF_RANGE = 11;
const needsSignIn = (error) => error.code === UNAUTHENTICATED || /user name is empty|invalid auth token/.test(error.message);

function head() {
  const headers = { "Content-Type": "application/json" };
  if (app.token) headers.Authorization = app.token;
  return headers;
}

async function refused(response) {
  const text = await response.text();
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // A text then.
  }
  const { code, message, error } = told.error && typeof told.error === "object" ? told.error : told;
  return new CallError(code, message || (typeof error === "string" && error) || text.trim().slice(0, 300) || `status ${response.status}`);
}

async function call(path, body, signal) {
  const response = await ask("/v3/" + path, { method: "POST", headers: head(), body: JSON.stringify(body || {}), signal });
  return response.json();
}

const view = async (name, signal) => (await ask("/console/api/" + name, { headers: head(), signal })).json();

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, redirect: "error", credentials: "same-origin" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new CallError(14, "the server does not answer");
  }
  if (!response.ok) throw await refused(response);
  return response;
}

// The answers of a call that has many, one by one.
async function* stream(path, bodies, signal) {
  const response = await ask("/v3/" + path, { method: "POST", headers: head(), body: bodies.map((body) => JSON.stringify(body)).join("\n"), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = value.split("\n");
    parts.push(lines.shift());
    for (const next of lines) {
      const line = parts.join("");
      parts = [next];
      if (!line.trim()) continue;
      const { result, error } = JSON.parse(line);
      if (error) throw new CallError(error.code || error.grpc_code, error.message);
      yield result;
    }
  }
}

// All of a page of keys: { kvs, count, more, revision }, with keys as bytes.
async function range(fields, signal) {
  const answer = await call("kv/range", fields, signal);
  const kvs = (answer.kvs || []).map((kv) => ({ ...kv, key: fromBase64(kv.key) }));
  return { kvs, count: Number(answer.count || 0), more: Boolean(answer.more), revision: answer.header.revision };
}

async function getKey(key, revision, signal) {
  return (await range({ key: toBase64(key), revision }, signal)).kvs[0] || null;
}

// What is asked while a view is shown ends when another one is.
function notice(text, isBad = true) {
  const element = document.getElementById("notice");
  element.hidden = !text;
  element.textContent = text || "";
  element.classList.toggle("bad", isBad);
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (needsSignIn(error)) signIn(app.token ? "The session is over." : "");
    else notice(error.message);
    return undefined;
  }
}
