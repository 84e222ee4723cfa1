//! Clients that come through a Unix socket: gRPC and HTTP on one file, which goes when the server goes.

use super::common::PATIENCE;
use super::server::Server;
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use plinth_api::proto::etcdserverpb as pb;
use prost::Message;
use std::io::{Read, Write};
use std::path::Path;

fn get(socket: &Path, target: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

async fn put(socket: &Path, key: &str) -> pb::PutResponse {
    let stream = tokio::net::UnixStream::connect(socket).await.expect("the server listens");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::builder().method("POST").uri("http://localhost/etcdserverpb.KV/Put");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let mut client = client.ready().await.expect("open");
    let (response, mut send) = client.send_request(request.body(()).expect("a request"), false).expect("open");
    let message = pb::PutRequest { key: key.to_owned().into(), ..pb::PutRequest::default() }.encode_to_vec();
    let mut body = BytesMut::from(&[0][..]);
    body.put_u32(message.len() as u32);
    body.put_slice(&message);
    send.send_data(body.freeze(), true).expect("open");
    let mut body = response.await.expect("an answer").into_body();
    let answer: Bytes = body.data().await.expect("a message").expect("no reset");
    pb::PutResponse::decode(answer.slice(5..)).expect("an answer to a put")
}

#[tokio::test]
async fn a_unix_socket_serves_grpc_and_http_with_every_number_of_reactors() {
    for reactors in ["--reactors=1", "--reactors=2"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The colon is part of the name, as in the URLs that Kubernetes' test framework makes.
        let socket = folder.path().join("localhost:m0");
        let urls = format!("--listen-client-urls=http://127.0.0.1:0,unix://{}", socket.display());
        let advertised = format!("--advertise-client-urls=unix://{}", socket.display());
        let mut server = Server::start(&[reactors, &urls, &advertised]);
        let health = get(&socket, "/health");
        assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"health\":\"true\""), "{health}");
        let revision = put(&socket, "k").await.header.expect("a header").revision;
        assert_eq!(put(&socket, "k").await.header.expect("a header").revision, revision + 1);
        server.kill();
        assert!(socket.exists(), "a process that is killed leaves its socket behind");
        server.restart();
        put(&socket, "k").await;
        server.terminate();
        assert!(!socket.exists(), "one that ends takes it along");
    }
}
