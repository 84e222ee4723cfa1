//! `watch -i`: each line is a watch (`watch [flags] key [range_end] [-- command]`), or asks how far they are
//! (`progress`).

use super::arguments::{self, Environment};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::watching::Watcher;
use crate::words;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What came before the end of the input is printed: answers to watches that were asked for may still be on their way.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Runs until the input ends, or a command fails.
pub async fn run(context: &Context, environment: &Environment) -> Result<(), Failure> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut watches = JoinSet::new();
    let mut wishes: Vec<mpsc::UnboundedSender<()>> = Vec::new();
    let mut bytes = Vec::new();
    loop {
        tokio::select! {
            // What was read of a line stays in `bytes` if the other side is first.
            read = input.read_until(b'\n', &mut bytes) => {
                read?;
                let Some(line) = bytes.strip_suffix(b"\n") else {
                    let _ = timeout(LAST_ANSWERS, async { while watches.join_next().await.is_some() {} }).await;
                    return Err(Failure::new(Exit::InvalidInput, "error reading watch request line: EOF"));
                };
                let line = String::from_utf8_lossy(line).into_owned();
                bytes.clear();
                match words::split(&line)?.as_slice() {
                    [] => eprintln!("Invalid command: {line} (watch and progress supported)"),
                    [word] if word == "watch" && !environment.has_key() => {
                        eprintln!("Invalid command {line} (command type or key is not provided)");
                    }
                    [word, rest @ ..] if word == "watch" => {
                        let plan = arguments::from_line(rest, environment)?;
                        match super::request(&plan) {
                            Ok(request) => {
                                let (wish, wished) = mpsc::unbounded_channel();
                                wishes.push(wish);
                                let mut watcher = Watcher::new(context.cluster(), request).with_wishes(wished);
                                let context = context.clone();
                                watches.spawn(async move {
                                    super::follow(&context, &mut watcher, &plan.command).await
                                });
                            }
                            Err(text) => eprintln!("Invalid command {line} ({text})"),
                        }
                    }
                    [word, ..] if word == "progress" => wishes.retain(|wish| wish.send(()).is_ok()),
                    _ => eprintln!("Invalid command {line} (only support watch)"),
                }
            }
            Some(ended) = watches.join_next() => {
                // One watch that was canceled leaves the others.
                if let Ok(Err(failure)) = ended {
                    return Err(failure);
                }
            }
        }
    }
}
