//! Service `grpc.health.v1.Health`: only the server as a whole, under the empty name, and it serves from its start.

use super::kv::decode;
use super::{Request, StreamRequest};
use crate::answer::status;
use bytes::Bytes;
use plinth_api::proto::health as pb;
use plinth_net::grpc::{Code, Status, StreamHandler, StreamReply};
use prost::Message;

use pb::health_check_response::ServingStatus;

fn encode(serving: ServingStatus, out: &mut Vec<u8>) {
    let response = pb::HealthCheckResponse { status: serving as i32 };
    response.encode(out).expect("a vector grows");
}

/// `Check`.
pub fn check(Request { body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::HealthCheckRequest>(body, reply) else { return };
    match request.service.is_empty() {
        true => reply.send(|out| encode(ServingStatus::Serving, out)),
        false => reply.fail(Status::new(Code::NotFound, "unknown service")),
    }
}

/// `Watch`: one answer, then nothing changes.
pub struct HealthWatch {
    reply: StreamReply,
}

impl HealthWatch {
    /// Waits for the request.
    pub fn open(StreamRequest { reply, .. }: StreamRequest) -> Box<dyn StreamHandler> {
        Box::new(HealthWatch { reply })
    }
}

impl StreamHandler for HealthWatch {
    fn message(&mut self, body: Bytes) {
        match pb::HealthCheckRequest::decode(body) {
            Err(error) => self.reply.finish(status::undecodable(&error)),
            Ok(request) if request.service.is_empty() => self.reply.send(|out| encode(ServingStatus::Serving, out)),
            Ok(_) => self.reply.send(|out| encode(ServingStatus::ServiceUnknown, out)),
        }
    }

    fn half_close(&mut self) {}

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}
