"""Runs Patroni on a server: two nodes of PostgreSQL, of which the leading one is killed; the other takes over.

Usage: check.py HTTP_URL PATRONI_BIN POSTGRES_BIN_FOLDER [CA_FILE], as root; the nodes run as `postgres`. It speaks to the
server by the JSON gateway alone, or with CHECK_API=v2 by the v2 API alone, as a user whose password it is given; users are made
first, and turned off at the end.
Exits non-zero at the first thing that is not as it should be.
"""
import base64
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

URL, PATRONI, POSTGRES = sys.argv[1:4]
CA = sys.argv[4] if len(sys.argv) > 4 else None
CONTEXT = ssl.create_default_context(cafile=CA) if CA else None
PATIENCE = 120


def ask(method, path, body, headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}/{path}", data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, context=CONTEXT, timeout=10) as answer:
        return answer.read()


def text(value):
    return base64.b64encode(value.encode()).decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class V3:
    section = "etcd3"

    def call(self, path, body, token=None):
        return json.loads(ask("POST", f"v3/{path}", body, {"Authorization": token} if token else {}))

    def make_users(self):
        self.call("auth/user/add", {"name": "root", "password": "root-secret"})
        self.call("auth/role/add", {"name": "root"})
        self.call("auth/user/grant", {"user": "root", "role": "root"})
        self.call("auth/user/add", {"name": "patroni", "password": "patroni-secret"})
        self.call("auth/role/add", {"name": "patroni"})
        allowed = {"permType": "READWRITE", "key": text("/service/"), "range_end": text("/service0")}
        self.call("auth/role/grant", {"name": "patroni", "perm": allowed})
        self.call("auth/user/grant", {"user": "patroni", "role": "patroni"})
        self.call("auth/enable", {})

    def root(self):
        return self.call("auth/authenticate", {"name": "root", "password": "root-secret"})["token"]

    def leader(self):
        keys = self.call("kv/range", {"key": text("/service/demo/leader")}, self.root())
        return base64.b64decode(keys["kvs"][0]["value"]).decode()

    def end(self):
        self.call("auth/disable", {}, self.root())


class V2:
    section = "etcd"
    root = {"Authorization": "Basic " + text("root:root-secret")}

    def call(self, method, path, body=None, headers=None):
        return ask(method, f"v2/{path}", body, headers or {})

    def make_users(self):
        self.call("PUT", "auth/users/root", {"user": "root", "password": "root-secret"})
        own = {"kv": {"read": ["/service/*"], "write": ["/service/*"]}}
        self.call("PUT", "auth/roles/patroni", {"role": "patroni", "permissions": own})
        self.call("PUT", "auth/users/patroni", {"user": "patroni", "password": "patroni-secret", "roles": ["patroni"]})
        # Who does not say who it is may do nothing.
        self.call("PUT", "auth/roles/guest", {"role": "guest", "permissions": {"kv": {"read": [], "write": []}}})
        self.call("PUT", "auth/enable")

    def leader(self):
        return json.loads(self.call("GET", "keys/service/demo/leader", None, self.root))["node"]["value"]

    def end(self):
        self.call("DELETE", "auth/enable", None, self.root)


API = V2() if os.environ.get("CHECK_API") == "v2" else V3()


class Node:
    def __init__(self, folder, name):
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        self.rest, self.port = free_port(), free_port()
        host, protocol = URL.split("://")[1], URL.split("://")[0]
        store = {"hosts": host, "protocol": protocol, "username": "patroni", "password": "patroni-secret"}
        if CA:
            store["cacert"] = CA
        users = {"superuser": {"username": "postgres", "password": "s"}, "replication": {"username": "rep", "password": "r"}}
        config = {
            "scope": "demo",
            "name": name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            API.section: store,
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 2, "retry_timeout": 3},
                "initdb": [{"encoding": "UTF8"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": POSTGRES,
                "pgpass": str(self.folder / "pgpass"),
                "authentication": users,
                "pg_hba": ["host all all 127.0.0.1/32 md5", "host replication rep 127.0.0.1/32 md5", "local all all trust"],
                "parameters": {"unix_socket_directories": str(self.folder), "fsync": "off", "shared_buffers": "16MB"},
            },
        }
        (self.folder / "patroni.yml").write_text(json.dumps(config))
        shutil.chown(self.folder, "postgres")
        self.log = open(self.folder / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [PATRONI, str(self.folder / "patroni.yml")],
            user="postgres", group="postgres", extra_groups=[], stdout=self.log, stderr=self.log,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}, start_new_session=True,
        )

    def role(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=5) as answer:
                status = json.load(answer)
        except urllib.error.HTTPError as error:
            status = json.load(error)
        except (urllib.error.URLError, OSError):
            return None
        return status.get("role") if status.get("state") == "running" else None

    def sql(self, statement):
        done = subprocess.run(
            [f"{POSTGRES}/psql", "-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-Atqc", statement],
            capture_output=True, text=True, timeout=30, check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else f"error: {done.stderr.strip()}"

    def kill(self):
        """Ends Patroni and its PostgreSQL, without a word to anybody."""
        self.process.kill()
        self.process.wait()
        try:
            postmaster = int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(postmaster, signal.SIGQUIT)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            pass

    def show(self):
        self.log.flush()
        print("".join(f"{self.name}: {line}" for line in (self.folder / "log").open(encoding="utf-8").readlines()[-40:]))


def wait(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise TimeoutError(what)


def check(nodes):
    leader = wait("nobody leads", lambda: next((node for node in nodes if node.role() in ("primary", "master")), None))
    other = next(node for node in nodes if node is not leader)
    wait("the other does not follow", lambda: other.role() == "replica")
    print(f"patroni: {leader.name} leads, {other.name} follows")
    wait("the leader cannot be written to", lambda: leader.sql("create table if not exists t (n int)") == "")
    assert leader.sql("insert into t values (42)") == ""
    wait("what was written does not arrive", lambda: other.sql("select n from t") == "42")
    assert API.leader() == leader.name, API.leader()
    started = time.monotonic()
    leader.kill()
    wait("nobody takes over", lambda: other.role() in ("primary", "master"))
    print(f"patroni: {other.name} took over {time.monotonic() - started:.1f} s after the end of {leader.name}")
    wait("what was written is lost", lambda: other.sql("select n from t") == "42")
    wait("the new leader cannot be written to", lambda: other.sql("insert into t values (43)") == "")
    assert API.leader() == other.name, API.leader()


def main():
    pwd.getpwnam("postgres")
    API.make_users()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="patroni-"))
    folder.chmod(0o755)
    nodes = []
    try:
        # The first one starts alone, so that who bootstraps is no matter of luck.
        nodes.append(Node(folder, "one"))
        wait("the first does not lead", lambda: nodes[0].role() in ("primary", "master"))
        nodes.append(Node(folder, "two"))
        check(nodes)
    except BaseException:
        for node in nodes:
            node.show()
        raise
    finally:
        for node in nodes:
            node.kill()
        API.end()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"patroni ok, as section {API.section}")


main()
