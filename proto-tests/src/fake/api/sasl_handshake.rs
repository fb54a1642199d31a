//! SaslHandshake, key 17, version 1. Leaves out version 0, whose tokens have no header.

use super::{Api, Call, Reply, text};
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

impl Api for SaslHandshakeRequest {
    async fn handle(self, call: &Call) -> Reply<SaslHandshakeResponse> {
        let now_ms = call.shared.clock.now_ms();
        let mut state = call.shared.lock();
        let (error, mechanisms) = call.session.handshake(&mut state, call.broker, &self.mechanism, now_ms);
        let mechanisms = mechanisms.into_iter().map(text).collect();
        Reply::Answer(SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(mechanisms))
    }

    fn refuse(&self, _: &Call, error: i16) -> SaslHandshakeResponse {
        SaslHandshakeResponse::default().with_error_code(error)
    }

    fn set_throttle(_: &mut SaslHandshakeResponse, _: i32) {}
}
