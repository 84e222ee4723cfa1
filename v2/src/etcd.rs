//! Requests of the v2 API as an etcd up to 3.5 has them in its log.
//!
//! Source: etcd 2.3 to 3.5, `etcdserverpb.Request`, `server/etcdserver/apply_v2.go`.

use crate::command::{Change, Content, V2Command};
use crate::path;
use bytes::Bytes;
use plinth_api::wire::{bytes_field, fields, integer_field};

/// What a request does to the tree; nothing if it only reads.
///
/// # Errors
/// If it is damaged, or of no known kind.
pub fn command(request: &[u8]) -> Result<Option<V2Command>, String> {
    let flag = |number| integer_field(request, number) != 0;
    let given = |number| fields(request).any(|(found, _)| found == number).then(|| flag(number));
    let bytes = |number| Bytes::copy_from_slice(bytes_field(request, number).unwrap_or_default());
    let (method, path) = (bytes(2), Bytes::from(path::clean(&bytes(3))));
    let (dir, recursive, prev_value) = (flag(5), flag(12), bytes(6));
    let prev_index = integer_field(request, 7).cast_unsigned();
    let expires = integer_field(request, 9);
    let content = Content { value: bytes(4), expires, refresh: flag(17) };
    let compares = prev_index > 0 || !prev_value.is_empty();
    let change = match (&method[..], given(8)) {
        (b"QGET", _) => return Ok(None),
        (b"SYNC", _) => Change::Sync,
        (b"DELETE", _) if compares => Change::CompareAndDelete { path, prev_value, prev_index },
        (b"DELETE", _) => Change::Delete { path, dir, recursive },
        (b"POST", _) => Change::Create { path, dir, in_order: true, content },
        (b"PUT", Some(false)) => Change::Create { path, dir, in_order: false, content },
        (b"PUT", _) if compares => Change::CompareAndSwap { path, prev_value, prev_index, content },
        (b"PUT", Some(true)) => Change::Update { path, content },
        (b"PUT", None) => Change::Set { path, dir, content },
        _ => {
            let method = String::from_utf8_lossy(&method);
            return Err(format!("a request of the v2 API of an unknown kind ({method})"));
        }
    };
    // Deadlines are as etcd has written them.
    let at = if change == Change::Sync { integer_field(request, 15) } else { expires };
    Ok(Some(V2Command { at, shown_at: at, brief: true, change }))
}

/// Whether a path is etcd's own: what members and the cluster say of themselves, by releases up to 3.4.
pub fn is_own(request: &[u8]) -> bool {
    let path = bytes_field(request, 3).unwrap_or_default();
    path.starts_with(b"/0/")
}
