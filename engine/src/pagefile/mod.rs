//! The page file: a copy-on-write B+tree of checksummed pages.
