//! Who a call is from, as of now: its token, or the certificate of its connection, and what it may do.
//!
//! With users off this is the test of one flag. A simple token may name an entry that this member has not applied yet: then
//! it is waited for, for as long as a request may take, and by a bounded number of calls.

use super::Home;
use crate::answer::refusal::auth_status;
use crate::answer::status;
use crate::caller::{Caller, User};
use crate::passwords::Passwords;
use crate::tokens::{Found, Tokens};
use plinth_engine::auth::{Auth, AuthError, SignIn};
use plinth_engine::author::Author;
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether an entry is applied.
const LOOK: Duration = Duration::from_millis(2);

/// Calls that may wait for the entry that their token names.
const WAITING_MAX: usize = 4096;

/// Why it is not known who a call is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// The token is nobody's.
    Refused(Status),
    /// It may be known when this entry is applied.
    After(u64),
}

/// What identifies users.
#[derive(Debug)]
pub struct Identities {
    /// The tokens in use.
    pub tokens: RefCell<Tokens>,
    /// The common name of a client's certificate is a user's name.
    pub by_certificate: bool,
    /// Where passwords are worked on.
    pub passwords: Passwords,
    waiting: Cell<usize>,
}

impl Identities {
    /// Nobody has called yet.
    pub fn new(tokens: Tokens, by_certificate: bool, passwords: Passwords) -> Self {
        Self { tokens: RefCell::new(tokens), by_certificate, passwords, waiting: Cell::new(0) }
    }
}

/// The revision of users and roles at which a read was let through; none if nobody is asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<u64>);

impl Home {
    /// Whether users matter.
    pub fn has_users(&self) -> bool {
        self.state().member.store().auth().is_enabled()
    }

    /// The user that a call is from; none while users do not matter, or if nothing says who it is.
    ///
    /// # Errors
    /// If its token says nothing, here or yet.
    pub fn identify(&self, caller: &Caller) -> Result<Option<User>, Unidentified> {
        let state = self.state();
        let auth = state.member.store().auth();
        if !auth.is_enabled() {
            return Ok(None);
        }
        let auth_revision = auth.revision();
        if let Some(token) = &caller.token {
            let (now, applied) = (self.reactor.moment().millis().0, state.member.group().applied());
            return match self.identities.tokens.borrow_mut().find(token, now, applied) {
                Found::User(name, claimed) => Ok(Some(User { name, auth_revision: claimed.unwrap_or(auth_revision) })),
                Found::After(index) => Err(Unidentified::After(index)),
                Found::Unknown => Err(Unidentified::Refused(status::INVALID_AUTH_TOKEN)),
            };
        }
        let by_certificate = self.identities.by_certificate;
        let name = caller.peer.common_name.as_deref().filter(|_| by_certificate);
        Ok(name.map(|name| User { name: Arc::from(name), auth_revision }))
    }

    /// As [`Home::identify`], waiting for the entry that a token names.
    ///
    /// # Errors
    /// If the token is nobody's, or its entry is not applied in time.
    pub async fn identified(&self, caller: &Caller) -> Result<Option<User>, Status> {
        let index = match self.identify(caller) {
            Ok(user) => return Ok(user),
            Err(Unidentified::Refused(refusal)) => return Err(refusal),
            Err(Unidentified::After(index)) => index,
        };
        let waiting = &self.identities.waiting;
        if waiting.get() >= WAITING_MAX {
            return Err(status::TOO_MANY_REQUESTS);
        }
        waiting.set(waiting.get() + 1);
        let deadline = Instant::now() + self.profile.request_timeout;
        while self.state().member.group().applied() < index && Instant::now() < deadline && !self.is_stopping() {
            sleep(LOOK).await;
        }
        waiting.set(waiting.get() - 1);
        self.identify(caller).map_err(|unknown| match unknown {
            Unidentified::Refused(refusal) => refusal,
            Unidentified::After(_) => status::INVALID_AUTH_TOKEN,
        })
    }

    /// Whether this user may, as of now, by a check of users and roles.
    ///
    /// # Errors
    /// If not.
    pub fn may(
        &self,
        user: Option<&User>,
        check: impl FnOnce(&Auth, Author<'_>) -> Result<(), AuthError>,
    ) -> Result<Stamp, Status> {
        let state = self.state();
        let auth = state.member.store().auth();
        if !auth.is_enabled() {
            return Ok(Stamp(None));
        }
        let author = user.map_or(Author::NOBODY, User::author);
        check(auth, author).map_err(auth_status)?;
        Ok(Stamp(Some(author.auth_revision).filter(|revision| *revision != 0)))
    }

    /// Whether somebody says who they are, if users matter.
    ///
    /// # Errors
    /// If not.
    pub fn must_be_somebody(&self, user: Option<&User>) -> Result<(), Status> {
        if user.is_none() && self.has_users() { Err(auth_status(AuthError::UserEmpty)) } else { Ok(()) }
    }

    /// Users and roles as of now.
    pub fn stamp(&self) -> Stamp {
        let state = self.state();
        let auth = state.member.store().auth();
        Stamp(auth.is_enabled().then(|| auth.revision()))
    }

    /// Whether users and roles have not changed since a read was let through: what it read may be shown.
    ///
    /// # Errors
    /// If they have.
    pub fn is_current(&self, stamp: Stamp) -> Result<(), Status> {
        match stamp.0 {
            Some(revision) if revision != self.state().member.store().auth().revision() => {
                Err(auth_status(AuthError::AuthOldRevision))
            }
            _ => Ok(()),
        }
    }

    /// Commands in which users signed in, or may not any more, were applied.
    pub(crate) fn note_sign_ins(&self, sign_ins: &mut Vec<SignIn>) {
        if sign_ins.is_empty() {
            return;
        }
        let now = self.reactor.moment().millis().0;
        let mut tokens = self.identities.tokens.borrow_mut();
        let Some(tokens) = tokens.simple() else { return sign_ins.clear() };
        for sign_in in sign_ins.drain(..) {
            match sign_in {
                SignIn::Begun { user, prefix, index } => tokens.begin(&user, &prefix, index, now),
                SignIn::Ended { user } => tokens.end(&user),
                SignIn::AllEnded => tokens.end_all(),
            }
        }
    }

    /// Drops tokens whose time is over.
    pub(crate) fn sweep_tokens(&self) {
        if let Some(tokens) = self.identities.tokens.borrow_mut().simple() {
            tokens.sweep(self.reactor.clock.now().0);
        }
    }

    /// A snapshot took the place of the data: who signed in meanwhile is not in it.
    pub(crate) fn forget_tokens(&self) {
        if let Some(tokens) = self.identities.tokens.borrow_mut().simple() {
            tokens.end_all();
        }
    }
}
