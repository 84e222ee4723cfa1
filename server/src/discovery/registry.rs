//! Founders by a registry in another cluster: keys below `/_etcd/registry/TOKEN`. `_config/size` says how many there will be;
//! each enters its name and URLs under `members/ID`, and waits until the first so many have done so.
//!
//! Whatever fails on the way is tried again, later each time: the registry may be on its way up, too. Numbers from there are
//! checked before they are used.

use crate::config::{Discovery, Url};
use plinth_api::methods::{Method, PUT, RANGE};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use plinth_api::proto::mvccpb::KeyValue;
use plinth_ctl::rpc::{ANSWER_BYTES_MAX, Client, ConnectError, Credentials, Options, REQUEST_BYTES_MAX};
use plinth_ctl::tls::Encryption;
use prost::Message;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two looks whether all have come.
const LOOK: Duration = Duration::from_millis(500);

/// The first pause after a failure; each is twice the one before, up to the last.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(256);

/// Founders that a registry may ask for: a cluster has no more voters.
const SIZE_MAX: usize = 1000;

/// Why there are no founders.
#[derive(Debug)]
enum Trouble {
    /// It may be gone later.
    Passing(String),
    /// Somebody has to do something about it.
    Final(String),
}

use Trouble::{Final, Passing};

/// What the registry says, as `--initial-cluster` has it, once all have entered.
pub fn initial_cluster(discovery: &Discovery, name: &str, advertised: &[Url]) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for discovery: {error}"))?;
    let urls: Vec<String> = advertised.iter().map(Url::to_string).collect();
    let entry = Entry {
        key: format!("{}/members/{}", registry(discovery), plinth_raft::member_id(&urls, &discovery.token, None)),
        value: urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(","),
    };
    runtime.block_on(async {
        let mut pause = PAUSE;
        loop {
            match enter(discovery, &entry).await {
                Ok(founders) => return Ok(founders),
                Err(Final(error)) => return Err(error),
                Err(Passing(error)) => {
                    tracing::warn!(error, pause = ?pause, "the registry of discovery does not answer; trying again");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    })
}

fn registry(discovery: &Discovery) -> String {
    format!("/_etcd/registry/{}", discovery.token)
}

/// What a member says of itself there.
struct Entry {
    key: String,
    value: String,
}

async fn enter(discovery: &Discovery, entry: &Entry) -> Result<String, Trouble> {
    let registry = Registry::connect(discovery).await?;
    let size = registry.size().await?;
    let entered = registry.members().await?;
    if !has_room(&entered, size, &entry.key) {
        return Err(Final("discovery: cluster is full".to_owned()));
    }
    let (key, value) = (entry.key.clone().into(), entry.value.clone().into());
    registry.call(&PUT, pb::PutRequest { key, value, ..Default::default() }).await?;
    tracing::info!(key = entry.key, size, "entered the registry of discovery; waiting for the others");
    loop {
        let mut entered = registry.members().await?;
        if entered.len() >= size {
            entered.truncate(size);
            return founders(&entered, &entry.key).map_err(Final);
        }
        sleep(LOOK).await;
    }
}

/// Whether the owner of `key` is among the first `size`, or will be if it enters now.
fn has_room(entered: &[KeyValue], size: usize, key: &str) -> bool {
    entered.len() < size || entered[..size].iter().any(|member| member.key == key.as_bytes())
}

/// The entries of all founders in one text.
fn founders(entered: &[KeyValue], own: &str) -> Result<String, String> {
    if !entered.iter().any(|member| member.key == own.as_bytes()) {
        return Err("discovery: cluster is full".to_owned());
    }
    let texts: Result<Vec<_>, _> = entered.iter().map(|member| std::str::from_utf8(&member.value)).collect();
    Ok(texts.map_err(|_| "discovery: peer URL is invalid")?.join(","))
}

/// How many founders there will be.
fn size_of(value: &[u8]) -> Result<usize, String> {
    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    size.filter(|size| (1..=SIZE_MAX).contains(size)).ok_or_else(|| "discovery: size key is bad".to_owned())
}

/// A connection to a member of the cluster that keeps the registry.
struct Registry<'d> {
    client: Client,
    discovery: &'d Discovery,
}

impl Registry<'_> {
    async fn connect(discovery: &Discovery) -> Result<Registry<'_>, Trouble> {
        let options = options(discovery);
        let mut last = String::new();
        for endpoint in &discovery.endpoints {
            match Client::connect(endpoint.trim(), &options).await {
                Ok(client) => return Ok(Registry { client, discovery }),
                Err(ConnectError::Unreachable(why)) => last = format!("{endpoint}: {why}"),
                Err(ConnectError::Refused(failure)) => return Err(Final(format!("{endpoint}: {}", failure.text))),
            }
        }
        Err(Passing(last))
    }

    async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        match timeout(self.discovery.request_timeout, self.client.call(method, request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Passing(status.message().to_owned())),
            Err(_) => Err(Passing("no answer in time".to_owned())),
        }
    }

    async fn size(&self) -> Result<usize, Trouble> {
        let key = format!("{}/_config/size", registry(self.discovery)).into();
        let answer = self.call(&RANGE, pb::RangeRequest { key, ..Default::default() }).await?;
        let found = answer.kvs.first().ok_or_else(|| Final("discovery: size key not found".to_owned()))?;
        size_of(&found.value).map_err(Final)
    }

    /// Who has entered, the first first.
    async fn members(&self) -> Result<Vec<KeyValue>, Trouble> {
        let folder = format!("{}/members", registry(self.discovery));
        let request = pb::RangeRequest {
            key: format!("{folder}/").into(),
            // Behind all keys of the folder: '0' follows '/'.
            range_end: format!("{folder}0").into(),
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        };
        Ok(self.call(&RANGE, request).await?.kvs)
    }
}

