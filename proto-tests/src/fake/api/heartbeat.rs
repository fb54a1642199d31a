//! Heartbeat, key 12, versions 0–4.

use super::{Api, Call, Reply, coordinated};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

impl Api for HeartbeatRequest {
    async fn handle(self, call: &Call) -> Reply<HeartbeatResponse> {
        let now_ms = call.shared.clock.now_ms();
        let mut state = call.shared.lock();
        let instance = self.group_instance_id.as_ref().map(|instance| instance.as_str());
        let error = match coordinated(&mut state, call.broker, &self.group_id) {
            Ok(group) => group.heartbeat(&self.member_id, instance, self.generation_id, now_ms),
            Err(error) => error,
        };
        Reply::Answer(HeartbeatResponse::default().with_error_code(error))
    }

    fn refuse(&self, _: &Call, error: i16) -> HeartbeatResponse {
        HeartbeatResponse::default().with_error_code(error)
    }

    fn set_throttle(response: &mut HeartbeatResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}
