//! `role`: roles, and which keys they permit to read and write.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::done::Done;
use crate::output::json::Json;
use crate::output::{Report, Text};
use crate::quote;
use clap::Subcommand;
use plinth_api::methods::{ROLE_ADD, ROLE_DELETE, ROLE_GET, ROLE_GRANT_PERMISSION, ROLE_LIST, ROLE_REVOKE_PERMISSION};
use plinth_api::proto::authpb::Permission;
use plinth_api::proto::authpb::permission::Type;
use plinth_api::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
};
use plinth_api::range::prefix_end;
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    Add {
        /// Its name
        #[arg(value_name = "ROLE")]
        args: Vec<String>,
    },
    Delete {
        /// Its name
        #[arg(value_name = "ROLE")]
        args: Vec<String>,
    },
    /// Shows what a role permits
    Get {
        /// Its name
        #[arg(value_name = "ROLE")]
        args: Vec<String>,
    },
    List {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Lets a role read, write, or both
    GrantPermission {
        /// All keys that start with the key
        #[arg(long)]
        prefix: bool,
        /// All keys from the key on
        #[arg(long)]
        from_key: bool,
        /// ROLE read|write|readwrite KEY [END]
        #[arg(value_name = "ROLE read|write|readwrite KEY [END]")]
        args: Vec<String>,
    },
    /// Takes a permission from a role
    RevokePermission {
        /// All keys that start with the key
        #[arg(long)]
        prefix: bool,
        /// All keys from the key on
        #[arg(long)]
        from_key: bool,
        /// ROLE KEY [END]
        #[arg(value_name = "ROLE KEY [END]")]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let cluster = context.cluster();
    match command {
        Command::Add { args } => {
            let name = only(args, "role add command requires role name as its argument")?;
            let text = format!("Role {name} created");
            context.print(&Done::new(text, cluster.call(&ROLE_ADD, AuthRoleAddRequest { name }).await?.header))
        }
        Command::Delete { args } => {
            let role = only(args, "role delete command requires role name as its argument")?;
            let text = format!("Role {role} deleted");
            context.print(&Done::new(text, cluster.call(&ROLE_DELETE, AuthRoleDeleteRequest { role }).await?.header))
        }
        Command::Get { args } => {
            let name = only(args, "role get command requires role name as its argument")?;
            let answer = cluster.call(&ROLE_GET, AuthRoleGetRequest { role: name.clone() }).await?;
            context.print(&Role { name, answer })
        }
        Command::List { args } if !args.is_empty() => {
            Err(Failure::arguments("role list command requires no arguments"))
        }
        Command::List { .. } => context.print(&cluster.call(&ROLE_LIST, AuthRoleListRequest {}).await?),
        Command::GrantPermission { prefix, from_key, args } => {
            let [role, kind, keys @ ..] = args.as_slice() else { return Err(grant_arguments()) };
            let perm_type = permission(kind)?.into();
            let (key, range_end) = range(keys, prefix, from_key, grant_arguments)?;
            let perm = Some(Permission { perm_type, key: key.into(), range_end: range_end.into() });
            let request = AuthRoleGrantPermissionRequest { name: role.clone(), perm };
            let answer = cluster.call(&ROLE_GRANT_PERMISSION, request).await?;
            context.print(&Done::new(format!("Role {role} updated"), answer.header))
        }
        Command::RevokePermission { prefix, from_key, args } => {
            let text = "role revoke-permission command requires role name and key [endkey] as its argument";
            let missing = || Failure::arguments(text);
            let [role, keys @ ..] = args.as_slice() else { return Err(missing()) };
            let (key, range_end) = range(keys, prefix, from_key, missing)?;
            let text = revoked(role, &keys[0], &range_end);
            let (role, key, range_end) = (role.clone(), key.into(), range_end.into());
            let request = AuthRoleRevokePermissionRequest { role, key, range_end };
            context.print(&Done::new(text, cluster.call(&ROLE_REVOKE_PERMISSION, request).await?.header))
        }
    }
}

fn only(args: Vec<String>, text: &str) -> Result<String, Failure> {
    match <[String; 1]>::try_from(args) {
        Ok([name]) => Ok(name),
        Err(_) => Err(Failure::arguments(text)),
    }
}

fn grant_arguments() -> Failure {
    Failure::arguments("role grant command requires role name, permission type, and key [endkey] as its argument")
}

fn permission(kind: &str) -> Result<Type, Failure> {
    Type::from_str_name(&kind.to_uppercase())
        .ok_or_else(|| Failure::arguments(format!("invalid permission type: {kind}")))
}

/// Key and range end; an empty key with a flag is everything.
fn range(
    keys: &[String],
    prefix: bool,
    from_key: bool,
    missing: impl Fn() -> Failure,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let refuse = |text: &str| Err(Failure::arguments(text));
    match (keys, prefix, from_key) {
        ([], _, _) => Err(missing()),
        ([_], true, true) => refuse("--from-key and --prefix flags are mutually exclusive"),
        ([key, ..], true, true) if key.is_empty() => refuse("--from-key and --prefix flags are mutually exclusive"),
        ([key, ..], prefix, from_key) if key.is_empty() => {
            Ok((vec![0], if prefix || from_key { vec![0] } else { Vec::new() }))
        }
        ([_, _, ..], true, _) => refuse("unexpected endkey argument with --prefix flag"),
        ([_, _, ..], _, true) => refuse("unexpected endkey argument with --from-key flag"),
        ([key], true, false) => Ok((key.clone().into_bytes(), prefix_end(key.as_bytes()))),
        ([key], false, true) => Ok((key.clone().into_bytes(), vec![0])),
        ([key], false, false) => Ok((key.clone().into_bytes(), Vec::new())),
        ([key, end, ..], false, false) => Ok((key.clone().into_bytes(), end.clone().into_bytes())),
    }
}

fn revoked(role: &str, key: &str, range_end: &[u8]) -> String {
    match range_end {
        b"" => format!("Permission of key {key} is revoked from role {role}"),
        b"\0" => format!("Permission of range [{key}, <open ended> is revoked from role {role}"),
        end => {
            let end = String::from_utf8_lossy(end);
            format!("Permission of range [{key}, {end}) is revoked from role {role}")
        }
    }
}

/// What a role permits.
pub struct Role {
    pub name: String,
    /// What the server says.
    pub answer: AuthRoleGetResponse,
}

impl Role {
    fn permitted(&self, out: &mut Text, kind: Type) {
        let fits = |permission: &&Permission| [kind, Type::Readwrite].contains(&permission.perm_type());
        for Permission { key, range_end, .. } in self.answer.perm.iter().filter(fits) {
            let (key_text, end) = (String::from_utf8_lossy(key), String::from_utf8_lossy(range_end));
            let by_prefix = !key.is_empty() && range_end[..] == prefix_end(key)[..];
            let prefix = if by_prefix { format!(" (prefix {key_text})") } else { String::new() };
            match &range_end[..] {
                b"" => out.line(format_args!("\t{key_text}")),
                b"\0" => out.line(format_args!("\t[{key_text}, <open ended>{prefix}")),
                _ => out.line(format_args!("\t[{key_text}, {end}){prefix}")),
            }
        }
    }
}

impl Report for Role {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("Role {}", self.name));
        let everything = self.name == "root" && self.answer.perm.is_empty();
        for (title, kind) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
            out.line(title);
            if everything { out.line("\t[, <open ended>") } else { self.permitted(out, kind) }
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.answer.header.as_ref());
        for permission in &self.answer.perm {
            out.line(format_args!("\"PermType\" :  {}", permission.perm_type().as_str_name()));
            out.quoted("Key", &permission.key);
            out.quoted("RangeEnd", &permission.range_end);
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let permission = |permission: &Permission| {
            Json::object()
                .nonzero("permType", permission.perm_type)
                .nonzero("key", &permission.key)
                .nonzero("range_end", &permission.range_end)
        };
        Json::object()
            .nonzero("header", self.answer.header.as_ref())
            .nonzero("perm", Json::list(&self.answer.perm, permission))
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.answer.encode_to_vec())
    }
}

