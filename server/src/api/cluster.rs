//! Service `Cluster`, as far as a cluster of one has it: the list of members.

use super::kv::decode;
use super::wire::HeaderTemplate;
use crate::home::Home;
use crate::members;
use bytes::Bytes;
use plinth_net::grpc::UnaryReply;
use plinth_net::proto::etcdserverpb as pb;
use prost::Message;
use std::rc::Rc;

/// `MemberList`.
pub fn member_list(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberListRequest>(body, reply) else { return };
    if !request.linearizable {
        return answer(home, reply);
    }
    let home = home.clone();
    glommio::spawn_local(async move {
        match home.barrier().await {
            Ok(()) => answer(&home, reply),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

fn answer(home: &Home, reply: UnaryReply) {
    let state = home.state();
    let header: &HeaderTemplate = &state.header;
    let members = members::list(state.member.store());
    reply.send(|out| {
        header.append(out, 0);
        let list = pb::MemberListResponse { header: None, members };
        list.encode(out).expect("a vector grows");
    });
}
