//! `import`: the keys of a snapshot's file, set in a cluster. Read are what an etcd 0.4 has written, as etcd's own tool reads
//! it, and `.snap` files of 2.0 to 3.5.

use super::client::{Content, key_target};
use super::migrate::leaves;
use super::{Context, Ended, line, offline};
use clap::Args;
use http::Method;

/// Times to live shorter than this are made as long, so that they outlast the import.
const TTL_MIN: i64 = 300;

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// The file
    #[arg(long, default_value = "")]
    snap: String,
    /// Hidden keys and directories to import, too
    #[arg(long)]
    hidden: Vec<String>,
    /// Accepted for etcdctl's sake: keys are set one after the other
    #[arg(short, default_value = "10")]
    c: u32,
}

pub(super) async fn import(context: &Context, args: &ImportArgs) -> Result<(), Ended> {
    // As etcd's tool has it, on standard output.
    let refuse = |text: String| -> Result<(), Ended> {
        line(text)?;
        Err(Ended::Failure(crate::failure::Failure::new(crate::failure::Exit::Of(1), "")))
    };
    if args.snap.is_empty() {
        return refuse("no snapshot file provided (use --snap)".to_owned());
    }
    let Ok(bytes) = std::fs::read(&args.snap) else {
        return refuse(format!("cannot read snapshot file {}", args.snap));
    };
    let tree = match offline::snapshot(&bytes) {
        Ok(tree) => tree,
        Err(failure) => return refuse(format!("cannot recover the snapshot file: {}", failure.text)),
    };
    let (mut all, mut empty) = (Vec::new(), Vec::new());
    for key in std::iter::once("/").chain(args.hidden.iter().map(String::as_str)) {
        leaves(&offline::listed(&tree, key)?, &mut all, &mut empty);
    }
    for leaf in &all {
        eprintln!("copying key: {}", leaf.key);
        let mut form = vec![("value", leaf.value.clone())];
        if leaf.ttl != 0 && leaf.ttl < TTL_MIN {
            eprintln!("extending key {}'s ttl to {TTL_MIN} seconds", leaf.key);
        }
        if leaf.ttl != 0 {
            form.push(("ttl", leaf.ttl.max(TTL_MIN).to_string()));
        }
        context.ask(Method::PUT, &key_target(&leaf.key), Content::Form(form)).await?;
    }
    line(format!("finished importing {} keys", all.len()))
}
