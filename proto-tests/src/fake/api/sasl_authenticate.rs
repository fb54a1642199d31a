//! SaslAuthenticate, key 36, versions 0–2. From 1 on it names the lifetime of the session.

use super::{Api, Call, Reply, text};
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

impl Api for SaslAuthenticateRequest {
    async fn handle(self, call: &Call) -> Reply<SaslAuthenticateResponse> {
        let now_ms = call.shared.clock.now_ms();
        let verdict = {
            let mut state = call.shared.lock();
            call.session.authenticate(&mut state, call.broker, &self.auth_bytes, now_ms)
        };
        call.shared.ring();
        let Some(verdict) = verdict else { return Reply::Close };
        let lifetime_ms = if call.version >= 1 { verdict.lifetime_ms } else { 0 };
        let response = SaslAuthenticateResponse::default()
            .with_error_code(verdict.code)
            .with_error_message(verdict.message.map(text))
            .with_auth_bytes(verdict.bytes.into())
            .with_session_lifetime_ms(lifetime_ms);
        Reply::Answer(response)
    }

    fn refuse(&self, _: &Call, error: i16) -> SaslAuthenticateResponse {
        SaslAuthenticateResponse::default().with_error_code(error)
    }

    fn set_throttle(_: &mut SaslAuthenticateResponse, _: i32) {}
}
