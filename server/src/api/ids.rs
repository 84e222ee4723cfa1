//! Ids that the server chooses: leases, and keys of sessions without one.

use crate::home::Home;
use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// A positive id: two bytes of the member id, five of the wall clock in milliseconds, one that counts; the top bit is
/// clear. A counter that runs ahead of the clock keeps ids of one life apart.
pub fn next(home: &Home) -> i64 {
    let suffix = NEXT.with(|next| {
        if next.get() == 0 {
            let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            next.set((millis & 0xff_ffff_ffff) << 8);
        }
        next.set(next.get() + 1);
        next.get() & 0xffff_ffff_ffff
    });
    let id = (((home.profile.member_id & 0xffff) << 48) | suffix) & i64::MAX as u64;
    (id as i64).max(1)
}
