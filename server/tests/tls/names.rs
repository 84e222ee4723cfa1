//! Whose name a certificate says: users by the common name of what they show, over gRPC, and not through the gateway.

use super::authority::{Authority, Pair, params};
use super::common::client::*;
use super::dial::Dialer;
use super::{Server, folder, run, start};
use plinth_api::methods;
use plinth_api::proto::authpb::{Permission, UserAddOptions, permission::Type};
use plinth_api::proto::etcdserverpb as pb;
use std::path::Path;

const DENIED: &str = "etcdserver: permission denied";
const NOBODY: &str = "etcdserver: user name is empty";
const BAD_TOKEN: &str = "etcdserver: invalid auth token";
const IGNORED: &str = "CommonName of client sending a request against gateway will be ignored and not used as expected";

/// A server that goes by names of certificates, with certificates of several clients.
struct Named {
    server: Server,
    authority: Authority,
    root: Pair,
    alice: Pair,
    bare: Pair,
    stranger: Pair,
}

impl Named {
    fn start(folder: &Path, authority: Authority) -> Named {
        Named::with(folder, authority, &[])
    }

    fn with(folder: &Path, authority: Authority, more: &[&str]) -> Named {
        let [cert, key] = authority.sign("server", params("root", &["localhost"])).texts();
        let ca = authority.file.display().to_string();
        let flags = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
        let server = start(folder, &["https"], &[&flags[..], &["--bcrypt-cost", "4"], more].concat());
        let sign = |name: &str| authority.sign(&format!("client-{name}"), params(name, &[]));
        let (root, alice, bare, stranger) = (sign("root"), sign("alice"), sign(""), sign("stranger"));
        Named { server, authority, root, alice, bare, stranger }
    }

    fn dialer(&self, pair: &Pair) -> Dialer {
        Dialer::new(&self.authority, Some(pair))
    }

    async fn client(&self, pair: &Pair) -> Client {
        self.dialer(pair).client(&self.server.port).await.expect("connected")
    }

    /// `root` and `alice` by certificates, `bob` with a password; alice may use `a`, bob `b`.
    async fn enable(&self) -> Client {
        let mut root = self.client(&self.root).await;
        for (name, password) in [("root", ""), ("alice", ""), ("bob", "p")] {
            let (user, role) = (name.to_owned(), name.to_owned());
            let options = Some(UserAddOptions { no_password: password.is_empty() });
            let (name, password) = (user.clone(), password.to_owned());
            let add = pb::AuthUserAddRequest { name, password, options, ..Default::default() };
            root.call(&methods::USER_ADD, add).await.expect("added");
            root.call(&methods::ROLE_ADD, pb::AuthRoleAddRequest { name: role.clone() }).await.expect("added");
            root.call(&methods::USER_GRANT_ROLE, pb::AuthUserGrantRoleRequest { user, role }).await.expect("granted");
        }
        for (role, key) in [("alice", "a"), ("bob", "b")] {
            let perm =
                Some(Permission { perm_type: Type::Readwrite.into(), key: key.into(), range_end: Default::default() });
            let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm };
            root.call(&methods::ROLE_GRANT_PERMISSION, request).await.expect("granted");
        }
        root.call(&methods::AUTH_ENABLE, pb::AuthEnableRequest {}).await.expect("enabled");
        root
    }

    /// The answer of the gateway to a read of `key`.
    fn post(&self, pair: &Pair, key: &str, head: &str) -> String {
        use base64::Engine;
        let key = base64::engine::general_purpose::STANDARD.encode(key);
        self.dialer(pair)
            .post(&self.server.port, "/v3/kv/range", head, &format!("{{\"key\":\"{key}\"}}"))
            .expect("sent")
    }
}

#[track_caller]
fn refusal<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).expect_err("it should be refused").message().to_owned()
}

#[test]
fn a_certificate_says_who_calls_unless_a_token_does() {
    let (folder, authority) = folder();
    let named = Named::start(folder.path(), authority);
    run(async {
        let mut root = named.enable().await;
        root.put("c", "1", None).await.expect("root may");
        let mut alice = named.client(&named.alice).await;
        alice.put("a", "1", None).await.expect("granted");
        assert_eq!(refusal(alice.put("b", "1", None).await), DENIED);
        assert_eq!(refusal(alice.compact(1, None).await), DENIED, "she is somebody, but not root");
        // A name that no user has; and none at all, which is nobody.
        let mut stranger = named.client(&named.stranger).await;
        assert_eq!(refusal(stranger.put("a", "1", None).await), DENIED);
        assert_eq!(refusal(stranger.get("a", None).await), DENIED);
        assert_eq!(refusal(stranger.compact(1, None).await), "etcdserver: user name not found");
        let mut bare = named.client(&named.bare).await;
        for text in [refusal(bare.put("a", "1", None).await), refusal(bare.compact(1, None).await)] {
            assert_eq!(text, NOBODY);
        }
        // Who has no password cannot sign in with one.
        let text = refusal(alice.authenticate("alice", "").await);
        assert_eq!(text, "auth: authentication failed, password was given for no password user");
        let token = alice.authenticate("bob", "p").await.expect("the password is right");
        alice.put("b", "1", None).await.expect("the token counts");
        assert_eq!(refusal(alice.put("a", "1", None).await), DENIED, "and not the certificate");
        for wrong in ["", "wrong", &format!("{token}0")] {
            alice.set_token(Some(wrong));
            assert_eq!(refusal(alice.put("a", "1", None).await), BAD_TOKEN, "{wrong:?}");
        }
        alice.set_token(None);
        alice.put("a", "1", None).await.expect("the certificate again");
        let watched = alice.watch("b", None).await.expect("opened").message().await.expect("answered");
        assert!(watched.expect("answered").canceled, "watches as well");
    });
}

