//! `member`: shows and changes who belongs to the cluster. Ids are hexadecimal.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::flags::{member_id, serializable};
use crate::output::json::{Json, hex_header};
use crate::output::print::print;
use crate::output::table::Table;
use crate::output::{Format, Report, Text};
use crate::quote;
use crate::urls;
use clap::Subcommand;
use plinth_api::methods::{MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE};
use plinth_api::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Adds a member, and prints how it is to be started
    Add {
        /// Where its peers will reach it, comma-separated
        #[arg(long, default_value = "")]
        peer_urls: String,
        /// It learns, without a vote
        #[arg(long)]
        learner: bool,
        /// Its name
        #[arg(value_name = "NAME")]
        args: Vec<String>,
    },
    Remove {
        /// Id of the member
        #[arg(value_name = "MEMBER")]
        args: Vec<String>,
    },
    /// Changes where a member is reached by its peers
    Update {
        /// Where its peers will reach it, comma-separated
        #[arg(long, default_value = "")]
        peer_urls: String,
        /// Id of the member
        #[arg(value_name = "MEMBER")]
        args: Vec<String>,
    },
    List {
        /// Linearizable (l) or serializable (s)
        #[arg(long, default_value = "l")]
        consistency: String,
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Gives a learner its vote
    Promote {
        /// Id of the member
        #[arg(value_name = "MEMBER")]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add { peer_urls, learner, args } => add(context, &peer_urls, learner, &args).await,
        Command::Remove { args } => {
            let id = only(&args)?;
            let answer = context.call(&MEMBER_REMOVE, MemberRemoveRequest { id }).await?;
            context.print(&Changed { id, what: "removed from", header: answer.header, members: answer.members })
        }
        Command::Update { peer_urls, args } => {
            let id = only(&args)?;
            if peer_urls.is_empty() {
                return Err(Failure::arguments("member peer urls not provided"));
            }
            let answer =
                context.call(&MEMBER_UPDATE, MemberUpdateRequest { id, peer_ur_ls: split(&peer_urls)? }).await?;
            context.print(&Changed { id, what: "updated in", header: answer.header, members: answer.members })
        }
        Command::List { consistency, .. } => {
            let linearizable = !serializable(&consistency)?;
            context.print(&context.call(&MEMBER_LIST, MemberListRequest { linearizable }).await?)
        }
        Command::Promote { args } => {
            let id = only(&args)?;
            let answer = context.call(&MEMBER_PROMOTE, MemberPromoteRequest { id }).await?;
            context.print(&Changed { id, what: "promoted in", header: answer.header, members: answer.members })
        }
    }
}

fn only(args: &[String]) -> Result<u64, Failure> {
    match args {
        [id] => member_id(id),
        _ => Err(Failure::arguments("member ID is not provided")),
    }
}

fn split(urls: &str) -> Result<Vec<String>, Failure> {
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    urls::check(&urls).map_err(|text| Failure::new(Exit::Error, text))?;
    Ok(urls)
}

async fn add(context: &Context, urls: &str, is_learner: bool, args: &[String]) -> Result<(), Failure> {
    let name = match args {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => name,
        _ => {
            let is_url = |word: &&String| word.to_lowercase().starts_with("http");
            let hints = args.iter().filter(is_url).map(|url| format!(", did you mean --peer-urls={url}"));
            return Err(Failure::arguments(format!("too many arguments{}", hints.collect::<String>())));
        }
    };
    if urls.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    let answer = context.call(&MEMBER_ADD, MemberAddRequest { peer_ur_ls: split(urls)?, is_learner }).await?;
    context.print(&answer)?;
    match context.format {
        Format::Simple => print(start_settings(&answer, name, urls).as_bytes()),
        _ => Ok(()),
    }
}

/// With which settings the new member is to be started.
fn start_settings(answer: &MemberAddResponse, name: &str, urls: &str) -> String {
    let new = answer.member.as_ref().map_or(0, |member| member.id);
    let name_of = |member: &Member| if member.id == new { name.to_owned() } else { member.name.clone() };
    let members: Vec<String> = answer
        .members
        .iter()
        .flat_map(|member| member.peer_ur_ls.iter().map(move |url| format!("{}={url}", name_of(member))))
        .collect();
    let quoted = |text: &str| quote::quoted(text.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quoted(name),
        quoted(&members.join(",")),
        quoted(urls)
    )
}

/// A header and members; ids as hexadecimal text if `hex`.
fn with_members(header: Option<&ResponseHeader>, member: Option<&Member>, members: &[Member], hex: bool) -> Json {
    let one = |member: &Member| {
        let object = match hex {
            true => Json::object().with("ID", format!("{:x}", member.id)),
            false => Json::object().nonzero("ID", member.id),
        };
        object
            .nonzero("name", member.name.as_str())
            .nonzero("peerURLs", Json::list(&member.peer_ur_ls, |url| url.as_str().into()))
            .nonzero("clientURLs", Json::list(&member.client_ur_ls, |url| url.as_str().into()))
            .nonzero("isLearner", member.is_learner)
    };
    let object = match hex {
        true => Json::object().with("header", hex_header(header)),
        false => Json::object().nonzero("header", header),
    };
    let object = object.nonzero("member", member.map(one));
    match hex {
        true => object.with("members", Json::list(members, one)),
        false => object.nonzero("members", Json::list(members, one)),
    }
}

