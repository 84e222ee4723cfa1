//! The console's page: one file, hand-written, without a framework, without anything from elsewhere.
//!
//! ```text
//! page/pure/*.js   numbers, bytes, addresses, Kubernetes' wire format, differences: functions of values, tested here
//! page/shell/*.js  elements, calls to the server, the live stream, charts     build.rs
//! page/views/*.js  one view a file                                            ────────▶ [`PAGE`], [`PAGE_GZIP`], [`POLICY`]
//! page/main.js     which view is shown; keyboard; log-in
//! kubernetes/      numbers and names of fields of built-in kinds, and the script that makes the table
//! ```
//!
//! Rules of the page: the files share one scope, so a name stands for one thing; texts become text nodes, never markup;
//! numbers of 64 bits stay texts or become `BigInt`, never `Number`; every view has an address that can be sent; everything
//! works by keyboard; nothing moves by itself; nothing is destroyed without its name typed.
//!
//! Not here: serving it (`server/src/console`).

include!(concat!(env!("OUT_DIR"), "/constants.rs"));

/// The page.
pub const PAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/console.html"));

/// The page, compressed.
pub const PAGE_GZIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/console.html.gz"));

/// The part of the script that needs no browser.
pub const PURE: &str = include_str!(concat!(env!("OUT_DIR"), "/pure.js"));
