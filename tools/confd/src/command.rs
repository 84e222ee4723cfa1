//! Commands of resources, by the shell, in a group of their own that ends with its time.

use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Bytes of output that are kept.
const OUTPUT_BYTES_MAX: u64 = 16 << 10;

/// How long the output of something that outlives its shell is waited for.
const OUTPUT_TIME: Duration = Duration::from_millis(200);

/// Runs a command to its end.
///
/// # Errors
/// In words for the user, if it fails or takes too long.
pub async fn run(command: &str, limit: Duration) -> Result<(), String> {
    plinth_companion::debug!("Running {command}");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let output = tokio::spawn(async move { tokio::join!(drain(out), drain(err)) });
    let ended = tokio::time::timeout(limit, child.wait()).await;
    if ended.is_err()
        && let Some(group) = group
    {
        // Whoever is gone already needs no signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let output = match tokio::time::timeout(OUTPUT_TIME, output).await {
        Ok(Ok((out, err))) => format!("{out}{err}"),
        _ => String::new(),
    };
    match ended {
        Err(_) => Err(format!("the command took longer than {limit:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(status)) if status.success() => {
            plinth_companion::debug!("{output:?}");
            Ok(())
        }
        Ok(Ok(status)) => {
            plinth_companion::error!("{output:?}");
            Err(status.to_string())
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn drain(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut bytes = Vec::new();
    // What cannot be read is no output.
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn commands_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = |command: &str, millis| runtime.block_on(run(command, Duration::from_millis(millis)));
        assert_eq!(run("echo x; true", 60_000), Ok(()));
        assert_eq!(run("exit 3", 60_000), Err("exit status: 3".to_owned()));
        assert_eq!(run("yes | head -c 1000000", 60_000), Ok(()), "more output than is kept");
        let start = Instant::now();
        assert!(run("sleep 100 & sleep 100", 300).is_err_and(|error| error.contains("longer than")));
        assert_eq!(run("sleep 30 & true", 60_000), Ok(()), "what it leaves running is not waited for");
        assert!(start.elapsed() < Duration::from_secs(25));
    }
}
