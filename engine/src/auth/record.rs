//! Stored users and roles: `authpb.User` and `authpb.Role`, as etcd writes them.

use super::{Permission, PermissionKind, Role, User};
use crate::kv_codec::{put_bytes_field, put_int_field, put_message_field};
use plinth_api::wire::take_varint;

/// One field of a message.
enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

/// Splits a field off the front of a message: number, value, rest. `None` if there is none.
fn take_field(message: &[u8]) -> Option<(u64, Value<'_>, &[u8])> {
    let (tag, rest) = take_varint(message)?;
    match tag & 7 {
        0 => take_varint(rest).map(|(value, rest)| (tag >> 3, Value::Int(value), rest)),
        2 => {
            let (len, rest) = take_varint(rest)?;
            let len = usize::try_from(len).ok().filter(|&len| len <= rest.len())?;
            Some((tag >> 3, Value::Bytes(&rest[..len]), &rest[len..]))
        }
        _ => None,
    }
}

/// Tells every field of a message; `None` if it is damaged, or `each` says so.
fn each_field<'a>(mut message: &'a [u8], mut each: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let (number, value, rest) = take_field(message)?;
        each(number, value)?;
        message = rest;
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

impl User {
    pub(super) fn encode(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 0x0a, name.as_bytes());
        put_bytes_field(&mut out, 0x12, &self.password_hash);
        for role in &self.roles {
            put_message_field(&mut out, 0x1a, role.as_bytes());
        }
        if let Some(no_password) = self.no_password {
            let mut options = Vec::new();
            put_int_field(&mut options, 0x08, i64::from(no_password));
            put_message_field(&mut out, 0x22, &options);
        }
        out
    }

    /// Reads name and user; `None` if that is not what was stored.
    pub(super) fn decode(message: &[u8]) -> Option<(String, User)> {
        let (mut name, mut user) = (String::new(), User::default());
        each_field(message, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => user.password_hash = bytes.to_vec(),
                (3, Value::Bytes(bytes)) => _ = user.roles.insert(text(bytes)?),
                (4, Value::Bytes(options)) => {
                    let mut no_password = false;
                    each_field(options, |number, value| {
                        no_password |= matches!((number, value), (1, Value::Int(1)));
                        Some(())
                    })?;
                    user.no_password = Some(no_password);
                }
                _ => return None,
            }
            Some(())
        })?;
        Some((name, user))
    }
}

impl Role {
    pub(super) fn encode(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 0x0a, name.as_bytes());
        for permission in &self.permissions {
            let mut fields = Vec::new();
            put_int_field(&mut fields, 0x08, permission.kind as i64);
            put_bytes_field(&mut fields, 0x12, &permission.key);
            put_bytes_field(&mut fields, 0x1a, &permission.range_end);
            put_message_field(&mut out, 0x12, &fields);
        }
        out
    }

    /// Reads name and role; `None` if that is not what was stored.
    pub(super) fn decode(message: &[u8]) -> Option<(String, Role)> {
        let (mut name, mut role) = (String::new(), Role::default());
        each_field(message, |number, value| {
            match (number, value) {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => role.permissions.push(decode_permission(bytes)?),
                _ => return None,
            }
            Some(())
        })?;
        Some((name, role))
    }
}

fn decode_permission(message: &[u8]) -> Option<Permission> {
    let (mut kind, mut key, mut range_end) = (0, Vec::new(), Vec::new());
    each_field(message, |number, value| {
        match (number, value) {
            (1, Value::Int(value)) => kind = value,
            (2, Value::Bytes(bytes)) => key = bytes.to_vec(),
            (3, Value::Bytes(bytes)) => range_end = bytes.to_vec(),
            _ => return None,
        }
        Some(())
    })?;
    Some(Permission { kind: PermissionKind::from_wire(kind)?, key, range_end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_etcds_bytes() {
        let roles = ["r".to_owned()].into();
        let user = User { password_hash: b"$2a$".to_vec(), roles, no_password: Some(false) };
        let bytes = user.encode("u");
        assert_eq!(bytes, b"\x0a\x01u\x12\x04$2a$\x1a\x01r\x22\x00", "options are written though they are empty");
        assert_eq!(User::decode(&bytes), Some(("u".to_owned(), user)));
        let bare = User { no_password: Some(true), ..User::default() };
        assert_eq!(bare.encode("u"), b"\x0a\x01u\x22\x02\x08\x01");
        let read = Permission { kind: PermissionKind::Read, key: b"a".to_vec(), range_end: vec![0] };
        let role = Role { permissions: vec![Permission { kind: PermissionKind::ReadWrite, ..read.clone() }, read] };
        let bytes = role.encode("r");
        assert_eq!(bytes, b"\x0a\x01r\x12\x08\x08\x02\x12\x01a\x1a\x01\x00\x12\x06\x12\x01a\x1a\x01\x00");
        assert_eq!(Role::decode(&bytes), Some(("r".to_owned(), role)));
        for len in 0..bytes.len() {
            let _ = (Role::decode(&bytes[..len]), User::decode(&bytes[..len]));
        }
    }
}
