//! What a call needs before it reaches its handler. Every method names its rule, so that none is open by oversight.

use crate::caller::Caller;
use crate::home::Home;
use crate::home::identity::Unidentified;
use plinth_engine::auth::Auth;
use plinth_net::grpc::Status;
use plinth_net::rt;
use std::rc::Rc;

/// What a method needs of its caller, while users matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing; tokens are not looked at.
    Open,
    /// If there is a token, it must be somebody's; what that user may is checked when the command is applied.
    Identity,
    /// To be somebody.
    User,
    /// The role root.
    Admin,
    /// The handler sees to it: at the moment of reading, with each message of a stream, with each step of a lock.
    Own,
}

/// Whether a caller that was identified meets the rule.
fn meets(rule: Rule, home: &Home, caller: &Caller) -> Result<(), Status> {
    match rule {
        Rule::Open | Rule::Own | Rule::Identity => Ok(()),
        Rule::User => home.must_be_somebody(caller.user.as_ref()),
        Rule::Admin => home.may(caller.user.as_ref(), Auth::may_administer).map(|_| ()),
    }
}

/// Lets a call go on, with its user known, or fails it: now, or when it is known who asks.
pub fn guard(home: &Rc<Home>, rule: Rule, mut caller: Caller, then: impl FnOnce(Result<Caller, Status>) + 'static) {
    if matches!(rule, Rule::Open | Rule::Own) || !home.has_users() {
        return then(Ok(caller));
    }
    match home.identify(&caller) {
        Ok(user) => {
            caller.user = user;
            then(meets(rule, home, &caller).map(|()| caller));
        }
        Err(Unidentified::Refused(refusal)) => then(Err(refusal)),
        Err(Unidentified::After(_)) => {
            let home = home.clone();
            rt::spawn(async move {
                let identified = home.identified(&caller).await;
                then(identified.and_then(|user| {
                    caller.user = user;
                    meets(rule, &home, &caller).map(|()| caller)
                }));
            })
            .detach();
        }
    }
}
