//! Space on the disk: noticing that there is none, and that there is some again (what a member does then: see
//! `plinth_member::space`); giving back what compactions have freed.

use super::Home;
use plinth_engine::pagefile::ShrinkProgress;
use plinth_engine::trees::{TreeError, Trees};
use plinth_member::Fatal;
use plinth_member::space::Lookout;
use plinth_net::rt::sleep;
use plinth_net::turn;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked. The rest of a segment of the log, which has to last until somebody else leads, is written in no
/// less.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Free pages that the data file may hold after a compaction, unless they are less than a part of what is in use.
const FREE_BYTES_MAX: u64 = 1 << 20;
const FREE_PART_MAX: u64 = 10;

/// Pages moved in one step of a defragmentation.
const SHRINK_PAGES: usize = 4;

/// A defragmentation waits for a flush after so many steps, 24 MiB: it goes no faster than the disk takes it beside the log.
/// Its own steps count, not all that has changed: else it would stand still while others write much.
const SHRINK_STEPS: usize = 384;

/// Flushes after which a defragmentation is content with what it has: a busy file never comes to rest.
const SHRINK_FLUSHES: usize = 200;

/// Why a member that can grow neither log nor data file is not ready, if others serve meanwhile.
pub const NOT_READY: &str = "no room on the disk: this member does not take part until there is";

/// Watches the space on the disk, as long as the member runs. An error is fatal.
pub async fn watch(home: Rc<Home>) -> Fatal {
    let (mut had_space, mut compacted) = (true, home.state().member.store().finished_compact_revision());
    let mut lookout = Lookout::default();
    loop {
        sleep(LOOK_INTERVAL).await;
        let now = home.reactor.clock.now();
        let looked = lookout.look(&mut home.state_mut().member, &home.reactor.log(), now);
        let has_space = match looked {
            Ok(has_space) => has_space,
            Err(fatal) => return fatal,
        };
        if had_space != has_space {
            tell(&home, has_space);
            had_space = has_space;
        }
        if !has_space || home.state().member.has_committed() {
            // Leadership may go, or what waited for room goes on.
            home.reactor.pump.notify();
        }
        let finished = home.state().member.store().finished_compact_revision();
        if finished != compacted && has_surplus(&home) {
            match shrink(&home).await {
                Ok(()) => {}
                Err(TreeError::Full { .. }) => continue,
                Err(error) => return Fatal::Store(error.into()),
            }
        }
        // What a compaction has freed since is for the next pass.
        if !has_surplus(&home) {
            compacted = finished;
        }
    }
}

fn tell(home: &Home, has_space: bool) {
    home.reactor.metrics.disk_full.set_bool(!has_space);
    match has_space {
        true => tracing::info!("there is room on the disk again"),
        false => tracing::error!(
            data_file = %home.data.path().display(),
            leads = home.state().member.is_leader(),
            "no room on the disk for the write-ahead log or the data file: until there is, writes are refused here, and \
             leadership is left to others"
        ),
    }
}

/// Whether the file is much larger than what is in it.
fn has_surplus(home: &Home) -> bool {
    let state = home.state();
    let trees = state.member.store().trees();
    let in_use = trees.in_use_bytes();
    trees.size_bytes() - in_use > FREE_BYTES_MAX.max(in_use / FREE_PART_MAX)
}

/// Gives free space at the end of the file back.
pub async fn shrink(home: &Rc<Home>) -> Result<(), TreeError> {
    let (mut flushes, mut steps) = (0, 0);
    while flushes < SHRINK_FLUSHES && !home.is_stopping() {
        let progress = home.state_mut().member.store_mut().trees_mut().shrink_step(SHRINK_PAGES)?;
        match progress {
            ShrinkProgress::More => {
                steps += 1;
                match steps % SHRINK_STEPS {
                    0 => home.flushed().await,
                    _ => turn::pass().await,
                }
            }
            ShrinkProgress::AwaitFlush | ShrinkProgress::Pinned => {
                flushes += 1;
                home.flushed().await;
            }
            ShrinkProgress::Done => break,
        }
    }
    // What was cut off last goes back to the system now.
    home.flushed().await;
    Ok(())
}
