//! A file system of a given size for one member, in a mount namespace of its own, which ends with the process that
//! holds it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// See the module.
pub struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one on `folder`, which is created. Nothing if this user may not.
    pub fn mount(folder: &Path, megabytes: u32) -> Option<SmallDisk> {
        std::fs::create_dir_all(folder).expect("a folder");
        let script = r#"mount -t tmpfs -o mode=700,size="$1"m tmpfs "$2" && echo mounted && exec sleep 600"#;
        let mut holder = Command::new("unshare")
            .args(["-rm", "sh", "-c", script, "sh", &megabytes.to_string()])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        if line != "mounted\n" {
            let _ = holder.wait();
            return None;
        }
        Some(SmallDisk { holder, folder: folder.to_owned() })
    }

    /// What starts a process that sees it.
    pub fn starter(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        ["nsenter", "-t", &holder, "-m", "-U", "--preserve-credentials"].map(String::from).to_vec()
    }

    /// Fills what is left of it with a file of others, but for so many bytes.
    pub fn fill(&self, but: u64) {
        let script = r#"f=$(df -B1 --output=avail "$1" | tail -1); fallocate -l $((f - $2)) "$1/others""#;
        self.run(&["sh", "-c", script, "sh", &self.folder.display().to_string(), &but.to_string()]);
    }

    fn run(&self, words: &[&str]) {
        let starter = self.starter();
        let status = Command::new(&starter[0]).args(&starter[1..]).args(words).status();
        assert!(status.expect("nsenter is installed").success(), "{words:?}");
    }

    /// Makes it larger.
    pub fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        self.run(&["mount", "-o", &size, &self.folder.display().to_string()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
