//! The only unsafe code of the page file: a file and its memory map.

mod file;

pub use file::{FileReader, FileStore, FileWriter};
