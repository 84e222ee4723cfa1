//! Users, roles, and whether they matter.

use super::client::Content;
use super::{Context, Ended, line, text, texts};
use crate::prompt;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

#[derive(Subcommand, Debug)]
pub(super) enum UserCommand {
    /// Adds one: name[:password]
    Add {
        /// name[:password]
        user: String,
    },
    /// Tells about one
    Get {
        /// Its name
        user: String,
    },
    /// Lists them
    List,
    /// Removes one
    Remove {
        /// Its name
        user: String,
    },
    /// Gives one roles
    Grant(UserRoles),
    /// Takes roles from one
    Revoke(UserRoles),
    /// Changes the password of one
    Passwd {
        /// Its name
        user: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct UserRoles {
    /// The user
    user: String,
    /// The roles
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(super) enum RoleCommand {
    /// Adds one
    Add {
        /// Its name
        role: String,
    },
    /// Tells about one
    Get {
        /// Its name
        role: String,
    },
    /// Lists them
    List,
    /// Removes one
    Remove {
        /// Its name
        role: String,
    },
    /// Lets it do something
    Grant(RolePath),
    /// Takes that back
    Revoke(RolePath),
}

#[derive(Args, Debug)]
pub(super) struct RolePath {
    /// The role
    role: String,
    /// A key, or the beginning of keys and a star
    #[arg(long, default_value = "")]
    path: String,
    /// Reading
    #[arg(long)]
    read: bool,
    /// Writing
    #[arg(long)]
    write: bool,
    /// Both
    #[arg(long, alias = "rw")]
    readwrite: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum AuthCommand {
    /// They do
    Enable,
    /// They do not
    Disable,
}

/// Asks; what is refused is said as it is.
async fn ask(context: &Context, method: Method, target: &str, body: Content) -> Result<Value, Ended> {
    match context.ask(method, target, body).await {
        Ok(answer) => Ok(answer.json()),
        Err(Ended::Refused(refused)) => Err(Ended::Plain(refused.text())),
        Err(other) => Err(other),
    }
}

async fn put(context: &Context, target: &str, body: Value) -> Result<Value, Ended> {
    ask(context, Method::PUT, target, Content::Json(body)).await
}

async fn read(context: &Context, target: &str) -> Result<Value, Ended> {
    ask(context, Method::GET, target, Content::Nothing).await
}

fn names(list: &Value, name: &str) -> Vec<String> {
    let all = list.as_array().cloned().unwrap_or_default();
    all.iter().map(|one| text(&one[name]).to_owned()).collect()
}

/// `user ...`.
pub(super) async fn user(context: &Context, command: UserCommand) -> Result<(), Ended> {
    let target = |user: &str| format!("/v2/auth/users/{user}");
    match command {
        UserCommand::List => {
            let list = read(context, "/v2/auth/users").await?;
            names(&list["users"], "user").into_iter().try_for_each(line)
        }
        UserCommand::Get { user } => {
            let found = read(context, &target(&user)).await?;
            let roles = names(&found["roles"], "role");
            // etcdctl prints a space for each of them before the first.
            line(format!("User: {}\nRoles: {}{}", text(&found["user"]), " ".repeat(roles.len()), roles.join(" ")))
        }
        UserCommand::Add { user } => {
            let (name, password) = match user.split_once(':') {
                Some((name, password)) => (name.to_owned(), password.to_owned()),
                None => (user.clone(), prompt::password("New password: ")?),
            };
            put(context, &target(&name), json!({ "user": name, "password": password })).await?;
            line(format!("User {name} created"))
        }
        UserCommand::Remove { user } => {
            ask(context, Method::DELETE, &target(&user), Content::Nothing).await?;
            line(format!("User {user} removed"))
        }
        UserCommand::Passwd { user } => {
            let password = prompt::password("New password: ")?;
            put(context, &target(&user), json!({ "user": user, "password": password })).await?;
            line("Password updated")
        }
        UserCommand::Grant(args) => roles_of(context, &args, "grant").await,
        UserCommand::Revoke(args) => roles_of(context, &args, "revoke").await,
    }
}

async fn roles_of(context: &Context, args: &UserRoles, change: &str) -> Result<(), Ended> {
    let UserRoles { user, roles } = args;
    if roles.is_empty() {
        return Err(Ended::Plain("No roles specified; please use `--roles`".into()));
    }
    put(context, &format!("/v2/auth/users/{user}"), json!({ "user": user, change: roles })).await?;
    line(format!("User {user} updated"))
}

/// `role ...`.
pub(super) async fn role(context: &Context, command: RoleCommand) -> Result<(), Ended> {
    let target = |role: &str| format!("/v2/auth/roles/{role}");
    match command {
        RoleCommand::List => {
            let list = read(context, "/v2/auth/roles").await?;
            names(&list["roles"], "role").into_iter().try_for_each(line)
        }
        RoleCommand::Get { role } => {
            let found = read(context, &target(&role)).await?;
            line(format!("Role: {}", text(&found["role"])))?;
            for (title, kind) in [("KV Read:", "read"), ("KV Write:", "write")] {
                line(title)?;
                texts(&found["permissions"]["kv"][kind]).into_iter().try_for_each(|path| line(format!("\t{path}")))?;
            }
            Ok(())
        }
        RoleCommand::Add { role } => {
            if read(context, &target(&role)).await.is_ok() {
                return Err(Ended::Plain(format!("Role {role} already exists")));
            }
            put(context, &target(&role), json!({ "role": role })).await?;
            line(format!("Role {role} created"))
        }
        RoleCommand::Remove { role } => {
            ask(context, Method::DELETE, &target(&role), Content::Nothing).await?;
            line(format!("Role {role} removed"))
        }
        RoleCommand::Grant(args) => permission(context, &args, "grant").await,
        RoleCommand::Revoke(args) => permission(context, &args, "revoke").await,
    }
}

async fn permission(context: &Context, args: &RolePath, change: &str) -> Result<(), Ended> {
    let RolePath { role, path, read: reads, write: writes, readwrite } = args;
    if path.is_empty() {
        return Err(Ended::Plain("No path specified; please use `--path`".into()));
    }
    if [*reads, *writes, *readwrite].into_iter().filter(|given| *given).count() != 1 {
        return Err(Ended::Plain("Please specify exactly one of --read, --write or --readwrite".into()));
    }
    let target = format!("/v2/auth/roles/{role}");
    read(context, &target).await?;
    let list = |given: bool| if given { vec![path.clone()] } else { Vec::new() };
    let patterns = json!({ "kv": { "read": list(*reads || *readwrite), "write": list(*writes || *readwrite) } });
    put(context, &target, json!({ "role": role, change: patterns })).await?;
    line(format!("Role {role} updated"))
}

/// `auth ...`.
pub(super) async fn auth(context: &Context, command: AuthCommand) -> Result<(), Ended> {
    let (method, done) = match command {
        AuthCommand::Enable => (Method::PUT, "Authentication Enabled"),
        AuthCommand::Disable => (Method::DELETE, "Authentication Disabled"),
    };
    ask(context, method, "/v2/auth/enable", Content::Nothing).await?;
    line(done)
}
