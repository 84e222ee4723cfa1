//! Outputs of the log: standard streams, files with rotation, the journal of systemd.
//!
//! A failing output is not worth stopping a database for: what cannot be written is lost, and the other outputs get
//! it nevertheless.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::writer::Sink;
use crate::config::{LogOutput, LogRotation};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// How long a full pipe that does not block is tried again.
const WOULD_BLOCK_PATIENCE: Duration = Duration::from_secs(5);

/// All outputs of a configuration; each gets everything.
pub(super) struct Outputs(Vec<Box<dyn Sink>>);

impl Outputs {
    /// Opens the outputs. The error says which one cannot be opened.
    pub(super) fn open(outputs: &[LogOutput], rotation: Option<LogRotation>) -> Result<Self, String> {
        let open = |output: &LogOutput| -> Result<Box<dyn Sink>, String> {
            Ok(match output {
                LogOutput::Stderr => Box::new(Stream(io::stderr())),
                LogOutput::Stdout => Box::new(Stream(io::stdout())),
                LogOutput::Journal => Box::new(
                    Journal::open(Path::new(JOURNAL_SOCKET))
                        .map_err(|error| format!("failed to find journal ({error}), use --log-outputs=stderr"))?,
                ),
                LogOutput::File(path) => Box::new(
                    LogFile::open(path, rotation)
                        .map_err(|error| format!("couldn't open sink {:?}: {error}", path.display().to_string()))?,
                ),
            })
        };
        outputs.iter().map(open).collect::<Result<_, _>>().map(Outputs)
    }
}

impl Sink for Outputs {
    fn write_lines(&mut self, lines: &[u8]) {
        self.0.iter_mut().for_each(|output| output.write_lines(lines));
    }
}

/// A standard stream. It may be shared with others who made it non-blocking, so that "would block" is no failure yet.
struct Stream<W: Write + Send>(W);

impl<W: Write + Send> Sink for Stream<W> {
    fn write_lines(&mut self, mut lines: &[u8]) {
        let pause = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        while !lines.is_empty() {
            match self.0.write(lines) {
                Ok(0) => return,
                Ok(written) => lines = &lines[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < WOULD_BLOCK_PATIENCE => {
                    std::thread::sleep(pause);
                    waited += pause;
                }
                Err(_) => return,
            }
        }
        let _ = self.0.flush();
    }
}

/// A file that is appended to and, with rotation, set aside when it has grown.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Option<LogRotation>,
}

impl LogFile {
    fn open(path: &Path, rotation: Option<LogRotation>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, bytes, rotation })
    }

    /// Renames the file to one with the time in its name and starts anew. On any failure the old file goes on.
    fn rotate(&mut self, rotation: LogRotation, now: SystemTime) -> io::Result<()> {
        let (stem, extension) = name_parts(&self.path);
        let aside = self.path.with_file_name(format!("{stem}-{}{extension}", file_timestamp(now)));
        fs::rename(&self.path, aside)?;
        let fresh = LogFile::open(&self.path, self.rotation)?;
        self.file = fresh.file;
        self.bytes = fresh.bytes;
        self.remove_old(rotation, now)
    }

    fn remove_old(&self, rotation: LogRotation, now: SystemTime) -> io::Result<()> {
        let (stem, extension) = name_parts(&self.path);
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let prefix = format!("{stem}-");
        let mut backups: Vec<PathBuf> = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let stamp = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&extension));
                stamp.is_some_and(is_file_timestamp)
            })
            .collect();
        backups.sort(); // by time, which is in the name
        backups.reverse();
        let too_many = match rotation.max_backups {
            0 => backups.len(),
            max => usize::try_from(max).unwrap_or(usize::MAX).min(backups.len()),
        };
        let max_age = Duration::from_secs(rotation.max_age_days.saturating_mul(86_400));
        let is_old = |path: &PathBuf| {
            let age = fs::metadata(path).and_then(|data| data.modified()).map(|at| now.duration_since(at));
            rotation.max_age_days > 0 && matches!(age, Ok(Ok(age)) if age > max_age)
        };
        let (kept, excess) = backups.split_at(too_many);
        for path in kept.iter().filter(|path| is_old(path)).chain(excess) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Sink for LogFile {
    fn write_lines(&mut self, lines: &[u8]) {
        if let Some(rotation) = self.rotation
            && self.bytes > 0
            && self.bytes + lines.len() as u64 > rotation.max_bytes
        {
            // A file that cannot be set aside goes on growing, which is better than a log that ends.
            let _ = self.rotate(rotation, SystemTime::now());
        }
        if self.file.write_all(lines).is_ok() {
            self.bytes += lines.len() as u64;
        }
    }
}

/// `etcd.log` as `etcd` and `.log`.
fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    (stem, extension)
}

/// `2026-01-02T15-04-05.000`, UTC.
fn file_timestamp(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_millis(now.max(UNIX_EPOCH)).to_string();
    text.trim_end_matches('Z').replace(':', "-")
}

