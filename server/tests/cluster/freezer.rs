//! A file system that can be frozen: everything that is written to it waits, as with a disk that does not answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See the module. It thaws and vanishes when it is dropped.
pub struct Freezer {
    folder: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let command = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}

impl Freezer {
    /// Mounts one on `folder`, which is created, from an image beside it. Nothing if this user may not, or there are no loop
    /// devices.
    pub fn mount(folder: &Path, megabytes: u64) -> Option<Freezer> {
        std::fs::create_dir_all(folder).expect("a folder");
        let image = folder.with_extension("image");
        std::fs::File::create(&image).expect("an image").set_len(megabytes << 20).expect("room for it");
        let (image, target) = (image.to_str()?, folder.to_str()?);
        let made = run("mkfs.ext4", &["-q", "-F", image]) && run("mount", &["-o", "loop", image, target]);
        let freezer = made.then(|| Freezer { folder: folder.to_owned() })?;
        // The member asks for a folder that is its own.
        let _ = std::fs::remove_dir(folder.join("lost+found"));
        freezer.freeze().then(|| freezer.thaw()).map(|_| freezer)
    }

    /// From now on writes wait; whether it can be done.
    pub fn freeze(&self) -> bool {
        run("fsfreeze", &["-f", self.folder.to_str().unwrap_or_default()])
    }

    /// What waited goes on.
    pub fn thaw(&self) {
        run("fsfreeze", &["-u", self.folder.to_str().unwrap_or_default()]);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        run("umount", &["-l", self.folder.to_str().unwrap_or_default()]);
    }
}
