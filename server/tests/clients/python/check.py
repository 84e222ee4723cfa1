"""Checks a server with the Python client `etcd3`: key-value, transactions, leases, watches, locks, status.

Usage: check.py HOST PORT. Exits non-zero at the first difference. CHECK_TLS and CHECK_USER as in ../run.
"""
import os
import queue
import sys
import time

import etcd3


def expect(actual, wanted, what):
    if actual != wanted:
        sys.exit(f"python etcd3: {what}: got {actual!r}, wanted {wanted!r}")


def key_value(client):
    client.delete_prefix("py/")
    client.put("py/a", "1")
    value, meta = client.get("py/a")
    expect(value, b"1", "get after put")
    expect(meta.version, 1, "version of a new key")
    client.put("py/a", "2")
    value, meta = client.get("py/a")
    expect((value, meta.version), (b"2", 2), "second version")
    for n in range(10):
        client.put(f"py/list/{n}", str(n))
    expect([v for v, _ in client.get_prefix("py/list/")], [str(n).encode() for n in range(10)], "prefix")
    down = [v for v, _ in client.get_prefix("py/list/", sort_order="descend", sort_target="key")]
    expect(down, [str(n).encode() for n in reversed(range(10))], "descending prefix")
    expect(client.delete("py/a"), True, "delete")
    expect(client.delete("py/a"), False, "delete of nothing")
    expect(client.get("py/a")[0], None, "get of a deleted key")


def transactions(client):
    client.put("py/txn", "old")
    done, _ = client.transaction(
        compare=[client.transactions.value("py/txn") == "old", client.transactions.version("py/txn") > 0],
        success=[client.transactions.put("py/txn", "new"), client.transactions.get("py/txn")],
        failure=[client.transactions.delete("py/txn")],
    )
    expect(done, True, "txn")
    expect(client.get("py/txn")[0], b"new", "value after txn")
    expect(client.replace("py/txn", "old", "never"), False, "replace with a wrong initial value")
    expect(client.put_if_not_exists("py/txn", "never"), False, "put_if_not_exists on an existing key")


def leases(client):
    lease = client.lease(5)
    client.put("py/leased", "x", lease=lease)
    info = client.get_lease_info(lease.id)
    expect(list(info.keys), [b"py/leased"], "keys of a lease")
    expect(0 <= info.TTL <= 5, True, "remaining time")
    expect([r.TTL for r in lease.refresh()], [5], "keep-alive")
    lease.revoke()
    expect(client.get("py/leased")[0], None, "key of a revoked lease")


def watches(client):
    seen = queue.Queue()
    watch = client.add_watch_prefix_callback("py/watch/", lambda response: [seen.put(e) for e in response.events])
    time.sleep(0.2)
    client.put("py/watch/a", "1")
    client.put("py/watch/b", "2")
    client.delete("py/watch/a")
    got = []
    for _ in range(3):
        event = seen.get(timeout=10)
        got.append((type(event).__name__, event.key, event.value))
    wanted = [
        ("PutEvent", b"py/watch/a", b"1"),
        ("PutEvent", b"py/watch/b", b"2"),
        ("DeleteEvent", b"py/watch/a", b""),
    ]
    expect(got, wanted, "events")
    client.cancel_watch(watch)
    revision = client.get("py/watch/b")[1].mod_revision
    iterator, cancel = client.watch_prefix("py/watch/", start_revision=revision)
    expect(next(iterator).key, b"py/watch/b", "event from history")
    cancel()


def locks(client):
    # The client's waiting path does not work with the releases of tenacity that it asks for, so nobody waits here.
    for _ in range(2):
        lock = client.lock("py-lock", ttl=10)
        expect(lock.acquire(), True, "lock")
        expect(lock.is_acquired(), True, "lock is held")
        expect(lock.release(), True, "unlock")
        expect(lock.is_acquired(), False, "lock is free")


def maintenance(client):
    status = client.status()
    expect(status.leader is not None and status.db_size > 0, True, "status")
    expect(len(list(client.members)), 1, "members")
    expect(list(client.list_alarms()), [], "alarms")
    client.compact(client.get("py/txn")[1].mod_revision)
    client.defragment()


def main():
    secure = {}
    if folder := os.environ.get("CHECK_TLS"):
        secure = {"ca_cert": f"{folder}/ca.crt", "cert_cert": f"{folder}/client.crt", "cert_key": f"{folder}/client.key"}
    if user := os.environ.get("CHECK_USER"):
        secure["user"], secure["password"] = user.split(":", 1)
    client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10, **secure)
    for check in (key_value, transactions, leases, watches, locks, maintenance):
        check(client)
        print(f"python etcd3: {check.__name__} ok")


main()
