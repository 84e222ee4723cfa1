//! Calls about users, of one server: each answer in its normal form, and who asks next.

use super::client::Failure;
use super::normal::Normal;
use super::side::{Side, text};
use super::users::{self, Call};
use plinth_api::proto::etcdserverpb::*;
use prost::Message;
use std::fmt::Debug;

/// An answer with a header to be brought into its normal form.
trait Answer: Message + Debug + Default {
    fn header(&mut self) -> &mut Option<ResponseHeader>;
}

macro_rules! answers {
    ($($name:ident)*) => {
        $(impl Answer for $name {
            fn header(&mut self) -> &mut Option<ResponseHeader> {
                &mut self.header
            }
        })*
    };
}

answers! {
    AuthEnableResponse AuthDisableResponse AuthStatusResponse AuthUserAddResponse AuthUserGetResponse AuthUserListResponse
    AuthUserDeleteResponse AuthUserChangePasswordResponse AuthUserGrantRoleResponse AuthUserRevokeRoleResponse
    AuthRoleAddResponse AuthRoleGetResponse AuthRoleListResponse AuthRoleDeleteResponse AuthRoleGrantPermissionResponse
    AuthRoleRevokePermissionResponse
}

impl Side {
    /// Whose token goes with what is sent from now on, and with streams opened from now on.
    pub fn ask_as(&mut self, caller: usize) {
        self.caller = caller;
        self.server.client.show(self.tokens[caller].clone());
    }

    /// The caller says who it is. From then on it has the token, if it was believed.
    pub async fn log_in(&mut self, password: &str) -> String {
        let request = AuthenticateRequest { name: users::name(self.caller).to_owned(), password: password.to_owned() };
        let path = "/etcdserverpb.Auth/Authenticate";
        let mut result = self.server.client.unary::<AuthenticateResponse>(path, &request).await;
        if let Ok(answer) = &mut result {
            self.tokens[self.caller] = Some(std::mem::take(&mut answer.token));
            self.ask_as(self.caller);
            self.normal().header(&mut answer.header);
        }
        text(&result)
    }

    pub async fn auth(&self, call: &Call) -> String {
        match call {
            Call::Enable => self.ask::<AuthEnableResponse>("AuthEnable", &AuthEnableRequest {}).await,
            Call::Disable => self.ask::<AuthDisableResponse>("AuthDisable", &AuthDisableRequest {}).await,
            Call::Status => self.ask::<AuthStatusResponse>("AuthStatus", &AuthStatusRequest {}).await,
            Call::UserAdd(request) => self.ask::<AuthUserAddResponse>("UserAdd", request).await,
            Call::UserGet(request) => self.ask::<AuthUserGetResponse>("UserGet", request).await,
            Call::UserList => self.ask::<AuthUserListResponse>("UserList", &AuthUserListRequest {}).await,
            Call::UserDelete(request) => self.ask::<AuthUserDeleteResponse>("UserDelete", request).await,
            Call::UserChangePassword(request) => {
                self.ask::<AuthUserChangePasswordResponse>("UserChangePassword", request).await
            }
            Call::UserGrantRole(request) => self.ask::<AuthUserGrantRoleResponse>("UserGrantRole", request).await,
            Call::UserRevokeRole(request) => self.ask::<AuthUserRevokeRoleResponse>("UserRevokeRole", request).await,
            Call::RoleAdd(request) => self.ask::<AuthRoleAddResponse>("RoleAdd", request).await,
            Call::RoleGet(request) => self.ask::<AuthRoleGetResponse>("RoleGet", request).await,
            Call::RoleList => self.ask::<AuthRoleListResponse>("RoleList", &AuthRoleListRequest {}).await,
            Call::RoleDelete(request) => self.ask::<AuthRoleDeleteResponse>("RoleDelete", request).await,
            Call::RoleGrantPermission(request) => {
                self.ask::<AuthRoleGrantPermissionResponse>("RoleGrantPermission", request).await
            }
            Call::RoleRevokePermission(request) => {
                self.ask::<AuthRoleRevokePermissionResponse>("RoleRevokePermission", request).await
            }
        }
    }

    async fn ask<A: Answer>(&self, call: &str, request: &impl Message) -> String {
        let path = format!("/etcdserverpb.Auth/{call}");
        let mut result: Result<A, Failure> = self.server.client.unary_at(&path, request).await;
        if let Ok(answer) = &mut result {
            let normal: Normal<'_> = self.normal();
            normal.header(answer.header());
        }
        text(&result)
    }
}
