//! `user`: users, their passwords and their roles.

use crate::command::role::Role;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::done::Done;
use crate::output::json::Json;
use crate::output::print::print;
use crate::output::{Report, Text};
use crate::prompt;
use clap::{ArgAction, Subcommand};
use plinth_api::methods::{
    ROLE_GET, USER_ADD, USER_CHANGE_PASSWORD, USER_DELETE, USER_GET, USER_GRANT_ROLE, USER_LIST, USER_REVOKE_ROLE,
};
use plinth_api::proto::authpb::UserAddOptions;
use plinth_api::proto::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest,
};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    Add {
        /// Ask for the password on the terminal, not on standard input
        #[arg(
            long, action = ArgAction::Set, value_parser = crate::quote::parse_bool, num_args = 0..=1,
            require_equals = true, default_missing_value = "true", default_value = "true"
        )]
        interactive: bool,
        /// Its password
        #[arg(long, default_value = "")]
        new_user_password: String,
        /// It has none, and proves itself by a certificate
        #[arg(long)]
        no_password: bool,
        /// Its name, and its password
        #[arg(value_name = "NAME[:PASSWORD]")]
        args: Vec<String>,
    },
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        args: Vec<String>,
    },
    Get {
        /// Show what the roles permit
        #[arg(long)]
        detail: bool,
        /// Its name
        #[arg(value_name = "NAME")]
        args: Vec<String>,
    },
    List {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Changes a user's password
    Passwd {
        /// Ask for the password on the terminal, not on standard input
        #[arg(
            long, action = ArgAction::Set, value_parser = crate::quote::parse_bool, num_args = 0..=1,
            require_equals = true, default_missing_value = "true", default_value = "true"
        )]
        interactive: bool,
        /// Its name
        #[arg(value_name = "NAME")]
        args: Vec<String>,
    },
    /// Grants a role to a user
    GrantRole {
        /// User and role
        #[arg(value_name = "NAME ROLE")]
        args: Vec<String>,
    },
    /// Revokes a role from a user
    RevokeRole {
        /// User and role
        #[arg(value_name = "NAME ROLE")]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let cluster = context.cluster();
    match command {
        Command::Add { interactive, new_user_password, no_password, args } => {
            let word = name(args, "user add command requires user name as its argument")?;
            let (name, password) = credentials(word, new_user_password, no_password, interactive)?;
            let text = format!("User {name} created");
            let options = Some(UserAddOptions { no_password });
            let request = AuthUserAddRequest { name, password, options, ..AuthUserAddRequest::default() };
            context.print(&Done::new(text, cluster.call(&USER_ADD, request).await?.header))
        }
        Command::Delete { args } => {
            let name = name(args, "user delete command requires user name as its argument")?;
            let text = format!("User {name} deleted");
            context.print(&Done::new(text, cluster.call(&USER_DELETE, AuthUserDeleteRequest { name }).await?.header))
        }
        Command::Get { detail, args } => {
            let name = name(args, "user get command requires user name as its argument")?;
            let answer = cluster.call(&USER_GET, AuthUserGetRequest { name: name.clone() }).await?;
            if !detail {
                return context.print(&User { name, answer });
            }
            print(format!("User: {name}\n").as_bytes())?;
            for role in answer.roles {
                print(b"\n")?;
                let answer = cluster.call(&ROLE_GET, AuthRoleGetRequest { role: role.clone() }).await?;
                context.print(&Role { name: role, answer })?;
            }
            Ok(())
        }
        Command::List { args } if !args.is_empty() => {
            Err(Failure::arguments("user list command requires no arguments"))
        }
        Command::List { .. } => context.print(&cluster.call(&USER_LIST, AuthUserListRequest {}).await?),
        Command::Passwd { interactive, args } => {
            let name = name(args, "user passwd command requires user name as its argument")?;
            let password = if interactive { prompt::new_password(&name)? } else { prompt::word()? };
            let request = AuthUserChangePasswordRequest { name, password, ..AuthUserChangePasswordRequest::default() };
            let answer = cluster.call(&USER_CHANGE_PASSWORD, request).await?;
            context.print(&Done::new("Password updated".to_owned(), answer.header))
        }
        Command::GrantRole { args } => {
            let [user, role] = two(args, "user grant command requires user name and role name as its argument")?;
            let text = format!("Role {role} is granted to user {user}");
            let answer = cluster.call(&USER_GRANT_ROLE, AuthUserGrantRoleRequest { user, role }).await?;
            context.print(&Done::new(text, answer.header))
        }
        Command::RevokeRole { args } => {
            let [name, role] = two(args, "user revoke-role requires user name and role name as its argument")?;
            let text = format!("Role {role} is revoked from user {name}");
            let answer = cluster.call(&USER_REVOKE_ROLE, AuthUserRevokeRoleRequest { name, role }).await?;
            context.print(&Done::new(text, answer.header))
        }
    }
}

fn name(args: Vec<String>, text: &str) -> Result<String, Failure> {
    match <[String; 1]>::try_from(args) {
        Ok([name]) => Ok(name),
        Err(_) => Err(Failure::arguments(text)),
    }
}

fn two(args: Vec<String>, text: &str) -> Result<[String; 2], Failure> {
    args.try_into().map_err(|_| Failure::arguments(text))
}

/// Name and password of a new user; what is not said is asked for.
fn credentials(
    word: String,
    password: String,
    no_password: bool,
    interactive: bool,
) -> Result<(String, String), Failure> {
    if no_password || !password.is_empty() {
        return Ok((word, if no_password { String::new() } else { password }));
    }
    match word.split_once(':') {
        Some(("", _)) => Err(Failure::arguments("empty user name is not allowed")),
        Some((name, password)) => Ok((name.to_owned(), password.to_owned())),
        None => {
            let password = if interactive { prompt::new_password(&word)? } else { prompt::word()? };
            Ok((word, password))
        }
    }
}

struct User {
    name: String,
    answer: AuthUserGetResponse,
}

impl Report for User {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("User: {}", self.name));
        let roles = self.answer.roles.iter().map(|role| format!(" {role}"));
        out.line(format_args!("Roles:{}", roles.collect::<String>()));
    }

    fn json(&self, _hex: bool) -> Json {
        let roles = Json::list(&self.answer.roles, |role| role.as_str().into());
        Json::object().nonzero("header", self.answer.header.as_ref()).nonzero("roles", roles)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.answer.encode_to_vec())
    }
}

impl Report for AuthUserListResponse {
    fn simple(&self, out: &mut Text) {
        self.users.iter().for_each(|user| out.line(user));
    }

    fn json(&self, _hex: bool) -> Json {
        let users = Json::list(&self.users, |user| user.as_str().into());
        Json::object().nonzero("header", self.header.as_ref()).nonzero("users", users)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords() {
        let words = |word: &str, password: &str, none| credentials(word.to_owned(), password.to_owned(), none, true);
        let pair = |name: &str, password: &str| Ok((name.to_owned(), password.to_owned()));
        assert_eq!(words("me:se:cret", "", false), pair("me", "se:cret"));
        assert_eq!(words("me:x", "given", false), pair("me:x", "given"));
        assert_eq!(words("me", "", true), pair("me", ""));
        assert!(words(":x", "", false).is_err());
    }
}
