// Checks a server with the npm client `etcd3`: key-value, transactions, leases, watches, locks, elections.
// Usage: node check.mjs ENDPOINT. Exits non-zero at the first difference. CHECK_TLS and CHECK_USER as in ../run.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Etcd3 } from 'etcd3';

const { CHECK_TLS: folder, CHECK_USER: user } = process.env;
const options = { hosts: folder ? `https://${process.argv[2]}` : process.argv[2] };
if (folder) {
  const [rootCertificate, certChain, privateKey] = ['ca.crt', 'client.crt', 'client.key'].map((name) => readFileSync(`${folder}/${name}`));
  options.credentials = { rootCertificate, certChain, privateKey };
}
if (user) {
  const at = user.indexOf(':');
  options.auth = { username: user.slice(0, at), password: user.slice(at + 1) };
}
const client = new Etcd3(options);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function keyValue() {
  await client.delete().prefix('js/');
  await client.put('js/a').value('1');
  assert.equal(await client.get('js/a').string(), '1');
  for (let n = 0; n < 5; n++) await client.put(`js/list/${n}`).value(n);
  assert.deepEqual(await client.getAll().prefix('js/list/').keys(), [0, 1, 2, 3, 4].map((n) => `js/list/${n}`));
  const down = await client.getAll().prefix('js/list/').sort('Key', 'Descend').limit(2).strings();
  assert.deepEqual(Object.values(down), ['4', '3']);
  assert.equal(await client.getAll().prefix('js/list/').count(), 5);
  assert.equal((await client.delete().key('js/a')).deleted, '1');
  assert.equal(await client.get('js/a').string(), null);
}

async function transactions() {
  const outcome = await client
    .if('js/txn', 'Create', '==', 0)
    .then(client.put('js/txn').value('made'))
    .else(client.get('js/txn'))
    .commit();
  assert.equal(outcome.succeeded, true);
  const again = await client
    .if('js/txn', 'Value', '==', 'made')
    .then(client.get('js/txn'), client.put('js/other').value('x'))
    .commit();
  assert.equal(again.responses[0].response_range.kvs[0].value.toString(), 'made');
  await client.stm().transact((tx) => tx.put('js/stm').value('1'));
  assert.equal(await client.get('js/stm').string(), '1');
}

async function leases() {
  const lease = client.lease(5);
  await lease.put('js/leased').value('x');
  assert.equal(await client.get('js/leased').string(), 'x');
  await lease.keepaliveOnce();
  await lease.revoke();
  assert.equal(await client.get('js/leased').string(), null);
}

async function watches() {
  const watcher = await client.watch().prefix('js/watch/').create();
  const seen = [];
  watcher.on('put', (kv) => seen.push(['put', kv.key.toString(), kv.value.toString()]));
  watcher.on('delete', (kv) => seen.push(['delete', kv.key.toString(), '']));
  await client.put('js/watch/a').value('1');
  await client.put('js/watch/b').value('2');
  await client.delete().key('js/watch/a');
  for (let n = 0; n < 100 && seen.length < 3; n++) await pause(50);
  assert.deepEqual(seen, [
    ['put', 'js/watch/a', '1'],
    ['put', 'js/watch/b', '2'],
    ['delete', 'js/watch/a', ''],
  ]);
  await watcher.cancel();
}

async function locks() {
  const lock = client.lock('js-lock');
  await lock.acquire();
  await assert.rejects(client.lock('js-lock').acquire());
  await lock.release();
  await client.lock('js-lock').do(async () => {});
}

async function elections() {
  const election = client.election('js-election', 5);
  const campaign = election.campaign('me');
  await new Promise((done, fail) => {
    campaign.on('elected', done);
    campaign.on('error', fail);
  });
  assert.equal(await election.leader(), 'me');
  await campaign.resign();
}

for (const check of [keyValue, transactions, leases, watches, locks, elections]) {
  await check();
  console.log(`npm etcd3: ${check.name} ok`);
}
client.close();