fn is_file_timestamp(text: &str) -> bool {
    let shape = file_timestamp(UNIX_EPOCH);
    let same_kind = |(found, expected): (char, char)| {
        if expected.is_ascii_digit() { found.is_ascii_digit() } else { found == expected }
    };
    text.len() == shape.len() && text.chars().zip(shape.chars()).all(same_kind)
}

/// The journal of systemd: a datagram for every line, in the journal's own protocol.
struct Journal {
    socket: UnixDatagram,
    address: PathBuf,
    identifier: String,
}

impl Journal {
    fn open(address: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(address)?;
        let program = std::env::args().next().unwrap_or_default();
        let identifier = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Journal {
            socket,
            address: address.to_owned(),
            identifier: identifier.unwrap_or_else(|| "plinth".to_owned()),
        })
    }
}

impl Sink for Journal {
    fn write_lines(&mut self, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let text = String::from_utf8_lossy(line);
            let priority = priority(&text);
            let datagram = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={}\nMESSAGE={text}\n", self.identifier);
            if self.socket.send(datagram.as_bytes()).is_err() && self.socket.connect(&self.address).is_ok() {
                let _ = self.socket.send(datagram.as_bytes()); // the journal was restarted
            }
        }
    }
}

/// The journal's priority of a line in either format.
fn priority(line: &str) -> u8 {
    let level = match line.strip_prefix("{\"level\":\"") {
        Some(rest) => rest.split('"').next(),
        None => line.split('\t').nth(1),
    };
    match level {
        Some("debug") => 7,
        Some("warn") => 4,
        Some("error") => 3,
        Some("panic" | "dpanic" | "fatal") => 2,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: LogRotation = LogRotation { max_bytes: 100, max_age_days: 0, max_backups: 2 };

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_appended_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.log");
        for line in ["one\n", "two\n"] {
            LogFile::open(&path, None).expect("opened").write_lines(line.as_bytes());
        }
        assert_eq!(fs::read_to_string(&path).expect("read"), "one\ntwo\n");
    }

    #[test]
    fn rotation_sets_files_aside_and_keeps_so_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("etcd.log");
        fs::write(folder.path().join("etcd-notes.log"), "not ours").expect("written");
        let mut file = LogFile::open(&path, Some(ROTATION)).expect("opened");
        for number in 0..6 {
            file.write_lines(format!("{number}{}\n", "x".repeat(98)).as_bytes());
            std::thread::sleep(Duration::from_millis(2)); // names have milliseconds
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 4, "two kept, the current one, and the foreign one: {names:?}");
        assert!(names.contains(&"etcd-notes.log".to_owned()));
        assert!(fs::read_to_string(&path).expect("read").starts_with('5'), "the newest is current");
        let newest = names.iter().rfind(|name| name.starts_with("etcd-2")).expect("kept");
        assert!(fs::read_to_string(folder.path().join(newest)).expect("read").starts_with('4'));
    }

    #[test]
    fn old_backups_go_by_age() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        fs::write(folder.path().join(format!("a-{}.log", file_timestamp(UNIX_EPOCH))), "old").expect("written");
        let file = LogFile::open(&path, Some(ROTATION)).expect("opened");
        let rotation = LogRotation { max_age_days: 1, max_backups: 0, ..ROTATION };
        file.remove_old(rotation, SystemTime::now()).expect("removed");
        assert_eq!(names(folder.path()).len(), 2, "written just now");
        file.remove_old(rotation, SystemTime::now() + Duration::from_secs(2 * 86_400)).expect("removed");
        assert_eq!(names(folder.path()), ["a.log"]);
    }

    #[test]
    fn the_journal_gets_a_datagram_for_every_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = folder.path().join("socket");
        let journal = UnixDatagram::bind(&address).expect("bound");
        let mut output = Journal::open(&address).expect("connected");
        output.write_lines(b"{\"level\":\"warn\",\"msg\":\"a\"}\n2026\tfatal\tx:1\tb\n");
        let mut buffer = [0; 512];
        for (priority, end) in
            [("PRIORITY=4\n", "MESSAGE={\"level\":\"warn\",\"msg\":\"a\"}\n"), ("PRIORITY=2\n", "\tb\n")]
        {
            let length = journal.recv(&mut buffer).expect("received");
            let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
            assert!(text.starts_with(priority) && text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named() {
        let output = LogOutput::File("/nonexistent/x.log".into());
        let error = Outputs::open(&[output], None).err().expect("no such folder");
        assert!(error.contains("/nonexistent/x.log"), "{error}");
    }

    #[test]
    fn streams_survive_would_block_and_short_writes() {
        struct Reluctant(Vec<u8>, u32);
        impl Write for Reluctant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    _ => {
                        self.0.push(bytes[0]);
                        Ok(1)
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut stream = Stream(Reluctant(Vec::new(), 0));
        stream.write_lines(b"hello\n");
        assert_eq!(stream.0.0, b"hello\n");
    }
}
