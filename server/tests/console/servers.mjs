// Servers to look at: processes on free ports, ended by their ids, and calls that fill them.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { createServer as listen } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const processes = [], folders = [];

export const freePort = () => new Promise((resolve) => {
  const socket = listen().listen(0, "127.0.0.1", () => {
    const { port } = socket.address();
    socket.close(() => resolve(port));
  });
});

export const base64 = (text) => Buffer.from(text).toString("base64");

export async function post(url, path, body, token) {
  const headers = token ? { Authorization: token } : {};
  const response = await fetch(`${url}/v3/${path}`, { method: "POST", body: JSON.stringify(body), headers });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${path}: ${answer.message}`);
  return answer;
}

export const put = (url, key, value, token) => post(url, "kv/put", { key: base64(key), value: Buffer.isBuffer(value) ? value.toString("base64") : base64(value) }, token);

// Starts members of one cluster; each has { name, url, process, stop }.
export async function start(binary, count, flags = []) {
  const folder = mkdtempSync(join(tmpdir(), "console-"));
  folders.push(folder);
  const members = [];
  for (let number = 0; number < count; number++) members.push({ name: `m${number}`, url: `http://127.0.0.1:${await freePort()}`, peer: `http://127.0.0.1:${await freePort()}` });
  const cluster = members.map(({ name, peer }) => `${name}=${peer}`).join(",");
  for (const member of members) {
    const log = openSync(join(folder, member.name + ".log"), "w");
    const { name, url, peer } = member;
    const own = ["--name", name, "--data-dir", join(folder, name), "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster];
    member.process = spawn(binary, [...own, ...flags], { stdio: ["ignore", log, log] });
    processes.push(member.process);
    member.stop = () => new Promise((resolve) => {
      if (member.process.exitCode !== null || member.process.signalCode) return resolve();
      member.process.once("exit", resolve);
      return member.process.kill("SIGKILL");
    });
  }
  for (const { url } of members) await until(async () => (await fetch(url + "/health")).ok);
  return members;
}

export async function until(holds, millis = 60000) {
  const deadline = Date.now() + millis;
  for (;;) {
    if (await Promise.resolve().then(holds).catch(() => false)) return;
    if (Date.now() > deadline) throw new Error("waited in vain for " + holds);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// A page in front of a server that does not have it: as /console/, everything else goes through.
export async function before(page, url) {
  const port = await freePort(), target = new URL(url);
  const server = createServer((asked, answer) => {
    if (asked.url === "/console/") return answer.setHeader("Content-Type", "text/html; charset=utf-8").end(page);
    const headers = { ...asked.headers, host: target.host };
    if (headers.origin) headers.origin = target.origin;
    const passed = request({ host: target.hostname, port: target.port, path: asked.url, method: asked.method, headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    answer.on("close", () => passed.destroy());
    passed.on("error", () => answer.destroy());
    return asked.pipe(passed);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  server.unref();
  return `http://127.0.0.1:${port}`;
}

export async function end() {
  for (const process of processes) if (process.exitCode === null) process.kill("SIGKILL");
  await new Promise((resolve) => setTimeout(resolve, 200));
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}
