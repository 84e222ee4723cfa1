//! Keep-alives of many clients over one stream: which are answered by one renewal ([`renewals`], pure), and the streams
//! on both sides ([`keeper`]).

pub mod keeper;
pub mod renewals;