fn options(discovery: &Discovery) -> Options {
    let [cert, key, cacert] =
        discovery.certificate_files.each_ref().map(|file| (!file.is_empty()).then(|| file.clone()));
    Options {
        dial_timeout: discovery.dial_timeout,
        keepalive_time: discovery.keepalive_time,
        keepalive_timeout: discovery.keepalive_timeout,
        request_bytes_max: REQUEST_BYTES_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
        credentials: credentials(discovery),
        encryption: Encryption {
            cacert,
            cert,
            key,
            skip_verify: discovery.insecure_skip_verify,
            is_wanted: !discovery.insecure_transport,
            server_name: None,
        },
    }
}

/// `--discovery-user` holds the password behind a colon, unless `--discovery-password` says it.
fn credentials(discovery: &Discovery) -> Credentials {
    let (name, password) = match discovery.user.split_once(':') {
        Some((name, password)) if discovery.password.is_empty() => (name, password),
        _ => (discovery.user.as_str(), discovery.password.as_str()),
    };
    match name.is_empty() {
        true => Credentials::None,
        false => Credentials::User { name: name.to_owned(), password: password.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(names: &[&str]) -> Vec<KeyValue> {
        let entry = |name: &&str| KeyValue {
            key: format!("/_etcd/registry/t/members/{name}").into(),
            value: format!("{name}=http://{name}:2380").into(),
            ..Default::default()
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn the_first_so_many_are_the_founders() {
        let key = |name: &str| format!("/_etcd/registry/t/members/{name}");
        assert!(has_room(&[], 1, &key("a")));
        assert!(has_room(&entered(&["b"]), 2, &key("a")));
        assert!(has_room(&entered(&["b", "a", "c"]), 2, &key("a")), "entered before a restart");
        assert!(!has_room(&entered(&["b", "c"]), 2, &key("a")));
        assert!(!has_room(&entered(&["b", "c", "a"]), 2, &key("a")));
        let text = founders(&entered(&["b", "a"]), &key("a"));
        assert_eq!(text, Ok("b=http://b:2380,a=http://a:2380".to_owned()));
        founders(&entered(&["b", "c"]), &key("a")).expect_err("others were faster");
    }

    #[test]
    fn a_size_is_a_number_of_members() {
        assert_eq!(size_of(b"3"), Ok(3));
        for bad in [&b"0"[..], b"-1", b"", b"x", b"3 ", b"99999999999999999999", b"1001", b"\xff"] {
            assert_eq!(size_of(bad), Err("discovery: size key is bad".to_owned()), "{bad:?}");
        }
    }
}