impl Report for MemberAddResponse {
    fn simple(&self, out: &mut Text) {
        let (id, learner) = self.member.as_ref().map_or((0, false), |member| (member.id, member.is_learner));
        let role = if learner { " as learner " } else { " " };
        let cluster = self.header.as_ref().map_or(0, |header| header.cluster_id);
        out.line(format_args!("Member {id:16x} added{role}to cluster {cluster:16x}"));
    }

    fn json(&self, hex: bool) -> Json {
        with_members(self.header.as_ref(), self.member.as_ref(), &self.members, hex)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

/// The answer to a change of one member.
struct Changed {
    id: u64,
    what: &'static str,
    header: Option<ResponseHeader>,
    members: Vec<Member>,
}

impl Report for Changed {
    fn simple(&self, out: &mut Text) {
        let cluster = self.header.as_ref().map_or(0, |header| header.cluster_id);
        out.line(format_args!("Member {:16x} {} cluster {cluster:16x}", self.id, self.what));
    }

    fn json(&self, hex: bool) -> Json {
        with_members(self.header.as_ref(), None, &self.members, hex)
    }

    fn message(&self) -> Option<Vec<u8>> {
        // The answers to all changes have the fields of a list.
        Some(MemberListResponse { header: self.header, members: self.members.clone() }.encode_to_vec())
    }
}

/// Id, whether it was ever started, name, URLs, whether it learns.
fn row(member: &Member) -> Vec<String> {
    vec![
        format!("{:x}", member.id),
        if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

impl Report for MemberListResponse {
    fn simple(&self, out: &mut Text) {
        self.members.iter().for_each(|member| out.line(row(member).join(", ")));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        for member in &self.members {
            out.id("ID", member.id);
            out.quoted("Name", member.name.as_bytes());
            member.peer_ur_ls.iter().for_each(|url| out.quoted("PeerURL", url.as_bytes()));
            member.client_ur_ls.iter().for_each(|url| out.quoted("ClientURL", url.as_bytes()));
            out.field("IsLearner", member.is_learner);
            out.line("");
        }
        true
    }

    fn json(&self, hex: bool) -> Json {
        with_members(self.header.as_ref(), None, &self.members, hex)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"]);
        self.members.iter().for_each(|member| table.row(row(member)));
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rendered;

    fn member(id: u64, name: &str) -> Member {
        let urls = |port: u64| vec![format!("http://h:{port}")];
        Member { id, name: name.to_owned(), peer_ur_ls: urls(id), client_ur_ls: Vec::new(), is_learner: false }
    }

    #[test]
    fn a_new_member_and_how_to_start_it() {
        let header = Some(ResponseHeader { cluster_id: 0xcdf8, member_id: 1, revision: 0, raft_term: 2 });
        let answer = MemberAddResponse {
            header,
            member: Some(member(0xab, "")),
            members: vec![member(1, "one"), member(0xab, "")],
        };
        let line = "Member               ab added to cluster             cdf8\n";
        assert_eq!(rendered(&answer, Format::Simple), line);
        let settings = "\nETCD_NAME=\"new\"\nETCD_INITIAL_CLUSTER=\"one=http://h:1,new=http://h:171\"\n\
                        ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://h:171\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
        assert_eq!(start_settings(&answer, "new", "http://h:171"), settings);
        let json = "{\"header\":{\"cluster_id\":\"cdf8\",\"member_id\":\"1\",\"raft_term\":2},\"member\":{\"ID\":\"ab\",\
                    \"peerURLs\":[\"http://h:171\"]},\"members\":[{\"ID\":\"1\",\"name\":\"one\",\"peerURLs\":\
                    [\"http://h:1\"]},{\"ID\":\"ab\",\"peerURLs\":[\"http://h:171\"]}]}";
        assert_eq!(answer.json(true).render(), json);
        assert!(crate::output::render(&answer, Format::Fields, false).is_err(), "there is no such form");
    }

    #[test]
    fn changes_and_lists() {
        let header = Some(ResponseHeader { cluster_id: 0xcdf8, member_id: 1, revision: 0, raft_term: 2 });
        let changed = Changed { id: 0xab, what: "removed from", header, members: vec![member(1, "one")] };
        let line = "Member               ab removed from cluster             cdf8\n";
        assert_eq!(rendered(&changed, Format::Simple), line);
        let list = MemberListResponse { header, members: vec![member(1, "one"), member(2, "")] };
        let lines = "1, started, one, http://h:1, , false\n2, unstarted, , http://h:2, , false\n";
        assert_eq!(rendered(&list, Format::Simple), lines);
    }
}
