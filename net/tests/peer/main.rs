//! The transport between members on real sockets of the loopback device.
//!
//! Members of one test share a reactor, so that what happens does not depend on how threads are scheduled; peers that
//! misbehave are plain sockets on threads of their own. Waiting is for events, with a limit that only a hang reaches.

mod callbacks;
mod faults;
mod hostile;
mod impostors;
mod lanes;
mod lifecycle;
mod requests;
mod support;