/// The gateway's own certificate once was who called, whoever did.
#[test]
fn ghsa_h6xx_pmxh_3wgp_a_certificate_is_nobody_at_the_gateway() {
    let (folder, authority) = folder();
    let named = Named::start(folder.path(), authority);
    assert!(named.post(&named.alice, "a", "").starts_with("HTTP/1.1 200"), "while users do not matter");
    run(async {
        let mut root = named.enable().await;
        // What the gateway of etcd marks its calls with.
        root.set_metadata("grpcgateway-accept", "*/*");
        assert_eq!(refusal(root.put("a", "1", None).await), NOBODY);
    });
    let refused = named.post(&named.alice, "a", "");
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains(IGNORED), "{refused}");
    for target in ["/health", "/version", "/metrics"] {
        let answer = named.dialer(&named.alice).get(&named.server.port, target).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "what asks for nobody is open: {answer}");
    }
    // Without a name the request goes on, as nobody's, with or without the header that makes etcd tell its gateway's calls.
    for head in ["", "Accept: */*\r\n", "Grpc-Metadata-grpcgateway-accept: x\r\n"] {
        let answer = named.post(&named.bare, "a", head);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(NOBODY), "{answer}");
    }
    let body = "{\"name\":\"bob\",\"password\":\"p\"}";
    let answer = named.dialer(&named.bare).post(&named.server.port, "/v3/auth/authenticate", "", body).expect("sent");
    let token = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let head = format!("Authorization: {token}\r\n");
    assert!(named.post(&named.bare, "b", &head).starts_with("HTTP/1.1 200"));
    assert!(named.post(&named.bare, "a", &head).contains(DENIED));
}

/// Where the console is served a browser may show a certificate, and its user signs in: the token counts.
#[test]
fn beside_the_console_a_token_counts_whatever_the_certificate() {
    let (folder, authority) = folder();
    let named = Named::with(folder.path(), authority, &["--enable-console"]);
    run(async { drop(named.enable().await) });
    assert!(named.post(&named.alice, "a", "").contains(IGNORED), "the certificate alone is nobody");
    let body = "{\"name\":\"bob\",\"password\":\"p\"}";
    let answer = named.dialer(&named.alice).post(&named.server.port, "/v3/auth/authenticate", "", body).expect("sent");
    let token = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let head = format!("Authorization: {token}\r\n");
    assert!(named.post(&named.alice, "b", &head).starts_with("HTTP/1.1 200"));
    assert!(named.post(&named.alice, "a", &head).contains(DENIED), "bob's rights, not alice's");
    let samples = named.dialer(&named.root).get(&named.server.port, "/console/api/samples").expect("answered");
    assert!(samples.starts_with("HTTP/1.1 400") && samples.contains(NOBODY), "nor does root's name open the console");
}

/// As in etcd: revocation is looked at when a connection is taken, and ends none that is open.
#[test]
fn a_revoked_certificate_keeps_its_connection_and_gets_no_other() {
    let (folder, authority) = folder();
    let alice = authority.sign("alice", params("alice", &[]));
    let list = folder.path().join("revoked.crl");
    std::fs::write(&list, authority.revoke(&[])).expect("written");
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let (ca, crl) = (authority.file.display().to_string(), list.display().to_string());
    let flags = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-crl-file", &crl];
    let server = start(folder.path(), &["https"], &flags);
    run(async {
        for dialer in [Dialer::new(&authority, Some(&alice)), Dialer::old(&authority, Some(&alice))] {
            std::fs::write(&list, authority.revoke(&[])).expect("written");
            let mut open = dialer.client(&server.port).await.expect("connected");
            open.put("k", "1", None).await.expect("put");
            std::fs::write(&list, authority.revoke(&[&alice])).expect("written");
            assert!(dialer.get(&server.port, "/health").is_err(), "revoked");
            open.put("k", "2", None).await.expect("it goes on");
            if let Ok(mut next) = dialer.client(&server.port).await {
                // A client of TLS 1.3 is done before the server has looked.
                next.put("k", "3", None).await.expect_err("revoked");
            }
        }
    });
}

/// The list counts wherever TLS is spoken: with ports for HTTP of their own, too, where it once was forgotten for
/// gRPC.
#[test]
fn ghsa_3wh4_j44w_pg92_every_listener_knows_who_is_revoked() {
    let (folder, authority) = folder();
    let (alice, bob) = (authority.sign("alice", params("alice", &[])), authority.sign("bob", params("bob", &[])));
    let list = folder.path().join("revoked.crl");
    std::fs::write(&list, authority.revoke(&[&alice])).expect("written");
    let [cert, key] = authority.sign("server", params("server", &["localhost"])).texts();
    let (ca, crl) = (authority.file.display().to_string(), list.display().to_string());
    let (http, metrics) = (super::Port::reserve(), super::Port::reserve());
    let flags = [
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-crl-file",
        &crl,
        "--listen-client-http-urls",
        &format!("https://{}", http.address()),
        "--listen-metrics-urls",
        &format!("https://{}", metrics.address()),
    ];
    let server = start(folder.path(), &["https"], &flags);
    let dial = |pair| Dialer::new(&authority, Some(pair));
    for port in [&http, &metrics] {
        assert!(dial(&bob).get(port, "/health").is_ok(), "{}", port.address());
        assert!(dial(&alice).get(port, "/health").is_err(), "{}", port.address());
    }
    run(async {
        let mut bob = dial(&bob).client(&server.port).await.expect("connected");
        bob.put("k", "1", None).await.expect("put");
        if let Ok(mut alice) = dial(&alice).client(&server.port).await {
            alice.put("k", "2", None).await.expect_err("revoked");
        }
    });
}
