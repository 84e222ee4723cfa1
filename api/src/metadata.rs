//! Names of the metadata that etcd's clients send beside a request, in lower case as on the wire.

/// A token that `Authenticate` gave.
pub const TOKEN: &str = "token";
/// The same as `Bearer` in HTTP's own field, as the gateway sends it.
pub const AUTHORIZATION: &str = "authorization";
/// `true`: fail the call when the member sees no leader.
pub const HAS_LEADER: &str = "hasleader";
/// Version of the client's API.
pub const CLIENT_API_VERSION: &str = "client-api-version";
/// What the JSON gateway's caller accepts; its presence says that the call came through the gateway.
pub const GATEWAY_ACCEPT: &str = "grpcgateway-accept";
