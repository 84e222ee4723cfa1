//! The tools without the server: `ctl etcdctl ...`, `ctl etcdutl ...`, `ctl wal ...`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("etcdctl") => plinth_ctl::etcdctl::main(args.collect()),
        Some("etcdutl") => plinth_ctl::etcdutl::main(args.collect()),
        Some("wal") => plinth_ctl::wal::main(args.collect()),
        _ => {
            eprintln!("Usage: ctl etcdctl|etcdutl|wal ...");
            ExitCode::from(128)
        }
    }
}
