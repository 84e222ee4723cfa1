//! What is packaged fits the binary: units, manifests and images name flags and ports that it has, and the profile of
//! system calls allows all that it does.

#[path = "common/mod.rs"]
mod common;

use common::{Port, Process};
use plinth_server::config::{self, Command as Parsed, Config};
use serde::Deserialize;
use serde_yaml_ng::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("packaging").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(packaging(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The server's configuration from a command line and variables, as the binary reads them.
fn configured(arguments: &[String], variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    match config::load(arguments, &variables) {
        Ok(Parsed::Serve(loaded)) => Ok(loaded.config),
        Ok(Parsed::Print(text)) => Err(format!("it only prints {text}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The ports of client and peer listeners without flags.
fn default_ports() -> Vec<String> {
    let config = configured(&[], &[]).expect("the defaults are fine");
    let listeners = config.addresses.listen_client.iter().chain(&config.addresses.listen_peer);
    listeners.map(|url| port_of(url.address())).collect()
}

fn port_of(address: &str) -> String {
    address.rsplit(':').next().expect("an address").to_owned()
}

#[test]
fn the_unit_starts_the_binary_and_is_hardened() {
    let unit = read("systemd/plinth.service");
    let values = |key: &str| -> Vec<String> {
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
    };
    assert_eq!(values("Type"), ["notify"]);
    let start = values("ExecStart").remove(0);
    let mut words = start.split_whitespace().map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("/usr/bin/plinth"));
    let environment = values("Environment");
    let variables: Vec<(&str, &str)> = environment.iter().map(|pair| pair.split_once('=').expect("a pair")).collect();
    let config = configured(&words.collect::<Vec<_>>(), &variables).expect("it starts");
    assert_eq!(config.data_dir, Path::new("/var/lib").join(&values("StateDirectory")[0]));
    let users = read("systemd/plinth.sysusers");
    assert!(users.contains(&format!("u {} ", values("User")[0])), "its user is created");

    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        return println!("without systemd-analyze the unit is not verified");
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("plinth.service");
    std::fs::write(&copy, unit.replace("/usr/bin/plinth", env!("CARGO_BIN_EXE_plinth"))).expect("written");
    // What is wrong is said, and with some versions that is all.
    let verified = Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("plinth.service"), "{said}");
    let exposure = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&copy)
        .output()
        .expect("it runs");
    assert!(exposure.status.success(), "{}", String::from_utf8_lossy(&exposure.stdout));
}

fn documents(name: &str) -> Vec<Value> {
    let text = read(name);
    let parsed = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    parsed.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().map(|word| word.as_str().expect("text").to_owned()).collect()
}

/// The ports a container names, by their names.
fn ports(container: &Value) -> BTreeMap<String, String> {
    let ports = container["ports"].as_sequence().expect("ports").iter();
    ports
        .map(|port| {
            let number = port["containerPort"].as_u64().expect("a number");
            (port["name"].as_str().expect("a name").to_owned(), number.to_string())
        })
        .collect()
}

/// Probes ask for what exists, where metrics and health are listened for.
fn check_probes(container: &Value, config: &Config) {
    let ports = ports(container);
    let served: Vec<String> = config.addresses.listen_metrics.iter().map(|url| port_of(url.address())).collect();
    for (probe, path) in [("startupProbe", "/readyz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["path"], path, "{probe}");
        let port = &ports[get["port"].as_str().expect("the name of a port")];
        assert!(served.contains(port), "{probe} asks port {port}; metrics are at {served:?}");
    }
}

/// The data lie in a volume, and the profile is the one that is packaged.
fn check_pod(pod: &Value, container: &Value, config: &Config) {
    let mounts = container["volumeMounts"].as_sequence().expect("mounts").iter();
    let mut folders = mounts.map(|mount| mount["mountPath"].as_str().expect("a path"));
    assert!(folders.any(|folder| config.data_dir.starts_with(folder)), "{} is kept", config.data_dir.display());
    let profile = &pod["securityContext"]["seccompProfile"];
    assert_eq!(profile["type"], "Localhost");
    let name = profile["localhostProfile"].as_str().expect("a name");
    assert!(packaging("seccomp").join(name).is_file(), "{name}");
}

#[test]
fn the_static_pod_is_what_the_binary_takes() {
    let pod = documents("kubernetes/static-pod.yaml").remove(0);
    let container = &pod["spec"]["containers"][0];
    let mut words = texts(&container["command"]);
    assert_eq!(words.remove(0), "etcd", "the binary goes by this name too");
    let config = configured(&words, &[]).expect("every flag is known, and its value understood");
    check_pod(&pod["spec"], container, &config);
    check_probes(container, &config);
}

#[test]
fn the_stateful_set_is_a_cluster() {
    let documents = documents("kubernetes/statefulset.yaml");
    let of_kind = |kind: &str| documents.iter().filter(|found| found["kind"] == kind).collect::<Vec<_>>();
    let set = of_kind("StatefulSet").remove(0);
    let name = set["metadata"]["name"].as_str().expect("a name");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let replicas = set["spec"]["replicas"].as_u64().expect("a number");
    let headless = set["spec"]["serviceName"].as_str().expect("a name");
    let own = ports(container);
    for number in 0..replicas {
        let member = format!("{name}-{number}");
        let words = texts(&container["args"]).into_iter().map(|word| word.replace("$(POD_NAME)", &member));
        let config = configured(&words.collect::<Vec<_>>(), &[]).expect("each member starts");
        assert_eq!(config.cluster.initial.split(',').count() as u64, replicas);
        let listens =
            [&config.addresses.listen_client, &config.addresses.listen_peer, &config.addresses.listen_metrics];
        for (port, urls) in ["client", "peer", "metrics"].into_iter().zip(listens) {
            assert_eq!(port_of(urls[0].address()), own[port], "{port}");
        }
        let peer = config.addresses.advertise_peer[0].as_str();
        assert_eq!(peer, format!("http://{member}.{headless}:{}", own["peer"]));
        check_pod(pod, container, &config);
        check_probes(container, &config);
    }
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for service in of_kind("Service") {
        assert_eq!(&service["spec"]["selector"], labels);
        for port in service["spec"]["ports"].as_sequence().expect("ports") {
            let port_name = port["name"].as_str().expect("a name");
            assert_eq!(port["port"].as_u64().map(|port| port.to_string()).as_ref(), own.get(port_name));
        }
    }
    let found = of_kind("Service").into_iter().find(|service| service["metadata"]["name"] == headless);
    let found = found.expect("members find each other");
    assert_eq!(
        (&found["spec"]["clusterIP"], &found["spec"]["publishNotReadyAddresses"]),
        (&"None".into(), &true.into())
    );
}

#[test]
fn the_image_runs_the_binary_as_nobody() {
    let text = read("container/Containerfile").replace("\\\n", " ");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let values = |key: &str| -> Vec<&str> {
        lines.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect()
    };
    assert_eq!(values("ENTRYPOINT"), [r#"["/usr/bin/plinth"]"#]);
    let user: u32 = values("USER")[0].split(':').next().expect("a user").parse().expect("a number");
    assert_ne!(user, 0);
    assert_eq!(values("EXPOSE")[0].split(' ').collect::<Vec<_>>(), default_ports());
    let variables: Vec<_> = values("ENV").into_iter().map(|pair| pair.split_once('=').expect("a pair")).collect();
    let config = configured(&[], &variables).expect("it starts");
    assert!(values("VOLUME")[0].contains(config.data_dir.to_str().expect("UTF-8")));
    let check = values("HEALTHCHECK")[0].split_once("CMD ").expect("a command").1;
    let words: Vec<String> = serde_json::from_str(check).expect("a list");
    let help = Command::new(env!("CARGO_BIN_EXE_plinth")).arg("ctl").args(&words[1..]).arg("--help").output();
    assert!(help.expect("the binary runs").status.success(), "{words:?}");
}

/// All that the server's metrics are written in.
fn metrics_sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics");
    let files = std::fs::read_dir(folder).expect("the metrics").map(|file| file.expect("a file").path());
    files.filter(|file| file.is_file()).map(|file| std::fs::read_to_string(file).expect("text")).collect()
}

/// A metric of an expression exists, and so do the labels that are chosen by.
fn check_expression(expression: &str, sources: &str) {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_metric = |word: &&str| ["plinth_", "etcd_", "grpc_", "process_"].iter().any(|start| word.starts_with(start));
    let labels = ["grpc_type", "grpc_method"];
    let mut names = words.filter(is_metric).filter(|word| !labels.contains(word)).peekable();
    assert!(names.peek().is_some(), "{expression} asks for a metric");
    for name in names {
        let known = |name: &str| sources.contains(&format!("\"{name}\""));
        assert!(known(name) || name.strip_suffix("_bucket").is_some_and(known), "{name} of {expression} exists");
    }
    for chosen in expression.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        for pair in chosen.split(", ") {
            let name = pair.split(['=', '!']).next().expect("a label");
            let known = ["job", "instance"].contains(&name)
                || sources.contains(&format!("{name}=\""))
                || sources.contains(&format!("\"{name}\""));
            assert!(known, "label {name} of {expression} exists");
        }
    }
}

#[test]
fn alerts_ask_for_what_is_measured_and_have_a_runbook() {
    let sources = metrics_sources();
    let rules = documents("prometheus/plinth.rules.yaml").remove(0);
    let runbooks = std::fs::read_to_string(packaging("../docs/operations.md")).expect("the runbooks");
    let rules = rules["groups"][0]["rules"].as_sequence().expect("rules");
    assert!(!rules.is_empty());
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        check_expression(rule["expr"].as_str().expect("an expression"), &sources);
        assert!(rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string(), "{name}");
        assert!(runbooks.contains(&format!("| {name} |")), "docs/operations.md says what to do about {name}");
    }
}

#[test]
fn the_dashboard_asks_for_what_is_measured() {
    let sources = metrics_sources();
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana/plinth.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    for target in expressions {
        check_expression(target["expr"].as_str().expect("an expression"), &sources);
    }
}

#[test]
fn the_debian_package_names_what_is_there() {
    let manifest = include_str!("../Cargo.toml");
    let package = manifest.split("[package.metadata.deb]").nth(1).expect("a package");
    let package = package.split("\n[").next().expect("its settings");
    let named = package.split('"').filter(|word| word.starts_with("../"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in named.map(|name| name.strip_suffix("/*.md").unwrap_or(name)) {
        assert!(folder.join(name).exists(), "{name}");
    }
    assert!(read("debian/postinst").contains("#DEBHELPER#"), "what cargo-deb adds has its place");
}

/// The numbers of system calls on this architecture, as far as the profile names them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NUMBERS: &str = "\
    read 0, write 1, open 2, close 3, stat 4, fstat 5, lstat 6, poll 7, lseek 8, mmap 9, mprotect 10, munmap 11, \
    brk 12, rt_sigaction 13, rt_sigprocmask 14, rt_sigreturn 15, ioctl 16, pread64 17, pwrite64 18, readv 19, \
    writev 20, access 21, sched_yield 24, mremap 25, madvise 28, dup 32, dup2 33, nanosleep 35, getpid 39, \
    sendfile 40, socket 41, connect 42, accept 43, sendto 44, recvfrom 45, sendmsg 46, recvmsg 47, shutdown 48, \
    bind 49, listen 50, getsockname 51, getpeername 52, socketpair 53, setsockopt 54, getsockopt 55, clone 56, \
    execve 59, exit 60, wait4 61, kill 62, uname 63, fcntl 72, flock 73, fsync 74, fdatasync 75, ftruncate 77, \
    getcwd 79, chdir 80, rename 82, mkdir 83, rmdir 84, unlink 87, readlink 89, fchmod 91, fchown 93, umask 95, \
    getrlimit 97, getrusage 98, sysinfo 99, getuid 102, getgid 104, setuid 105, setgid 106, geteuid 107, \
    getegid 108, getppid 110, setgroups 116, capget 125, capset 126, rt_sigtimedwait 128, sigaltstack 131, \
    statfs 137, fstatfs 138, getpriority 140, setpriority 141, mlock 149, munlock 150, prctl 157, arch_prctl 158, setrlimit 160, gettid 186, \
    futex 202, sched_setaffinity 203, sched_getaffinity 204, getdents64 217, set_tid_address 218, \
    restart_syscall 219, fadvise64 221, clock_gettime 228, clock_getres 229, clock_nanosleep 230, exit_group 231, \
    epoll_wait 232, epoll_ctl 233, tgkill 234, waitid 247, openat 257, mkdirat 258, newfstatat 262, unlinkat 263, \
    renameat 264, readlinkat 267, fchmodat 268, faccessat 269, ppoll 271, set_robust_list 273, sync_file_range 277, \
    epoll_pwait 281, fallocate 285, accept4 288, eventfd2 290, epoll_create1 291, dup3 292, pipe2 293, preadv 295, \
    pwritev 296, prlimit64 302, getcpu 309, renameat2 316, getrandom 318, membarrier 324, copy_file_range 326, \
    statx 332, rseq 334, io_uring_setup 425, io_uring_enter 426, io_uring_register 427, clone3 435, \
    close_range 436, faccessat2 439";

/// The real server under the packaged profile: starts, serves, compacts, ends; and so does a tool.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_profile_of_system_calls_is_wide_enough() {
    let profile: serde_json::Value = serde_json::from_str(&read("seccomp/plinth.json")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let refusal = profile["defaultErrnoRet"].as_i64().expect("a number") as i32;
    let known: BTreeMap<&str, u32> = NUMBERS
        .split(", ")
        .map(|pair| pair.trim().split_once(' ').expect("a name and a number"))
        .map(|(name, number)| (name, number.parse().expect("a number")))
        .collect();
    let mut allowed = Vec::new();
    for group in profile["syscalls"].as_array().expect("groups") {
        assert_eq!(group["action"], "SCMP_ACT_ALLOW");
        let names = group["names"].as_array().expect("names").iter().map(|name| name.as_str().expect("text"));
        allowed.extend(names.map(|name| *known.get(name).unwrap_or_else(|| panic!("{name} has no number here"))));
    }
    assert_eq!(allowed.len(), known.len(), "none is named twice");
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(&known[name]), "{name}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::reserve();
    let url = port.url();
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--reactors=2", "--listen-peer-urls=http://127.0.0.1:0"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        let command = common::sys::under_profile(&mut command, &allowed, refusal);
        let mut server = Process::start(command, &folder.path().join("log")).expect("it starts");
        server.wait_until_ready();
        for words in [&["put", "k", "v"][..], &["get", "k"], &["compact", "2", "--physical"], &["defrag"]] {
            let mut tool = Command::new(env!("CARGO_BIN_EXE_plinth"));
            tool.args(["ctl", "--endpoints", &url]).args(words);
            let done = common::sys::under_profile(&mut tool, &allowed, refusal).output().expect("it runs");
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            // The second time round the compaction is done already.
            assert!(done.status.success() || said.contains("has been compacted"), "{words:?}: {said}");
        }
        server.terminate();
        assert!(server.log().contains("closed etcd server"), "it ends in order");
    }
}
