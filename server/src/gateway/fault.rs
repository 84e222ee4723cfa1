//! Calls that failed: the bodies and HTTP statuses of etcd's gateway.

use plinth_api::json::{Escapes, push_string};
use plinth_net::grpc::{Code, Status};
use plinth_net::http1::Response;
use std::borrow::Cow;

/// Nothing to call: no such path.
pub const NOT_FOUND: Status = Status { code: Code::NotFound, message: Cow::Borrowed("Not Found") };
/// Paths are for POST. The code is what etcd gives.
pub const METHOD_NOT_ALLOWED: Status =
    Status { code: Code::Unimplemented, message: Cow::Borrowed("Method Not Allowed") };

/// A body that is no request.
pub fn malformed(text: impl Into<Cow<'static, str>>) -> Status {
    Status::new(Code::InvalidArgument, text)
}

/// The HTTP status of a code.
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

/// `{"code":N,"message":"..."}`.
pub fn body(status: &Status) -> Vec<u8> {
    json(status, Escapes::Least)
}

/// The line that ends a stream: `{"error":{"code":N,"message":"..."}}`.
pub fn line(status: &Status) -> Vec<u8> {
    [b"{\"error\":".as_slice(), &json(status, Escapes::Html), b"}"].concat()
}

fn json(status: &Status, escapes: Escapes) -> Vec<u8> {
    let mut out = format!("{{\"code\":{}", status.code as u8).into_bytes();
    if !status.message.is_empty() {
        out.extend_from_slice(b",\"message\":");
        push_string(&mut out, &status.message, escapes);
    }
    out.push(b'}');
    out
}

/// The answer to a call that failed before it had another one.
pub fn response(status: &Status) -> Response {
    let response = Response::with_body(http_status(status.code), "application/json", body(status));
    if status.code == Code::Unauthenticated {
        return response.header("WWW-Authenticate", status.message.replace(['\r', '\n', '\0'], " "));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_etcds() {
        let denied = response(&Status::new(Code::Unauthenticated, "etcdserver: invalid auth token"));
        assert_eq!((denied.status, denied.get("www-authenticate")), (401, Some("etcdserver: invalid auth token")));
        assert_eq!(&denied.body[..], br#"{"code":16,"message":"etcdserver: invalid auth token"}"#);
        let odd = Status::new(Code::Cancelled, "a \"<b>\"\n");
        assert_eq!(body(&odd), br#"{"code":1,"message":"a \"<b>\"\n"}"#);
        assert_eq!(line(&odd), br#"{"error":{"code":1,"message":"a \"\u003cb\u003e\"\n"}}"#);
        let statuses = Code::ALL.map(http_status);
        let expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        assert_eq!(statuses, expected);
    }
}
