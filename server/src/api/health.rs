//! Service `grpc.health.v1.Health`: only the server as a whole, under the empty name. It serves from its start, but for times in
//! which a disk does not answer.

use super::kv::decode;
use super::{Request, StreamRequest};
use crate::answer::status;
use crate::home::Home;
use bytes::Bytes;
use plinth_api::proto::health as pb;
use plinth_net::grpc::{Code, Status, StreamHandler, StreamReply};
use prost::Message;
use std::rc::Rc;

use pb::health_check_response::ServingStatus;

fn encode_well(is_well: bool, out: &mut Vec<u8>) {
    encode(if is_well { ServingStatus::Serving } else { ServingStatus::NotServing }, out);
}

fn encode(serving: ServingStatus, out: &mut Vec<u8>) {
    let response = pb::HealthCheckResponse { status: serving as i32 };
    response.encode(out).expect("a vector grows");
}

/// `Check`.
pub fn check(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::HealthCheckRequest>(body, reply) else { return };
    match request.service.is_empty() {
        true => reply.send(|out| encode_well(home.stall.is_well(), out)),
        false => reply.fail(Status::new(Code::NotFound, "unknown service")),
    }
}

/// `Watch`: an answer now, and one with each change.
pub struct HealthWatch {
    home: Rc<Home>,
    reply: StreamReply,
}

impl HealthWatch {
    /// Waits for the request.
    pub fn open(StreamRequest { home, reply, .. }: StreamRequest) -> Box<dyn StreamHandler> {
        Box::new(HealthWatch { home, reply })
    }
}

impl StreamHandler for HealthWatch {
    fn message(&mut self, body: Bytes) {
        match pb::HealthCheckRequest::decode(body) {
            Err(error) => self.reply.finish(status::undecodable(&error)),
            Ok(request) if request.service.is_empty() => self.home.stall.watch(self.reply.clone(), encode_well),
            Ok(_) => self.reply.send(|out| encode(ServingStatus::ServiceUnknown, out)),
        }
    }

    fn half_close(&mut self) {}

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}
