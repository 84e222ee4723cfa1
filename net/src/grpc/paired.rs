//! A stream whose requests are answered one for one, some of them later (keep-alives that travel to the leader).
//!
//! Invariant: the stream ends with OK only when [`Due`] says that it is over.

use std::rc::Rc;

use super::service::StreamReply;
use super::status::Status;
use crate::due::Due;

/// The sending half of such a stream.
pub struct PairedReply {
    reply: StreamReply,
    due: Due,
}

impl PairedReply {
    /// The stream that `reply` goes to; nothing was asked yet.
    pub fn new(reply: StreamReply) -> Rc<PairedReply> {
        Rc::new(PairedReply { reply, due: Due::default() })
    }

    /// A request has come; the answer to it.
    pub fn request(self: &Rc<Self>) -> PairedAnswer {
        self.due.add();
        PairedAnswer { stream: Rc::clone(self), answered: false }
    }

    /// No more requests will come.
    pub fn half_close(&self) {
        if self.due.half_close() {
            self.reply.finish(Status::OK);
        }
    }

    /// Ends the stream, whatever is due.
    pub fn fail(&self, status: Status) {
        self.reply.finish(status);
    }
}

/// The answer to one request, to be given once. Dropped without, it fails the stream as a stopped server does.
#[must_use = "a request must be answered"]
pub struct PairedAnswer {
    stream: Rc<PairedReply>,
    answered: bool,
}

impl PairedAnswer {
    /// Answers with one message. `encode` must only append.
    pub fn send(mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.answered = true;
        self.stream.reply.send(encode);
        if self.stream.due.answered() {
            self.stream.reply.finish(Status::OK);
        }
    }

    /// Ends the stream instead.
    pub fn fail(mut self, status: Status) {
        self.answered = true;
        self.stream.reply.finish(status);
    }
}

impl Drop for PairedAnswer {
    fn drop(&mut self) {
        if !self.answered {
            self.stream.reply.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::service::{CallKey, ReplySink};
    use super::super::status::Code;
    use super::*;

    /// What a client sees: messages, then at most one status.
    #[derive(Default)]
    struct Seen {
        messages: RefCell<Vec<Bytes>>,
        status: RefCell<Option<Status>>,
    }

    impl ReplySink for Seen {
        fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
            let mut body = Vec::new();
            encode(&mut body);
            self.send_bytes(call, body.into(), finish);
        }

        fn send_bytes(&self, _call: CallKey, body: Bytes, _finish: bool) {
            if self.status.borrow().is_none() {
                self.messages.borrow_mut().push(body);
            }
        }

        fn finish(&self, _call: CallKey, status: Status) {
            self.status.borrow_mut().get_or_insert(status);
        }

        fn abandon(&self, call: CallKey) {
            self.finish(call, Status::new(Code::Unavailable, "abandoned"));
        }

        fn queued_bytes(&self, _call: CallKey) -> usize {
            0
        }

        fn is_closed(&self, _call: CallKey) -> bool {
            self.status.borrow().is_some()
        }

        fn on_cancel(&self, _call: CallKey, _action: Box<dyn FnOnce()>) {}

        fn park(&self, _call: CallKey) {}
    }

    fn stream() -> (Rc<Seen>, Rc<PairedReply>) {
        let seen = Rc::new(Seen::default());
        let reply = StreamReply::new(seen.clone(), CallKey { slot: 0, generation: 0 });
        (seen, PairedReply::new(reply))
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Request,
        Answer,
        HalfClose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![Just(Step::Request), Just(Step::Answer), Just(Step::HalfClose)]
    }

    proptest! {
        /// Whatever the order of requests, answers and the end: all are answered, and only then comes OK.
        #[test]
        fn the_end_comes_behind_every_answer(steps in prop::collection::vec(step(), 0..40)) {
            let (seen, stream) = stream();
            let (mut asked, mut half_closed, mut waiting) = (0_u8, false, VecDeque::new());
            let answer = |(number, answer): (u8, PairedAnswer)| answer.send(|out| out.push(number));
            for step in steps {
                match step {
                    Step::Request if !half_closed => {
                        waiting.push_back((asked, stream.request()));
                        asked += 1;
                    }
                    Step::Answer => waiting.pop_front().into_iter().for_each(answer),
                    Step::HalfClose if !half_closed => {
                        half_closed = true;
                        stream.half_close();
                    }
                    Step::Request | Step::HalfClose => {}
                }
                let over = half_closed && waiting.is_empty();
                prop_assert_eq!(seen.status.borrow().clone(), over.then_some(Status::OK));
            }
            waiting.into_iter().for_each(answer);
            let messages: Vec<u8> = seen.messages.borrow().iter().map(|message| message[0]).collect();
            prop_assert_eq!(messages, (0..asked).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn an_answer_that_is_lost_fails_the_stream() {
        let (seen, stream) = stream();
        let answer = stream.request();
        stream.half_close();
        drop(answer);
        let status = seen.status.borrow().clone().expect("it has ended");
        assert_eq!((status.code, status.message.as_ref()), (Code::Unavailable, "abandoned"));
    }

    #[test]
    fn a_refusal_is_not_followed_by_ok() {
        let (seen, stream) = stream();
        let (first, second) = (stream.request(), stream.request());
        first.fail(Status::new(Code::NotFound, "gone"));
        stream.half_close();
        second.send(|out| out.push(1));
        assert_eq!(seen.status.borrow().as_ref().map(|status| status.code), Some(Code::NotFound));
        assert!(seen.messages.borrow().is_empty());
    }
}
