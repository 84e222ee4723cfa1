"""Checks the JSON gateway of a server with the Python client `etcd3gw`: key-value, transactions, leases, watches, locks.

Usage: gateway.py HOST PORT. Exits non-zero at the first difference. CHECK_TLS and CHECK_USER as in ../run.
"""
import base64
import os
import sys
import threading
import time

import etcd3gw
from etcd3gw import exceptions


def expect(actual, wanted, what):
    if actual != wanted:
        sys.exit(f"python etcd3gw: {what}: got {actual!r}, wanted {wanted!r}")


def text(value):
    return base64.b64encode(value.encode()).decode()


def key_value(client):
    client.delete_prefix("gw/")
    expect(client.put("gw/a", "1"), True, "put")
    expect(client.get("gw/a"), [b"1"], "get after put")
    expect(client.create("gw/a", "never"), False, "create of an existing key")
    expect(client.create("gw/b", "2"), True, "create")
    expect(client.replace("gw/b", "2", "3"), True, "replace")
    expect(client.replace("gw/b", "2", "never"), False, "replace with a wrong initial value")
    value, meta = client.get("gw/b", metadata=True)[0]
    expect((value, meta["version"]), (b"3", "2"), "metadata")
    expect([value for value, _ in client.get_prefix("gw/")], [b"1", b"3"], "prefix")
    expect(client.delete("gw/a"), True, "delete")
    expect(client.delete("gw/a"), False, "delete of nothing")
    expect(client.get("gw/a"), [], "get of a deleted key")


def transactions(client):
    client.put("gw/txn", "old")
    done = client.transaction({
        "compare": [{"key": text("gw/txn"), "result": "EQUAL", "target": "VALUE", "value": text("old")}],
        "success": [{"request_put": {"key": text("gw/txn"), "value": text("new")}}],
        "failure": [],
    })
    expect(done["succeeded"], True, "txn")
    expect(client.get("gw/txn"), [b"new"], "value after txn")


def leases(client):
    lease = client.lease(ttl=60)
    expect(client.put("gw/leased", "x", lease=lease), True, "put with a lease")
    expect(lease.keys(), [b"gw/leased"], "keys of a lease")
    expect(0 < lease.ttl() <= 60, True, "remaining time")
    expect(lease.refresh(), 60, "keep-alive")
    expect(lease.revoke(), True, "revoke")
    expect(client.get("gw/leased"), [], "key of a revoked lease")


def watches(client):
    def later():
        time.sleep(0.3)
        client.put("gw/watch/a", "1")
        client.delete("gw/watch/a")

    events, cancel = client.watch_prefix("gw/watch/")
    thread = threading.Thread(target=later)
    thread.start()
    first, second = next(events), next(events)
    thread.join()
    cancel()
    expect((first["kv"]["key"], first["kv"]["value"]), (b"gw/watch/a", b"1"), "event of a put")
    expect((second["type"], second["kv"]["key"]), ("DELETE", b"gw/watch/a"), "event of a delete")


def locks(client):
    with client.lock("gw-lock", ttl=30) as lock:
        expect(lock.is_acquired(), True, "lock is held")
        expect(client.lock("gw-lock", ttl=30).acquire(), False, "lock of another holder")
    expect(client.lock("gw-lock", ttl=30).acquire(), True, "lock is free")


def maintenance(client):
    expect(client.status()["version"][:4], "3.7.", "version")
    expect(len(client.members()), 1, "members")
    try:
        client.post(client.get_url("/kv/range"), json={"key": text("gw/txn"), "revision": "99999999"})
        sys.exit("python etcd3gw: a revision of the future was read")
    except exceptions.Etcd3Exception as error:
        expect("required revision is a future revision" in error.detail_text, True, "error")


def main():
    secure = {}
    if folder := os.environ.get("CHECK_TLS"):
        # A certificate without a name: the gateway refuses those who could think that theirs counts.
        files = {"ca_cert": "ca.crt", "cert_cert": "bare.crt", "cert_key": "bare.key"}
        secure = {"protocol": "https"} | {name: f"{folder}/{file}" for name, file in files.items()}
    client = etcd3gw.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10, **secure)
    # A variable that names authorities would count more than what was said above.
    client.session.trust_env = False
    if user := os.environ.get("CHECK_USER"):
        name, password = user.split(":", 1)
        token = client.post(client.get_url("/auth/authenticate"), json={"name": name, "password": password})["token"]
        client.session.headers["Authorization"] = token
    for check in (key_value, transactions, leases, watches, locks, maintenance):
        check(client)
        print(f"python etcd3gw: {check.__name__} ok")


main()