impl Report for AuthRoleListResponse {
    fn simple(&self, out: &mut Text) {
        self.roles.iter().for_each(|role| out.line(role));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        let roles = self.roles.iter().map(|role| format!(" {}", quote::quoted(role.as_bytes())));
        out.line(format_args!("\"Roles\" :{}", roles.collect::<String>()));
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let roles = Json::list(&self.roles, |role| role.as_str().into());
        Json::object().nonzero("header", self.header.as_ref()).nonzero("roles", roles)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, rendered};

    #[test]
    fn what_a_role_permits() {
        let permission = |kind: Type, key: &'static str, end: &'static str| Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: end.into(),
        };
        let perm = vec![
            permission(Type::Read, "a", ""),
            permission(Type::Readwrite, "b", "c"),
            permission(Type::Write, "x", "\0"),
        ];
        let role = Role { name: "r".to_owned(), answer: AuthRoleGetResponse { header: None, perm } };
        let text = "Role r\nKV Read:\n\ta\n\t[b, c) (prefix b)\nKV Write:\n\t[b, c) (prefix b)\n\t[x, <open ended>\n";
        assert_eq!(rendered(&role, Format::Simple), text);
    }

    #[test]
    fn ranges() {
        let range = |keys: &[&str], prefix, from_key| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            range(&keys, prefix, from_key, grant_arguments)
        };
        assert_eq!(range(&["a"], true, false), Ok((b"a".to_vec(), b"b".to_vec())));
        assert_eq!(range(&[""], true, false), Ok((vec![0], vec![0])));
        assert_eq!(range(&["a", "c"], false, false), Ok((b"a".to_vec(), b"c".to_vec())));
        assert!(range(&["a", "c"], true, false).is_err() && range(&["a"], true, true).is_err());
        assert!(range(&[], false, false).is_err());
    }
}
