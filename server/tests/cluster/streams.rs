//! Streams whose client says everything in one packet and ends its side: what is due is answered all the same, on every
//! member and through every reactor.

use super::cluster::{Cluster, put, retry};
use super::common::PATIENCE;
use super::common::client::*;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Request;
use plinth_api::proto::etcdserverpb as pb;
use prost::Message;

/// A call as one packet: head, messages, end.
async fn one_packet(address: &str, path: &str, messages: &[Vec<u8>]) -> h2::client::ResponseFuture {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the member listens");
    stream.set_nodelay(true).expect("set");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut client = client.ready().await.expect("open");
    let request = Request::builder().method("POST").uri(format!("http://{address}{path}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let (response, mut send) = client.send_request(request.body(()).expect("a request"), false).expect("open");
    let mut body = BytesMut::new();
    for message in messages {
        body.put_u8(0);
        body.put_u32(message.len() as u32);
        body.put_slice(message);
    }
    send.send_data(body.freeze(), true).expect("open");
    // The connection writes only from here on, so that all of it leaves at once.
    tokio::spawn(connection);
    response
}

/// All messages of an answer, and its status.
async fn collect(response: h2::client::ResponseFuture) -> (Vec<Bytes>, String) {
    let response = response.await.expect("an answer");
    let head = response.headers().clone();
    let (mut body, mut bytes) = (response.into_body(), BytesMut::new());
    while let Some(piece) = body.data().await {
        bytes.extend_from_slice(&piece.expect("no reset"));
    }
    let trailers = body.trailers().await.expect("no reset").unwrap_or(head);
    let status = trailers["grpc-status"].to_str().expect("a number").to_owned();
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes.get_u8(), 0);
        let length = bytes.get_u32() as usize;
        messages.push(bytes.split_to(length).freeze());
    }
    (messages, status)
}

async fn keep_alive(address: &str, lease: i64) -> (Vec<i64>, String) {
    let request = pb::LeaseKeepAliveRequest { id: lease }.encode_to_vec();
    let response = one_packet(address, "/etcdserverpb.Lease/LeaseKeepAlive", &[request.clone(), request]).await;
    let (messages, status) = tokio::time::timeout(PATIENCE, collect(response)).await.expect("in time");
    let ttl = |message: &Bytes| pb::LeaseKeepAliveResponse::decode(message.clone()).expect("an answer").ttl;
    (messages.iter().map(ttl).collect(), status)
}

async fn check_keep_alives(cluster: &Cluster, count: usize) {
    let mut client = cluster.client(0).await;
    let lease = retry(async || client.lease_grant(60, None).await).await.id();
    for round in 0..20 {
        let answers = keep_alive(&cluster.seats[round % count].endpoint(), lease).await;
        assert_eq!(answers, (vec![60, 60], "0".to_owned()), "round {round}");
    }
    let gone = keep_alive(&cluster.seats[0].endpoint(), 12345).await;
    assert_eq!(gone, (vec![0, 0], "0".to_owned()), "a lease that is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alives_in_one_packet_are_answered_by_every_member() {
    check_keep_alives(&Cluster::start(3, &[]), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alives_in_one_packet_are_answered_through_edges() {
    check_keep_alives(&Cluster::start(3, &["--reactors=2"]), 3).await;
    check_keep_alives(&Cluster::start(1, &["--reactors=2"]), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_the_end_of_its_requests() {
    use pb::watch_request::RequestUnion::{CreateRequest, ProgressRequest};
    let cluster = Cluster::start(3, &[]);
    let create = pb::WatchCreateRequest { key: "k".into(), ..pb::WatchCreateRequest::default() };
    let requests = [CreateRequest(create), ProgressRequest(pb::WatchProgressRequest {})];
    let requests = requests.map(|union| pb::WatchRequest { request_union: Some(union) }.encode_to_vec());
    for seat in 0..3 {
        let response = one_packet(&cluster.seats[seat].endpoint(), "/etcdserverpb.Watch/Watch", &requests).await;
        let mut body = response.await.expect("an answer").into_body();
        let value = format!("from {seat}");
        put(&mut cluster.client(seat).await, "k", value.clone()).await;
        let mut bytes = BytesMut::new();
        while !bytes.windows(value.len()).any(|window| window == value.as_bytes()) {
            let piece = tokio::time::timeout(PATIENCE, body.data()).await.expect("in time");
            bytes.extend_from_slice(&piece.expect("the stream stays open").expect("no reset"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_has_asked_hears_of_the_leader() {
    let cluster = Cluster::start(3, &[]);
    let request = plinth_api::proto::v3electionpb::LeaderRequest { name: "e".into() }.encode_to_vec();
    for seat in 0..3 {
        let path = "/v3electionpb.Election/Observe";
        let response = one_packet(&cluster.seats[seat].endpoint(), path, std::slice::from_ref(&request)).await;
        let mut client = cluster.client(0).await;
        if seat == 0 {
            put(&mut client, "e/1", "the leader").await;
        }
        let mut body = response.await.expect("an answer").into_body();
        let piece = tokio::time::timeout(PATIENCE, body.data()).await.expect("in time");
        let piece = piece.expect("the stream stays open").expect("no reset");
        assert!(piece.windows(10).any(|window| window == b"the leader"), "{piece:?}");
    }
}
