//! Members, and whether they are well.

use super::client::Content;
use super::{Context, Ended, line, text, texts};
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// Again every 10 seconds
    #[arg(long, short)]
    forever: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Lists them
    List,
    /// Adds one
    Add {
        /// Its name
        name: String,
        /// Where it talks to the others
        url: String,
    },
    /// Removes one
    Remove {
        /// Its id
        id: String,
    },
    /// Changes where one talks to the others
    Update {
        /// Its id
        id: String,
        /// The addresses, by commas
        urls: String,
    },
}

/// What the cluster refuses is said as it is.
fn plain(ended: Ended) -> Ended {
    match ended {
        Ended::Refused(refused) => Ended::Plain(refused.text()),
        other => other,
    }
}

async fn members(context: &Context) -> Result<Vec<Value>, Ended> {
    let list = context.read("/v2/members").await.map_err(plain)?;
    Ok(list["members"].as_array().cloned().unwrap_or_default())
}

/// `member ...`.
pub(super) async fn run(context: &Context, command: Command) -> Result<(), Ended> {
    match command {
        Command::List => list(context).await,
        Command::Add { name, url } => add(context, &name, &url).await,
        Command::Remove { id } => remove(context, &id).await,
        Command::Update { id, urls } => {
            let urls: Vec<&str> = urls.split(',').collect();
            let body = Content::Json(json!({ "peerURLs": urls }));
            context.ask(Method::PUT, &format!("/v2/members/{id}"), body).await.map_err(plain)?;
            line(format!("Updated member with ID {id} in cluster"))
        }
    }
}

async fn list(context: &Context) -> Result<(), Ended> {
    let members = members(context).await?;
    let leader = match context.read("/v2/members/leader").await.map_err(plain) {
        Ok(leader) => leader,
        Err(Ended::Plain(text)) => return Err(Ended::Plain(format!("Failed to get leader:  {text}"))),
        Err(other) => return Err(other),
    };
    for member in members {
        let (id, name, peers) = (text(&member["id"]), text(&member["name"]), texts(&member["peerURLs"]).join(","));
        match name {
            "" => line(format!("{id}[unstarted]: peerURLs={peers}"))?,
            name => {
                let clients = texts(&member["clientURLs"]).join(",");
                let leads = member["id"] == leader["id"];
                line(format!("{id}: name={name} peerURLs={peers} clientURLs={clients} isLeader={leads}"))?;
            }
        }
    }
    Ok(())
}

async fn add(context: &Context, name: &str, url: &str) -> Result<(), Ended> {
    let body = Content::Json(json!({ "peerURLs": [url] }));
    let added = context.ask(Method::POST, "/v2/members", body).await.map_err(plain)?.json();
    line(format!("Added member named {name} with ID {} to cluster", text(&added["id"])))?;
    let mut all = Vec::new();
    for member in members(context).await? {
        let shown = if member["id"] == added["id"] { name } else { text(&member["name"]) };
        all.extend(texts(&member["peerURLs"]).into_iter().map(|url| format!("{shown}={url}")));
    }
    line(format!(
        "\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER={:?}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        all.join(",")
    ))
}

async fn remove(context: &Context, id: &str) -> Result<(), Ended> {
    let members = members(context).await.map_err(|ended| match ended {
        Ended::Plain(text) => Ended::Plain(format!("Error while verifying ID against known members: {text}")),
        other => other,
    })?;
    for member in members.iter().filter(|member| member["name"] == id) {
        eprintln!(
            "Found a member named {id}; if this is correct, please use its ID, eg:\n\tetcdctl member remove {}",
            text(&member["id"])
        );
    }
    if !members.iter().any(|member| member["id"] == id) {
        return Err(Ended::Plain(format!("Couldn't find a member in the cluster with an ID of {id}.")));
    }
    match context.ask(Method::DELETE, &format!("/v2/members/{id}"), Content::Nothing).await.map_err(plain) {
        Ok(_) => line(format!("Removed member {id} from cluster")),
        Err(Ended::Plain(text)) => Err(Ended::Plain(format!("Received an error trying to remove member {id}: {text}"))),
        Err(other) => Err(other),
    }
}

/// `cluster-health`.
pub(super) async fn health(context: &Context, args: &HealthArgs) -> Result<(), Ended> {
    let list = match context.read("/v2/members").await {
        Ok(list) => list,
        Err(ended) => {
            line("cluster may be unhealthy: failed to list members")?;
            return Err(ended);
        }
    };
    let members = list["members"].as_array().cloned().unwrap_or_default();
    loop {
        let mut healthy = 0;
        for member in &members {
            healthy += usize::from(is_healthy(context, member).await?);
        }
        line(match healthy {
            all if all == members.len() => "cluster is healthy",
            0 => "cluster is unavailable",
            _ => "cluster is degraded",
        })?;
        if !args.forever {
            let ill = Failure::new(Exit::Of(5), "");
            return if healthy == members.len() { Ok(()) } else { Err(ill.into()) };
        }
        line("\nnext check after 10 second...\n")?;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

async fn is_healthy(context: &Context, member: &Value) -> Result<bool, Ended> {
    let (id, urls) = (text(&member["id"]), texts(&member["clientURLs"]));
    if urls.is_empty() {
        line(format!("member {id} is unreachable: no available published client urls"))?;
        return Ok(false);
    }
    for url in &urls {
        match context.client.ask_one(url, Method::GET, "/health", Content::Nothing, false).await {
            Err(error) => line(format!("failed to check the health of member {id} on {url}: {error}"))?,
            Ok(answer) => {
                let health = &answer.json()["health"];
                let is_healthy = *health == "true" || *health == true;
                line(match is_healthy {
                    true => format!("member {id} is healthy: got healthy result from {url}"),
                    false => format!("member {id} is unhealthy: got unhealthy result from {url}"),
                })?;
                return Ok(is_healthy);
            }
        }
    }
    line(format!("member {id} is unreachable: [{}] are all unreachable", urls.join(" ")))?;
    Ok(false)
}
